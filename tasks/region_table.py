"""The table of a batch's defect regions, ``regions.parquet``."""

from collections.abc import Iterable

import pyarrow as pa
from pyarrow import parquet

from tasks.batch import REGIONS
from tasks.records import ImageRecord
from tasks.storage import Storage


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
