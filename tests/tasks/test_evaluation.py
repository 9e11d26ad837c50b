import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ssdnet_core.config import Config
from ssdnet_core.metrics import PixelMetrics
from ssdnet_core.pooling import count_pixels, pooled_metrics
from ssdnet_core.scoring import verdict_map
from ssdnet_core.significance import alarm_level
from tasks.batch import ImageEntry, Manifest
from tasks.evaluation import (
    ImageMetrics,
    MeasuredImage,
    TruthError,
    UnmeasuredImage,
    category_of,
    evaluate_image,
    gathered,
    summarise_metrics,
    truth_key,
)
from tasks.inspection import Inspection
from tasks.maps import prepare_maps, write_map
from tasks.measured import write_evaluation
from tasks.records import ImageRecord
from tasks.storage import Storage
from tasks.truth import NightTruth


@pytest.mark.parametrize(
    ("key", "truth"),
    [
        ("carpet/test/hole/000.png", "carpet/ground_truth/hole/000_mask.png"),
        ("test/hole/a.b.jpg", "ground_truth/hole/a.b_mask.png"),
        ("carpet/test/good/000.png", None),
    ],
)
def test_the_truth_lies_where_mvtec_ad_puts_it(key, truth):
    assert truth_key(key) == truth


def test_a_key_outside_the_layout_is_named():
    with pytest.raises(TruthError, match="night/000"):
        truth_key("night/000.png")


def test_the_category_is_the_folder_above_test():
    assert category_of("carpet/test/hole/0.png", Storage("/data")) == "carpet"
    assert category_of("test/hole/0.png", Storage("/data/tile")) == "tile"


SHAPE = (128, 96)
"""Of the original image; its map has half of each."""


def scene(
    tmp_path, *, bumps=((10, 30),), truth=((20, 40, 60, 80),), config=None, alpha=None, mask_shape=SHAPE, name="a"
):
    """An image, its truth boxes in original pixels, and a stored map with bumps of 6 x 6 working pixels at (y, x)."""
    config = config or Config().updated({"working_size": 48})
    source, folder = Storage(str(tmp_path / "in")), Storage(str(tmp_path / "out"))
    mask = np.zeros(mask_shape, dtype=np.uint8)
    for top, bottom, left, right in truth:
        mask[top:bottom, left:right] = 255
    kind = "hole" if truth else "good"
    pixels = np.zeros(SHAPE, dtype=np.uint8) if alpha is None else np.dstack([np.zeros((*SHAPE, 3), np.uint8), alpha])
    for path, picture in ((f"test/{kind}/{name}.png", pixels), (f"ground_truth/{kind}/{name}_mask.png", mask)):
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "in" / path)
    entry = ImageEntry(index=0, key=f"test/{kind}/{name}.png", etag="", size=1, height=SHAPE[0], width=SHAPE[1])
    manifest = Manifest(batch="n", input=source.address, pattern="", config=config, entries=(entry,))
    prepare_maps(folder, manifest)
    scores = np.zeros((64, 48), dtype=np.float32)
    for y, x in bumps:
        scores[y : y + 6, x : x + 6] = 40
    write_map(folder, 0, scores)
    fields = {"height": SHAPE[0], "width": SHAPE[1], "working_height": 64, "working_width": 48, "seconds": 2.5}
    record = ImageRecord(0, entry.key, "", "f", "inspected", score=5.0, defective=bool(bumps), **fields)
    return record, Inspection(source=source, folder=folder, config=config, fingerprint="f"), scores


def verdict_pixels(scores, level):
    """Slowly: which pixels of the original image are called defective."""
    judged = verdict_map(torch.from_numpy(scores), torch.ones(1, *scores.shape)).numpy()
    found = np.zeros(SHAPE, dtype=bool)
    for y, x in np.ndindex(SHAPE):
        found[y, x] = judged[y // 2, x // 2] >= level
    return found


def test_a_perfect_map_measures_as_one(tmp_path):
    record, inspection, scores = scene(tmp_path)
    perfect = np.zeros_like(scores)
    perfect[10:20, 30:40] = 9
    write_map(inspection.folder, 0, perfect)
    metrics = evaluate_image(record, inspection).metrics
    # Bilinear enlargement blurs the edge of the defect, and only that.
    assert metrics.auroc > 0.99
    assert metrics.average_precision > 0.95
    assert (metrics.truly_defective, metrics.category, metrics.seconds) == (True, "in", 2.5)


@pytest.mark.parametrize("expected_false_alarms", [0.001, 0.1, 10.0])
def test_iou_is_that_of_the_pixels_above_the_products_own_threshold(tmp_path, expected_false_alarms):
    config = Config().updated({"working_size": 48, "verdict.expected_false_alarms": expected_false_alarms})
    record, inspection, scores = scene(tmp_path, bumps=[(10, 30), (50, 5)], config=config)
    found = verdict_pixels(scores, alarm_level(expected_false_alarms, area=64 * 48))
    truth = np.zeros(SHAPE, dtype=bool)
    truth[20:40, 60:80] = True
    expected = (found & truth).sum() / (found | truth).sum()
    assert 0.1 < expected < 0.9
    assert evaluate_image(record, inspection).metrics.iou == pytest.approx(expected, abs=1e-12)


def test_regions_count_as_touching_only_where_their_own_pixels_do(tmp_path):
    # Three regions; the second lies wide of the truth, and so would its box.
    record, inspection, _ = scene(
        tmp_path, bumps=[(10, 30), (50, 5), (50, 36)], truth=[(20, 32, 60, 72), (96, 98, 84, 86)]
    )
    metrics = evaluate_image(record, inspection).metrics
    assert (metrics.regions, metrics.touching) == (3, 2)


def test_a_region_round_a_defect_it_does_not_touch_is_no_hit(tmp_path):
    record, inspection, scores = scene(tmp_path, truth=[(62, 66, 46, 50)])
    ring = np.zeros_like(scores)
    ring[12:52, 4:44] = 40
    ring[17:47, 9:39] = 0
    write_map(inspection.folder, 0, ring)
    metrics = evaluate_image(record, inspection).metrics
    assert (metrics.regions, metrics.touching, metrics.iou) == (1, 0, 0.0)


def test_regions_below_the_smallest_area_are_not_the_verdicts(tmp_path):
    config = Config().updated({"working_size": 48, "verdict.min_area": 2000})
    record, inspection, _ = scene(tmp_path, bumps=[(10, 30)], config=config)
    metrics = evaluate_image(record, inspection).metrics
    assert (metrics.defective, metrics.regions, metrics.iou) == (True, 0, 0.0)


def test_an_image_called_good_has_no_verdict_pixels(tmp_path):
    record, inspection, _ = scene(tmp_path)
    metrics = evaluate_image(replace(record, defective=False), inspection).metrics
    assert (metrics.regions, metrics.touching, metrics.iou) == (0, 0, 0.0)


def test_the_border_is_a_tenth_of_each_side(tmp_path):
    # An alarm within 12 rows or 9 columns of the edge is a mistake in the full frame only.
    record, inspection, _ = scene(tmp_path, bumps=[(10, 30), (0, 20)])
    spoilt = evaluate_image(record, inspection).metrics
    write_map(inspection.folder, 0, scene(tmp_path / "other", bumps=[(10, 30)])[2])
    clean = evaluate_image(record, inspection).metrics
    assert spoilt.average_precision < clean.average_precision - 0.05
    assert spoilt.border_ignored == clean.border_ignored
    counts = evaluate_image(record, inspection).counts
    assert [c.good.sum() + c.bad.sum() for c in counts] == [128 * 96, (128 - 26) * (96 - 20)]


def test_pixels_that_alpha_leaves_out_count_nowhere(tmp_path):
    alpha = np.full(SHAPE, 255, dtype=np.uint8)
    alpha[90:, :] = 0
    record, inspection, scores = scene(tmp_path, bumps=[(10, 30), (50, 5)], alpha=alpha)
    scores[45:] = 0
    write_map(inspection.folder, 0, scores)
    clean = evaluate_image(record, inspection)
    scores[45:] = 60
    write_map(inspection.folder, 0, scores)
    spoilt = evaluate_image(record, inspection)
    assert spoilt.counts[0].good.sum() + spoilt.counts[0].bad.sum() == 90 * 96
    assert (spoilt.metrics.iou, spoilt.metrics.regions) == (clean.metrics.iou, 1)


def test_pixels_that_the_settings_leave_out_are_not_the_verdicts(tmp_path):
    config = Config().updated({"working_size": 48, "border": 0.2})
    record, inspection, _ = scene(tmp_path, bumps=[(26, 20), (2, 2)], truth=[(52, 64, 40, 52)], config=config)
    metrics = evaluate_image(record, inspection).metrics
    assert (metrics.regions, metrics.touching) == (1, 1)


@pytest.mark.parametrize(("left_out", "regions"), [(True, 1), (False, 2)])
def test_a_dark_edge_is_the_verdicts_only_where_the_settings_keep_it(tmp_path, left_out, regions):
    config = Config().updated({"working_size": 48, "leave_out_frame": left_out})
    record, inspection, _ = scene(tmp_path, bumps=[(26, 30), (26, 0)], truth=[(52, 64, 60, 72)], config=config)
    texture = np.random.default_rng(0).integers(120, 200, SHAPE, dtype=np.uint8)
    texture[:, :8] = 40
    Image.fromarray(texture).save(tmp_path / "in/test/hole/a.png")
    assert evaluate_image(record, inspection).metrics.regions == regions


def test_an_image_that_was_replaced_since_is_unmeasured(tmp_path):
    record, inspection, _ = scene(tmp_path)
    Image.fromarray(np.zeros((96, 96), dtype=np.uint8)).save(tmp_path / "in/test/hole/a.png")
    assert "replaced" in evaluate_image(record, inspection).reason


def without_mask(tmp_path):
    (tmp_path / "in" / "ground_truth" / "hole" / "a_mask.png").unlink()


def with_empty_mask(tmp_path):
    Image.fromarray(np.ones(SHAPE, dtype=np.uint8)).save(tmp_path / "in" / "ground_truth" / "hole" / "a_mask.png")


def with_broken_mask(tmp_path):
    (tmp_path / "in" / "ground_truth" / "hole" / "a_mask.png").write_text("mask")


def with_other_size(tmp_path):
    Image.fromarray(np.full((32, 96), 255, dtype=np.uint8)).save(tmp_path / "in/ground_truth/hole/a_mask.png")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (without_mask, r"ground_truth/hole/a_mask\.png: there is no such file"),
        (with_empty_mask, r"marks no pixel.*\(255\)"),
        (with_broken_mask, "not a PNG"),
        (with_other_size, "32 x 96 pixels of uint8, its image 128 x 96"),
    ],
)
def test_an_image_without_a_fitting_truth_is_unmeasured_with_the_reason(tmp_path, spoil, reason):
    record, inspection, _ = scene(tmp_path)
    spoil(tmp_path)
    unmeasured = evaluate_image(record, inspection)
    assert isinstance(unmeasured, UnmeasuredImage)
    assert (unmeasured.key, unmeasured.category) == (record.key, "in")
    assert re.search(reason, unmeasured.reason)


def test_an_image_that_was_not_inspected_is_unmeasured_too(tmp_path):
    record, inspection, _ = scene(tmp_path)
    unmeasured = evaluate_image(replace(record, status="failed", error="truncated PNG"), inspection)
    assert isinstance(unmeasured, UnmeasuredImage)
    assert unmeasured.reason == "not inspected: truncated PNG"


def test_a_good_image_has_no_pixel_metrics_but_its_regions_count(tmp_path):
    record, inspection, _ = scene(tmp_path, truth=())
    metrics = evaluate_image(record, inspection).metrics
    assert (metrics.truly_defective, metrics.defective, metrics.regions, metrics.touching) == (False, True, 1, 0)
    assert all(math.isnan(value) for value in (metrics.auroc, metrics.iou, metrics.border_ignored.auroc))


def measured(category, *, bad, value=math.nan, regions=(0, 0), score=0.0, seconds=1.0, seed=0, inner=None):
    """An image of random pixels: its metrics are given, its pixels are for pooling."""
    rng = np.random.default_rng(seed)
    scores, truth = rng.integers(0, 9, (6, 6)) / 4, np.zeros((6, 6), dtype=bool)
    truth[1:3, 1:4] = bad
    border = value if inner is None else inner
    metrics = ImageMetrics(
        **dict.fromkeys(("auroc", "average_precision", "aupro", "f1", "iou"), value),
        border_ignored=PixelMetrics(border, border, border, border),
        key=f"{category}/{seed}",
        category=category,
        truly_defective=bad,
        defective=regions[0] > 0,
        regions=regions[0],
        touching=regions[1],
        score=score,
        seconds=seconds,
    )
    return MeasuredImage(metrics, (count_pixels(scores, truth), count_pixels(scores[1:-1], truth[1:-1])))


def night():
    return [
        measured("a", bad=True, value=0.5, regions=(3, 2), score=3, seconds=4.0, seed=1),
        measured("a", bad=True, value=0.7, regions=(1, 0), score=0, seed=2, inner=math.nan),
        measured("b", bad=True, value=1.0, regions=(1, 1), score=4, seed=3),
        measured("b", bad=False, regions=(2, 0), score=2, seed=4),
        measured("b", bad=False, score=1, seed=5),
        measured("c_free", bad=False, score=0.5, seed=6),
    ]


def test_means_are_taken_over_images_first_and_categories_then():
    evaluation = summarise_metrics(gathered(night()))
    for name in ("auroc", "average_precision", "aupro", "f1", "iou"):
        assert getattr(evaluation.mean, name) == pytest.approx((0.6 + 1.0) / 2)
    assert evaluation.mean.hit_rate == pytest.approx(2 / 3)
    assert evaluation.mean.false_alarm_rate == pytest.approx(1 / 3)
    assert evaluation.mean.image_auroc == pytest.approx(6 / 9)
    assert evaluation.mean.seconds == pytest.approx(9 / 6)
    assert [category.category for category in evaluation.categories] == ["a", "b", "c_free"]
    assert [(row.defective, row.good) for row in evaluation.categories] == [(2, 0), (1, 2), (0, 1)]
    assert [row.false_alarm_rate for row in evaluation.categories[1:]] == [0.5, 0]
    assert math.isnan(evaluation.categories[0].false_alarm_rate)
    assert math.isnan(evaluation.categories[2].auroc)


def test_region_precision_counts_regions_on_good_images_as_well():
    evaluation = summarise_metrics(gathered(night()))
    assert [row.regions for row in evaluation.categories] == [4, 3, 0]
    assert evaluation.categories[0].region_precision == pytest.approx(2 / 4)
    assert evaluation.categories[1].region_precision == pytest.approx(1 / 3)
    assert math.isnan(evaluation.categories[2].region_precision)
    assert evaluation.mean.region_precision == pytest.approx(3 / 7)


def test_an_image_whose_defect_lies_in_the_border_is_left_out_of_that_mean_only():
    evaluation = summarise_metrics(gathered(night()))
    assert evaluation.categories[0].auroc == pytest.approx(0.6)
    assert evaluation.categories[0].border_ignored.auroc == pytest.approx(0.5)


def test_pooled_metrics_take_the_defective_images_of_a_category_and_their_mean_the_categories():
    images = night()
    evaluation = summarise_metrics(gathered(images))
    for frame, name in enumerate(("pooled", "pooled_border_ignored")):
        a = pooled_metrics([image.counts[frame] for image in images[:2]])
        b = pooled_metrics([images[2].counts[frame]])
        assert a.auroc != b.auroc
        assert [getattr(row, name) for row in evaluation.categories[:2]] == [a, b]
        assert math.isnan(getattr(evaluation.categories[2], name).auroc)
        assert getattr(evaluation.mean, name).aupro == pytest.approx((a.aupro + b.aupro) / 2)


def test_unmeasured_images_are_counted_and_listed_and_nothing_else(tmp_path):
    missed = [UnmeasuredImage("b/x", "b", "no mask"), UnmeasuredImage("d/y", "d", "no mask")]
    evaluation = summarise_metrics(gathered([*night(), *missed]))
    assert evaluation.mean.auroc == summarise_metrics(gathered(night())).mean.auroc
    assert [(row.category, row.unmeasured) for row in evaluation.categories] == [
        ("a", 0),
        ("b", 1),
        ("c_free", 0),
        ("d", 1),
    ]
    assert evaluation.mean.unmeasured == 2
    _, inspection, _ = scene(tmp_path)
    manifest = Manifest(batch="n", input="", pattern="", config=inspection.config)
    write_evaluation(inspection.folder, manifest, evaluation, basis="b")
    tree = json.loads(inspection.folder.read("evaluation.json"))
    assert tree["unmeasured"][0] == {"key": "b/x", "category": "b", "reason": "no mask", "lasting": True}
    assert len(tree["images"]) == 6
    assert tree["categories"][2]["auroc"] is None
    assert tree["categories"][2]["pooled"]["auroc"] is None
    assert (tree["mean"]["defective"], tree["mean"]["good"]) == (3, 3)
    explained = {name for names in tree["meanings"] for name in names.split(", ")}
    counts = {"category", "defective", "good", "unmeasured", "regions"}
    assert set(tree["mean"]) - explained == counts


def test_what_the_mask_beside_an_image_leaves_out_counts_nowhere(tmp_path):
    record, inspection, _ = scene(tmp_path, bumps=[(10, 30), (50, 5)])
    keep = np.full(SHAPE, 255, dtype=np.uint8)
    keep[90:] = 0
    (tmp_path / "masks").mkdir()
    Image.fromarray(keep).save(tmp_path / "masks" / "a.png")
    masked = replace(inspection, masks=Storage(str(tmp_path / "masks")))
    whole, part = evaluate_image(record, masked), evaluate_image(record, masked, mask="a.png")
    assert part.metrics.average_precision > whole.metrics.average_precision
    assert (whole.metrics.regions, part.metrics.regions) == (2, 1)


def test_the_truth_of_a_night_is_measured_as_that_of_a_labelled_folder(tmp_path):
    record, inspection, _ = scene(tmp_path)
    mask = Storage(str(tmp_path / "in" / "ground_truth" / "hole")).read("a_mask.png")
    night = Storage(str(tmp_path / "truth"))
    night.write("test/hole/a.png", mask)
    labelled = evaluate_image(record, inspection)
    of_night = evaluate_image(record, inspection, truth=NightTruth(night, "line-1"))
    assert of_night.metrics == replace(labelled.metrics, category="line-1")


def test_an_image_of_a_night_without_truth_is_unmeasured(tmp_path):
    record, inspection, _ = scene(tmp_path)
    missed = evaluate_image(record, inspection, truth=NightTruth(Storage(str(tmp_path / "truth")), "line-1"))
    assert isinstance(missed, UnmeasuredImage)
    assert "no truth" in missed.reason
