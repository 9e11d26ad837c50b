from pyarrow import parquet

from tasks.region_table import write_region_table
from tasks.storage import Storage
from tests.tasks.test_batch_results import RECORDS


def test_every_region_has_its_row(tmp_path):
    write_region_table(Storage(str(tmp_path)), RECORDS.values())
    table = parquet.read_table(tmp_path / "regions.parquet").to_pylist()
    assert [(row["key"], row["top"], row["peak"]) for row in table] == [("0.png", 0, 11.0), ("0.png", 1, 12.0)]


def test_a_batch_without_regions_has_an_empty_table_with_its_columns(tmp_path):
    write_region_table(Storage(str(tmp_path)), [])
    table = parquet.read_table(tmp_path / "regions.parquet")
    assert len(table) == 0
    assert "centroid_y" in table.column_names
