"""Inputs that have no truth to measure with are refused with what an evaluation takes; in this process."""

from types import SimpleNamespace

import pytest
from PIL import Image

from flows import batch_run, evaluation
from flows.evaluation import evaluate
from tasks.discovery import NothingToInspectError


class NoCluster:
    """A cluster that is not to be started: nothing is left to do for it."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return SimpleNamespace()

    def __exit__(self, *_):
        pass


@pytest.mark.parametrize(("name", "said"), [("*.png", "a pattern"), ("a.png", "a file"), ("a[1].png", "a file")])
def test_a_pattern_is_no_input_of_an_evaluation_nor_is_a_file(tmp_path, monkeypatch, name, said):
    monkeypatch.setattr(evaluation, "Cluster", None)
    for file in ("a.png", "a[1].png"):
        (tmp_path / file).write_text("")
    with pytest.raises(NothingToInspectError, match=rf"png is {said}: evaluate takes the folder of a category"):
        evaluate.fn(f"{tmp_path}/{name}", str(tmp_path / "results"))


def test_a_folder_that_is_not_laid_out_as_a_category_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "Cluster", NoCluster)
    monkeypatch.setattr(batch_run, "discover_images", batch_run.discover_images.fn)
    Image.new("L", (64, 64)).save(tmp_path / "loose.png")
    with pytest.raises(NothingToInspectError, match=r"no test/DEFECT/IMAGE in .*give a category's folder"):
        evaluate.fn(str(tmp_path), str(tmp_path / "results"))
    assert not (tmp_path / "results").exists()
