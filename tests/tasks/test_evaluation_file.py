"""Metrics that are there already stand as long as results, images and truth are the same."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ssdnet_core.config import Config
from tasks import evaluation_file
from tasks.category_metrics import Evaluation, gathered, summarise_metrics
from tasks.evaluation_file import EVALUATION, METRICS_VERSION, evaluation_basis, read_evaluation, write_evaluation
from tasks.image_metrics import UnmeasuredImage
from tasks.manifest import ImageEntry
from tasks.seal import Seal
from tasks.storage import Storage, StoredObject
from tests.tasks.test_category_metrics import night
from tests.tasks.test_image_metrics import measured, scene, with_map

SEAL = Seal(batch="n", fingerprint="f", images=1, inspected=1, failed=0, defective=0, digest="d")
ENTRY = ImageEntry(index=0, key="test/hole/a.png", etag="e", size=1)
MASK = StoredObject("ground_truth/hole/a_mask.png", size=1, etag="m")
BASIS = evaluation_basis(SEAL, [ENTRY], truth=[MASK])


def written(tmp_path, *missed: UnmeasuredImage) -> tuple[Storage, Evaluation]:
    evaluation = summarise_metrics(gathered([*night(), *missed]))
    folder = Storage(str(tmp_path))
    write_evaluation(folder, SEAL, evaluation=evaluation, basis=BASIS)
    return folder, evaluation


def test_metrics_are_read_back_as_they_were_undefined_ones_too(tmp_path):
    folder, evaluation = written(tmp_path, UnmeasuredImage(key="b/x", category="b", reason="no mask"))
    # NaN is unequal to itself: compared as it is printed.
    assert repr(read_evaluation(folder, basis=BASIS)) == repr(evaluation)


@pytest.mark.parametrize(
    ("seal", "entries", "masks"),
    [
        (replace(SEAL, digest="other"), [ENTRY], [MASK]),
        (SEAL, [replace(ENTRY, etag="other")], [MASK]),
        (SEAL, [ENTRY], [replace(MASK, etag="other")]),
        (SEAL, [ENTRY], []),
        (SEAL, [replace(ENTRY, present=False)], [MASK]),
        (SEAL, [ENTRY, replace(ENTRY, index=1, key="test/hole/b.png")], [MASK]),
    ],
)
def test_other_results_images_or_truth_are_another_basis(tmp_path, seal, entries, masks):
    folder, _ = written(tmp_path)
    assert evaluation_basis(seal, entries, truth=masks) != BASIS
    assert read_evaluation(folder, basis=evaluation_basis(seal, entries, truth=masks)) is None


def test_another_version_of_the_metrics_is_another_basis(monkeypatch):
    monkeypatch.setattr(evaluation_file, "METRICS_VERSION", METRICS_VERSION + 1)
    assert evaluation_basis(SEAL, [ENTRY], truth=[MASK]) != BASIS


def on_ground(tmp_path, name, *, score, **drawn):
    """Measure an image whose map has bumps on a ground of many values, with regions down to the alarm level."""
    config = Config().updated({"working_size": 48, "verdict.share_of_peak": 0.0})
    record, inspection, bumps = scene(tmp_path / name, name=name, config=config, **drawn)
    y, x = np.indices(bumps.shape)
    record = with_map(record, inspection, bumps + ((7 * y * y + 13 * x) % 37 / 4).astype(np.float32))
    return measured(replace(record, score=score), inspection)


def test_maps_that_measure_otherwise_are_measured_by_another_version(tmp_path):
    """Where they are meant to: raise METRICS_VERSION, and write down all numbers anew."""
    images = [
        on_ground(tmp_path, "found", score=3.0, bumps=[(10, 30), (50, 5)], truth=[(20, 40, 60, 80), (96, 110, 40, 60)]),
        on_ground(tmp_path, "missed", score=1.0, bumps=[], truth=[(2, 30, 2, 12)]),
        on_ground(tmp_path, "good", score=2.0, bumps=[(30, 20)], truth=[]),
    ]
    mean = summarise_metrics(gathered(images)).mean
    verdicts = [mean.hit_rate, mean.region_precision, mean.false_alarm_rate, mean.image_auroc, mean.iou]
    assert METRICS_VERSION == 2
    assert verdicts == pytest.approx([1 / 2, 1 / 3, 1, 1 / 2, 0.1103285], abs=1e-6)
    for row, numbers in (
        (mean, [0.5660366, 0.1157363, 0.2336107, 0.1820008]),
        (mean.border_ignored, [0.5374867, 0.1226267, 0.2077154, 0.1648475]),
        (mean.pooled, [0.5960404, 0.1488088, 0.2694484, 0.2507463]),
        (mean.pooled_border_ignored, [0.6241677, 0.1916907, 0.2520662, 0.3105360]),
        (mean.pooled_error, [0.0019069, 0.0031142, 0.0017568, 0.0]),
    ):
        assert [row.auroc, row.average_precision, row.aupro, row.f1] == pytest.approx(numbers, abs=1e-6)


def test_the_order_of_listings_is_no_other_basis():
    other = replace(ENTRY, key="test/hole/b.png")
    assert evaluation_basis(SEAL, [ENTRY, other], truth=[MASK]) == evaluation_basis(SEAL, [other, ENTRY], truth=[MASK])


def test_an_image_that_may_be_measured_next_time_is_tried_again(tmp_path):
    folder, _ = written(tmp_path, UnmeasuredImage(key="b/x", category="b", reason="no connection", lasting=False))
    assert read_evaluation(folder, basis=BASIS) is None


@pytest.mark.parametrize("content", ["{", "{}", json.dumps({"basis": BASIS, "unmeasured": [], "images": [{}]})])
def test_what_another_version_wrote_is_measured_again(tmp_path, content):
    folder, _ = written(tmp_path)
    folder.write(EVALUATION, content.encode())
    assert read_evaluation(folder, basis=BASIS) is None


def test_nothing_is_found_where_nothing_was_measured(tmp_path):
    assert read_evaluation(Storage(str(tmp_path)), basis=BASIS) is None


def test_the_file_holds_every_image_and_null_for_what_is_undefined(tmp_path):
    folder, _ = written(tmp_path, UnmeasuredImage(key="b/x", category="b", reason="no mask"))
    tree = json.loads(folder.read(EVALUATION))
    assert tree["basis"] == BASIS
    assert tree["unmeasured"] == [{"key": "b/x", "category": "b", "reason": "no mask", "lasting": True}]
    assert len(tree["images"]) == 6
    assert tree["categories"][2]["auroc"] is None
    assert tree["categories"][2]["pooled"]["auroc"] is None
    assert (tree["mean"]["defective"], tree["mean"]["good"]) == (3, 3)


def test_the_file_says_what_its_metrics_mean(tmp_path):
    folder, _ = written(tmp_path)
    tree = json.loads(folder.read(EVALUATION))
    explained = {name for names in tree["meanings"] for name in names.split(", ")}
    counts = {"category", "defective", "good", "unmeasured", "regions"}
    assert set(tree["mean"]) - explained == counts
    assert "pooled_error" in explained


@pytest.mark.parametrize("lasting", [[], [True, False], [False, True]])
def test_metrics_stand_unless_some_image_may_be_measured_next_time(tmp_path, lasting):
    missed = [UnmeasuredImage(key=f"b/{n}", category="b", reason="", lasting=one) for n, one in enumerate(lasting)]
    folder, _ = written(tmp_path, *missed)
    assert (read_evaluation(folder, basis=BASIS) is not None) == all(lasting)
