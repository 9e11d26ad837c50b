"""Inputs that have no truth to measure with are refused with what an evaluation takes; in this process."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image

from flows import batch_run, evaluation
from flows.evaluation import evaluate, measure
from ssdnet_core.config import Config
from tasks.category_metrics import Measurements
from tasks.discovery import NothingToInspectError
from tasks.storage import Storage


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


def test_what_is_measured_are_the_images_that_are_there_each_with_its_mask(outcome, monkeypatch, tmp_path):
    manifest, asked = outcome.results.manifest, []
    entries = tuple(replace(entry, mask=f"m/{entry.key}") for entry in manifest.entries)
    results = replace(outcome.results, manifest=replace(manifest, entries=entries))
    monkeypatch.setattr(evaluation, "measure_batch", lambda _, images, **__: asked.extend(images) or Measurements())
    monkeypatch.setattr(evaluation, "tell_of_metrics", lambda *_: None)
    measure.fn(
        SimpleNamespace(start=lambda **_: SimpleNamespace(result=lambda: None)),
        replace(outcome, folder=Storage(str(tmp_path)), results=results),
        source=Storage("/in"),
        truth=SimpleNamespace(objects=list),
    )
    assert [(image.record.key, image.mask) for image in asked] == [(k, f"m/{k}") for k in ("good.png", "unread.png")]


def test_an_evaluation_inspects_as_it_was_told_to(outcome, monkeypatch, tmp_path):
    given = {}

    class Cluster(NoCluster):
        def __init__(self, *_, **named):
            given.update(named)

    monkeypatch.setattr(evaluation, "Cluster", Cluster)
    monkeypatch.setattr(evaluation, "run_batch", lambda *_, **named: given.update(named) or outcome)
    monkeypatch.setattr(evaluation, "measure", lambda *_, **__: None)
    config = Config.preset("fast")
    evaluation.evaluate.fn(str(tmp_path), "/results", config=config, retry_failed=True, group=3, workers=2)
    assert (given["config"], given["retry_failed"], given["group"], given["workers"]) == (config, True, 3, 2)
