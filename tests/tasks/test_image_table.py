import csv
from dataclasses import replace

import pandas as pd
import pytest

from tasks.image_table import write_image_table
from tasks.storage import Storage
from tests.tasks.test_batch_results import RECORDS


def test_every_image_has_its_row_and_what_is_not_known_is_empty(tmp_path):
    warned = replace(RECORDS[1], key='ä,\n"b".png', warnings=("constant", "clipped"))
    write_image_table(Storage(str(tmp_path)), [RECORDS[0], warned, RECORDS[2]])
    with (tmp_path / "images.csv").open(encoding="utf-8", newline="") as table:
        assert list(csv.reader(table)) == [
            ["key", "score", "defective", "regions", "warnings", "error"],
            ["0.png", "4", "true", "2", "", ""],
            ['ä,\n"b".png', "0", "false", "0", "constant; clipped", ""],
            ["2.png", "", "", "", "", "broken"],
        ]


@pytest.mark.parametrize("key", ["a\rb.png", "a\nb.png", "a\r\nb.png", 'a"b.png', "a,b.png", "=1+1.png", " a.png"])
def test_a_name_is_one_cell_whatever_is_in_it(tmp_path, key):
    write_image_table(Storage(str(tmp_path)), [replace(RECORDS[0], key=key)])
    assert list(pd.read_csv(tmp_path / "images.csv").key) == [key]


def test_verdicts_are_read_back_as_such(tmp_path):
    write_image_table(Storage(str(tmp_path)), [RECORDS[0], RECORDS[1]])
    table = pd.read_csv(tmp_path / "images.csv", index_col="key")
    assert table.defective.dtype == bool
    assert table.score.to_dict() == {"0.png": 4.0, "1.png": 0.0}


def test_a_batch_without_images_has_the_names_of_the_columns(tmp_path):
    write_image_table(Storage(str(tmp_path)), [])
    assert (tmp_path / "images.csv").read_text() == "key,score,defective,regions,warnings,error\n"


def test_a_score_is_written_with_six_digits(tmp_path):
    write_image_table(Storage(str(tmp_path)), [replace(RECORDS[0], score=14.1593)])
    assert "14.1593" in (tmp_path / "images.csv").read_text()
