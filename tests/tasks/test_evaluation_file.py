"""Metrics that are there already stand as long as results, images and truth are the same."""

import json
from dataclasses import replace

import pytest

from tasks.batch import ImageEntry
from tasks.category_metrics import Evaluation, gathered, summarise_metrics
from tasks.evaluation_file import EVALUATION, evaluation_basis, read_evaluation, write_evaluation
from tasks.image_metrics import UnmeasuredImage
from tasks.seal import Seal
from tasks.storage import Storage, StoredObject
from tests.tasks.test_category_metrics import night

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
    folder, evaluation = written(tmp_path, UnmeasuredImage("b/x", "b", "no mask"))
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


def test_the_order_of_listings_is_no_other_basis():
    other = replace(ENTRY, key="test/hole/b.png")
    assert evaluation_basis(SEAL, [ENTRY, other], truth=[MASK]) == evaluation_basis(SEAL, [other, ENTRY], truth=[MASK])


def test_an_image_that_may_be_measured_next_time_is_tried_again(tmp_path):
    folder, _ = written(tmp_path, UnmeasuredImage("b/x", "b", "no connection", lasting=False))
    assert read_evaluation(folder, basis=BASIS) is None


@pytest.mark.parametrize("content", ["{", "{}", json.dumps({"basis": BASIS, "unmeasured": [], "images": [{}]})])
def test_what_another_version_wrote_is_measured_again(tmp_path, content):
    folder, _ = written(tmp_path)
    folder.write(EVALUATION, content.encode())
    assert read_evaluation(folder, basis=BASIS) is None


def test_nothing_is_found_where_nothing_was_measured(tmp_path):
    assert read_evaluation(Storage(str(tmp_path)), basis=BASIS) is None


def test_the_file_holds_every_image_and_null_for_what_is_undefined(tmp_path):
    folder, _ = written(tmp_path, UnmeasuredImage("b/x", "b", "no mask"))
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
