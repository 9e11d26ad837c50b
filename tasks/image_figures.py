"""The figures of each image in a batch's Zarr store: one small array each, beside the maps.

The flow alone writes them, whole.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.errors import UnstableSpecificationWarning, ZarrUserWarning

from tasks.batch import MAPS
from tasks.batch_results import BatchResults
from tasks.maps import open_maps
from tasks.records import ImageRecord
from tasks.storage import Storage
from tasks.zarr_store import MAPS_METADATA, METADATA, open_store, writing

STATUSES = ("pending", "inspected", "failed", "absent")

IMAGE = "image"
AXES = ("y", "x")


@dataclass(frozen=True)
class Figure:
    """One per-image array of the store: its dtype, and what it holds."""

    dtype: str
    long_name: str
    attributes: Mapping[str, Any]


FIGURES: dict[str, Figure] = {
    "score": Figure("float32", "-log10 of the expected number of false alarms at the highest peak", {}),
    "defective": Figure("bool", "verdict", {}),
    "status": Figure(
        "int8",
        "what became of the image",
        {"flag_values": list(range(len(STATUSES))), "flag_meanings": " ".join(STATUSES)},
    ),
    "area": Figure("int64", "defective area", {"units": "pixels of the original image"}),
    "regions": Figure("int32", "number of defect regions", {}),
    "seconds": Figure("float32", "CPU time of the localization", {"units": "s"}),
    "height": Figure("int32", "height of the original image", {"units": "pixels"}),
    "width": Figure("int32", "width of the original image", {"units": "pixels"}),
    "working_height": Figure("int32", "height of the anomaly map", {"units": "pixels"}),
    "working_width": Figure("int32", "width of the anomaly map", {"units": "pixels"}),
    "scale": Figure("float32", "working size over original size", {}),
    "error": Figure("str", "why the image could not be inspected", {}),
    "warning": Figure("str", "warnings about the result", {}),
}


def write_figures(folder: Storage, results: BatchResults) -> None:
    """Write the coordinates and the per-image figures, each as one chunk; a StorageError if that cannot be."""
    manifest = results.manifest
    with writing(folder, "the figures"):
        group = open_store(folder, "r+")
        _, height, width = open_maps(folder, "r").shape
        with warnings.catch_warnings():
            # Strings and consolidated metadata have no place in the Zarr specification yet; zarr and xarray read both.
            warnings.simplefilter("ignore", UnstableSpecificationWarning)
            warnings.filterwarnings("ignore", message="Consolidated metadata", category=ZarrUserWarning)
            # Of stray files in the store, as a Mac's .DS_Store.
            warnings.filterwarnings("ignore", message="Object at .* is not recognized", category=ZarrUserWarning)
            keys = np.array([entry.key for entry in manifest.entries], dtype=np.dtypes.StringDType())
            _write(group, IMAGE, values=keys, attributes={"long_name": "object key below the input"})
            for axis, length in zip(AXES, (height, width), strict=True):
                attributes = {"long_name": f"working pixel along {axis}", "units": "pixels"}
                _write(group, axis, values=np.arange(length, dtype=np.int32), dimensions=(axis,), attributes=attributes)
            rows = [_figures(results.records.get(entry.index), present=entry.present) for entry in manifest.entries]
            for name, figure in FIGURES.items():
                dtype: Any = np.dtypes.StringDType() if figure.dtype == "str" else np.dtype(figure.dtype)
                values = np.array([row[name] for row in rows], dtype=dtype)
                _write(group, name, values=values, attributes={"long_name": figure.long_name, **figure.attributes})
            group.attrs.update(
                {
                    "Conventions": "CF-1.11",
                    "title": f"SSDnet inspection of {manifest.batch}",
                    "source": manifest.input,
                    "fingerprint": manifest.fingerprint,
                    "configuration": manifest.config.model_dump_json(),
                }
            )
            zarr.consolidate_metadata(group.store)


def has_figures(folder: Storage) -> bool:
    """Whether all that :func:`write_figures` writes is there: somebody may have deleted some, or copied only a part.

    Raises
    ------
    StorageError
        If the store does not answer, or will not tell.
    """
    arrays = [f"{MAPS}/{name}/{key}" for name in (IMAGE, *AXES, *FIGURES) for key in (METADATA, "c/0")]
    return folder.holds_all([MAPS_METADATA, *arrays])


def read_figures(folder: Storage) -> dict[str, npt.NDArray[Any]]:
    """Read the per-image figures of a batch: arrays (image,) by their names in `FIGURES`."""
    group = open_store(folder, "r")
    return {name: np.asarray(group[name]) for name, figure in FIGURES.items() if figure.dtype != "str"}


def _figures(record: ImageRecord | None, *, present: bool) -> dict[str, Any]:
    if record is None or not present:
        status = STATUSES.index("absent" if not present else "pending")
        return {name: _EMPTY.get(figure.dtype, 0) for name, figure in FIGURES.items()} | {"status": status}
    row = {name: getattr(record, name) for name in FIGURES if name not in _DERIVED}
    if record.failed:
        row["score"] = np.nan
    return row | {
        "status": STATUSES.index(record.status),
        "regions": len(record.regions),
        "scale": record.working_height / record.height if record.height else np.nan,
        "warning": "; ".join(record.warnings),
    }


_DERIVED = ("status", "regions", "scale", "warning")
_EMPTY: dict[str, Any] = {"float32": np.nan, "str": "", "bool": False}


def _write(
    group: zarr.Group,
    name: str,
    *,
    values: npt.NDArray[Any],
    attributes: Mapping[str, Any],
    dimensions: Sequence[str] = (IMAGE,),
) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=values.shape,
        dtype=values.dtype,
        dimension_names=dimensions,
        attributes=dict(attributes),
        # Or a chunk of nothing but zeros would look like one that was lost.
        config={"write_empty_chunks": True},
        overwrite=True,
    )
    array[...] = values
