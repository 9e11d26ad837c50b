"""From the records of a batch to its figures."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tasks.batch import REGIONS, Manifest
from tasks.records import ImageRecord, present_records
from tasks.storage import Storage

SCORE_QUANTILES = (0.10, 0.25, 0.50, 0.75, 0.90, 0.99)
"""Probabilities; the trends have the same, so that a batch's summary can be laid beside them."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A batch in figures.

    Attributes
    ----------
    images, inspected, failed, defective
        Counts.
    defect_rate
        Defective over inspected; NaN if none was inspected.
    warned
        Number of inspected images with a warning, as of one that is constant or not one texture.
    masked
        Number of images with a mask beside them; the others are inspected whole.
    regions
        Number of defect regions.
    score_quantiles
        Of the inspected images, by probability.
    fit_seconds
        Sum of the localizations' CPU seconds.
    """

    images: int
    inspected: int
    failed: int
    defective: int
    defect_rate: float
    warned: int
    masked: int
    regions: int
    score_quantiles: Mapping[str, float]
    fit_seconds: float


def summarise(manifest: Manifest, records: Mapping[int, ImageRecord]) -> Summary:
    """Sum up the images that the last listing had."""
    present = present_records(manifest, records)
    inspected = [record for record in present if record.inspected]
    defective = sum(record.defective for record in inspected)
    scores = np.array([record.score for record in inspected])
    return Summary(
        images=len(present),
        inspected=len(inspected),
        failed=len(present) - len(inspected),
        defective=defective,
        defect_rate=defective / len(inspected) if inspected else float("nan"),
        warned=sum(bool(record.warnings) for record in inspected),
        masked=sum(bool(entry.mask) for entry in manifest.present),
        regions=sum(len(record.regions) for record in inspected),
        score_quantiles={f"{q:g}": float(np.quantile(scores, q)) for q in SCORE_QUANTILES} if inspected else {},
        fit_seconds=sum(record.seconds for record in inspected),
    )


def write_region_table(folder: Storage, records: Iterable[ImageRecord]) -> None:
    """Write all defect regions of a batch as one Parquet table, a row each."""
    rows = [
        {
            "image": record.index,
            "key": record.key,
            "top": region.top,
            "left": region.left,
            "bottom": region.bottom,
            "right": region.right,
            "area": region.area,
            "peak": region.peak,
            "centroid_y": region.centroid[0],
            "centroid_x": region.centroid[1],
        }
        for record in sorted(records, key=lambda record: record.index)
        for region in record.regions
    ]
    buffer = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(rows, schema=_REGION_SCHEMA), buffer)
    folder.write(REGIONS, buffer.getvalue().to_pybytes())


_REGION_SCHEMA = pa.schema(
    [
        ("image", pa.int32()),
        ("key", pa.string()),
        *((name, pa.int32()) for name in ("top", "left", "bottom", "right")),
        ("area", pa.int64()),
        ("peak", pa.float32()),
        ("centroid_y", pa.float32()),
        ("centroid_x", pa.float32()),
    ]
)
