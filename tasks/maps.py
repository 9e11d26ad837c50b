"""The batch's Zarr store: one array of all anomaly maps, and the figures of each image beside it.

``anomaly_map (image, y, x)`` is float16 with one chunk an image. The worker that fitted an image writes that image's
chunk; the flow writes the small arrays, whole. No chunk ever has two writers: same-chunk writers lose data silently.
"""

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec
from zarr.errors import UnstableSpecificationWarning, ZarrUserWarning

from ssdnet_core.errors import SsdnetError
from ssdnet_core.working_size import MIN_SIDE
from tasks.batch import MAPS, DamagedBatchError, Manifest
from tasks.records import ImageRecord, record_key
from tasks.storage import FAILURES, MissingObjectError, Storage, StorageError
from tasks.storage_answers import reason_of

ANOMALY_MAP = "anomaly_map"
METADATA = "zarr.json"
MAPS_METADATA = f"{MAPS}/{METADATA}"
LEAST_CHUNK = 256
"""Side of a chunk at least, in working pixels, unless the working size is smaller."""

COMPRESSOR = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
STATUSES = ("pending", "inspected", "failed", "absent")
MAP_ATTRIBUTES: dict[str, Any] = {
    "long_name": "anomaly map at working size",
    "units": "robust standard deviations of the image itself",
    "description": "NaN beyond an image's working_height and working_width, and where there is no map. Pixels that do "
    "not count (masked, in a frame or blank ground) have what lies around them: mask them before statistics.",
}


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
    "warning": Figure("str", "what its result may not mean", {}),
}


DAMAGE = (ValueError, TypeError, AttributeError, LookupError)
"""What zarr raises at metadata that are no JSON, or none of its own."""


class LostMapError(SsdnetError):
    """A batch lacks the map of an image that it has a record of."""


def prepare_maps(folder: Storage, manifest: Manifest) -> None:
    """Create the store's map array, or enlarge it to the manifest's images; maps already written stay.

    The canvas is as large as the largest map, a chunk likewise, but not for ever as small as a first tiny image. A
    canvas that grew once there are maps keeps its chunks: a larger image then has several, and each chunk still
    belongs to one image.

    Raises
    ------
    DamagedBatchError
        If the metadata of the store or of its map array cannot be understood.
    StorageError
        If the store cannot be written.
    """
    canvas = _canvas(manifest)
    shape = (len(manifest.entries), *canvas)
    chunks = (1, *(max(side, _least_side(manifest)) for side in canvas))
    with _writing(folder, "the array of maps"):
        group = _open(folder, "a")
        try:
            array = _open_maps(folder, "r+")
        except FileNotFoundError:
            array = None
        if array is None or _outgrown(array, chunks):
            group.create_array(
                ANOMALY_MAP,
                shape=shape,
                chunks=chunks,
                dtype="float16",
                fill_value=np.nan,
                compressors=COMPRESSOR,
                dimension_names=("image", "y", "x"),
                attributes=MAP_ATTRIBUTES,
                overwrite=True,
            )
            return
        enlarged = tuple(max(old, new) for old, new in zip(array.shape, shape, strict=True))
        if enlarged != array.shape:
            array.resize(enlarged)


def write_map(folder: Storage, index: int, *, anomaly_map: npt.NDArray[np.float32]) -> str:
    """Write one image's map, (h, w), into its own chunk and return the SHA-256 of the stored bytes.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    stored = np.clip(anomaly_map, 0, np.finfo(np.float16).max).astype(np.float16)
    with _writing(folder, f"the map of image {index}"):
        array = _open_maps(folder, "r+")
        canvas = np.full(array.shape[1:], np.nan, dtype=np.float16)
        canvas[: stored.shape[0], : stored.shape[1]] = stored
        array[index] = canvas
    return hashlib.sha256(stored.tobytes()).hexdigest()


def read_map(folder: Storage, record: ImageRecord, *, original_size: bool = False) -> npt.NDArray[np.float32]:
    """Read one image's map: (h, w) float32 at working size, or (H, W) at the image's own size.

    Raises
    ------
    LostMapError
        If it is not there, or cannot be understood.
    DamagedBatchError
        If the metadata of all maps cannot be understood.
    """
    try:
        array = _open_maps(folder, "r")
        working = np.asarray(array[record.index, : record.working_height, : record.working_width], dtype=np.float32)
    except (RuntimeError, ValueError, FileNotFoundError) as error:
        raise LostMapError(_lost(folder, record, reason=f"cannot be read: {error}")) from error
    if np.isnan(working).any():
        raise LostMapError(_lost(folder, record, reason="is gone"))
    if not original_size:
        return working
    from ssdnet_core.localization import enlarge_map

    return enlarge_map(working, (record.height, record.width))


def _lost(folder: Storage, record: ImageRecord, *, reason: str) -> str:
    return (
        f"the map of {record.key} in {folder.address}/{MAPS} {reason}. Delete "
        f"{folder.address}/{record_key(record.index)} and run the batch's `ssdnet inspect` again, which inspects that "
        "image once more"
    )


def written_maps(folder: Storage) -> set[int]:
    """Return the indices of the images whose map is there: a chunk that a power cut emptied is none.

    None is there without the array's metadata, with which :func:`prepare_maps` begins anew.
    """
    try:
        listed = folder.below(f"{MAPS}/{ANOMALY_MAP}").list()
    except MissingObjectError:
        return set()
    chunks = {int(stored.key.split("/")[1]) for stored in listed if stored.key.startswith("c/") and stored.size}
    return chunks if any(stored.key == METADATA for stored in listed) else set()


def write_figures(folder: Storage, manifest: Manifest, *, records: Mapping[int, ImageRecord]) -> None:
    """Write the coordinates and the per-image figures, each as one chunk; a StorageError if that cannot be."""
    with _writing(folder, "the figures"):
        group = _open(folder, "r+")
        _, height, width = _open_maps(folder, "r").shape
        with warnings.catch_warnings():
            # Strings and consolidated metadata have no place in the Zarr specification yet; zarr and xarray read both.
            warnings.simplefilter("ignore", UnstableSpecificationWarning)
            warnings.filterwarnings("ignore", message="Consolidated metadata", category=ZarrUserWarning)
            keys = np.array([entry.key for entry in manifest.entries], dtype=np.dtypes.StringDType())
            _write(group, "image", values=keys, attributes={"long_name": "object key below the input"})
            for axis, length in (("y", height), ("x", width)):
                attributes = {"long_name": f"working pixel along {axis}", "units": "pixels"}
                _write(group, axis, values=np.arange(length, dtype=np.int32), dimensions=(axis,), attributes=attributes)
            rows = [_figures(records.get(entry.index), present=entry.present) for entry in manifest.entries]
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


def read_figures(folder: Storage) -> dict[str, npt.NDArray[Any]]:
    """Read the per-image figures of a batch: arrays (image,) by their names in `FIGURES`."""
    group = _open(folder, "r")
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
    dimensions: Sequence[str] = ("image",),
) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=values.shape,
        dtype=values.dtype,
        dimension_names=dimensions,
        attributes=dict(attributes),
        overwrite=True,
    )
    array[...] = values


def _canvas(manifest: Manifest) -> tuple[int, int]:
    size, least = manifest.config.working_size, _least_side(manifest)
    # One that is refused for its size has no map: a line of pixels would make the canvas of all others huge.
    mapped = [entry for entry in manifest.entries if not entry.problem and min(entry.height, entry.width) >= MIN_SIDE]
    shapes = [entry.working_shape(size) for entry in mapped] or [(least, least)]
    return max(height for height, _ in shapes), max(width for _, width in shapes)


def _least_side(manifest: Manifest) -> int:
    return min(manifest.config.working_size, LEAST_CHUNK)


def _outgrown(array: "zarr.Array[Any]", chunks: tuple[int, ...]) -> bool:
    """Whether larger chunks are wanted and no map is lost by them."""
    larger = any(new > old for new, old in zip(chunks, array.chunks, strict=True))
    return larger and array.nchunks_initialized == 0


def _open_maps(folder: Storage, mode: Literal["r", "r+"]) -> "zarr.Array[Any]":
    # Of itself, by its format: one object to read, where the way through the group is four.
    maps = folder.below(f"{MAPS}/{ANOMALY_MAP}")
    with _understood(maps, advice=f"delete {folder.address}/{MAPS}, and inspect again: its images are inspected anew"):
        return zarr.open_array(maps.address, mode=mode, zarr_format=3, storage_options=maps.options or None)


def _open(folder: Storage, mode: Literal["r", "r+", "a"]) -> zarr.Group:
    # Never by the consolidated metadata: those of an earlier seal hide the images that came later.
    store = folder.below(MAPS)
    with _understood(store, advice="delete that object, and inspect again: it is written anew"):
        return zarr.open_group(store.address, mode=mode, use_consolidated=False, storage_options=store.options or None)


@contextmanager
def _writing(folder: Storage, what: str) -> Iterator[None]:
    try:
        yield
    except FAILURES as error:
        raise StorageError(f"cannot write {what} to {folder.address}/{MAPS}: {reason_of(error)}") from error


@contextmanager
def _understood(store: Storage, *, advice: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        raise DamagedBatchError(f"{store.address}/{METADATA} is damaged: {error!r}: {advice}") from error
