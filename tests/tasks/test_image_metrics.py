import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ssdnet_core.config import Config
from ssdnet_core.regions import find_regions, label_regions
from ssdnet_core.scoring import verdict_map
from ssdnet_core.significance import alarm_level
from tasks.image_metrics import UnmeasuredImage, evaluate_image
from tasks.inspection import Inspection
from tasks.manifest import ImageEntry, Manifest
from tasks.maps import prepare_maps, write_map
from tasks.records import ImageRecord
from tasks.storage import Storage
from tasks.truth import MvtecTruth, NightTruth

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
    fields = {"height": SHAPE[0], "width": SHAPE[1], "working_height": 64, "working_width": 48, "seconds": 2.5}
    level = alarm_level(config.verdict.expected_false_alarms, area=64 * 48)
    record = ImageRecord(
        index=0,
        key=entry.key,
        etag=source.read_with_etag(entry.key)[1],
        fingerprint="f",
        status="inspected",
        score=5.0,
        defective=bool(bumps),
        regions_from=level,
        **fields,
    )
    inspection = Inspection(source=source, folder=folder, config=config, fingerprint="f")
    return with_map(record, inspection, scores), inspection, scores


def with_map(record, inspection, anomaly_map):
    digest = write_map(inspection.folder, record.index, anomaly_map=anomaly_map)
    return replace(record, map_digest=digest, regions=regions_of(anomaly_map, record.regions_from, inspection.config))


def regions_of(anomaly_map, level, config):
    levels = verdict_map(torch.from_numpy(anomaly_map), torch.ones(1, *anomaly_map.shape)).numpy()
    labels = label_regions(levels, level, original_shape=SHAPE, anomaly_map=anomaly_map, config=config.verdict)
    return find_regions(levels, labels, original_shape=SHAPE)


def measured(record, inspection, *, mask=""):
    """Of the scene's image as it is now; its truth lies in MVTec-AD layout."""
    record = replace(record, etag=inspection.source.read_with_etag(record.key)[1])
    if mask:
        record = replace(record, etag=f"{record.etag}+{inspection.masks.read_with_etag(mask)[1]}")
    return evaluate_image(record, inspection, truth=MvtecTruth(inspection.source), mask=mask)


def verdict_pixels(scores, level, *, share_of_peak):
    """Slowly: which pixels of the original image are called defective, if all bumps of the map are equally high."""
    levels = verdict_map(torch.from_numpy(scores), torch.ones(1, *scores.shape)).numpy()
    found = np.zeros(SHAPE, dtype=bool)
    for y, x in np.ndindex(SHAPE):
        found[y, x] = levels[y // 2, x // 2] >= level and scores[y // 2, x // 2] >= share_of_peak * scores.max()
    return found


def test_a_perfect_map_measures_as_one(tmp_path):
    record, inspection, scores = scene(tmp_path)
    perfect = np.zeros_like(scores)
    perfect[10:20, 30:40] = 9
    record = with_map(record, inspection, perfect)
    metrics = measured(record, inspection).metrics
    # Bilinear enlargement blurs the edge of the defect, and only that.
    assert metrics.auroc > 0.99
    assert metrics.average_precision > 0.95
    assert (metrics.truly_defective, metrics.category, metrics.seconds) == (True, "in", 2.5)


@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize("expected_false_alarms", [0.001, 0.1, 10.0])
def test_iou_is_that_of_the_pixels_of_the_products_own_regions(tmp_path, expected_false_alarms, share):
    verdict = {"verdict.expected_false_alarms": expected_false_alarms, "verdict.share_of_peak": share}
    config = Config().updated({"working_size": 48, **verdict})
    record, inspection, scores = scene(tmp_path, bumps=[(10, 30), (50, 5)], config=config)
    found = verdict_pixels(scores, alarm_level(expected_false_alarms, area=64 * 48), share_of_peak=share)
    truth = np.zeros(SHAPE, dtype=bool)
    truth[20:40, 60:80] = True
    expected = (found & truth).sum() / (found | truth).sum()
    assert 0.1 < expected < 0.9
    assert measured(record, inspection).metrics.iou == pytest.approx(expected, abs=1e-12)


def test_regions_count_as_touching_only_where_their_own_pixels_do(tmp_path):
    # Three regions; the second lies wide of the truth, and so would its box.
    record, inspection, _ = scene(
        tmp_path, bumps=[(10, 30), (50, 5), (50, 36)], truth=[(20, 32, 60, 72), (100, 102, 82, 84)]
    )
    metrics = measured(record, inspection).metrics
    assert (metrics.regions, metrics.touching) == (3, 2)


def test_regions_that_are_not_in_the_record_are_not_the_verdicts(tmp_path):
    # As those that only sharpening has raised: nothing in the stored map tells them from the others.
    record, inspection, _ = scene(tmp_path, bumps=[(10, 30), (50, 5), (50, 36)], truth=[(20, 32, 60, 72)])
    # By their places: which of equally high ones is the highest, rounding decides.
    touching, others = ([one for one in record.regions if (one.top < 50) == upper] for upper in (True, False))
    for kept, hits in ((touching, 1), (others, 0)):
        metrics = measured(replace(record, regions=tuple(kept)), inspection).metrics
        assert (metrics.regions, metrics.touching) == (len(kept), hits)


def test_a_region_round_a_defect_it_does_not_touch_is_no_hit(tmp_path):
    record, inspection, scores = scene(tmp_path, truth=[(62, 66, 46, 50)])
    ring = np.zeros_like(scores)
    ring[12:52, 4:44] = 40
    ring[17:47, 9:39] = 0
    record = with_map(record, inspection, ring)
    metrics = measured(record, inspection).metrics
    assert (metrics.regions, metrics.touching, metrics.iou) == (1, 0, 0.0)


def test_regions_below_the_smallest_area_are_not_the_verdicts(tmp_path):
    config = Config().updated({"working_size": 48, "verdict.min_area": 2000})
    record, inspection, _ = scene(tmp_path, bumps=[(10, 30)], config=config)
    metrics = measured(record, inspection).metrics
    assert (metrics.defective, metrics.regions, metrics.iou) == (True, 0, 0.0)


def test_small_regions_beside_the_highest_are_not_the_verdicts(tmp_path):
    config = Config().updated({"working_size": 48, "verdict.min_further_area": 2000})
    record, inspection, _ = scene(tmp_path, bumps=[(10, 30), (50, 5)], truth=[(20, 32, 60, 72)], config=config)
    metrics = measured(record, inspection).metrics
    assert (metrics.regions, metrics.touching) == (1, 1)


def test_a_peak_that_is_stored_lower_than_its_region_was_found_from_is_still_the_verdicts(tmp_path):
    record, inspection, scores = scene(tmp_path)
    peak = float(verdict_map(torch.from_numpy(scores), torch.ones(1, *scores.shape)).max())
    metrics = measured(replace(record, regions_from=1.0001 * peak), inspection).metrics
    assert metrics.regions == metrics.touching == 1


def test_an_image_called_good_has_no_verdict_pixels(tmp_path):
    record, inspection, _ = scene(tmp_path)
    metrics = measured(replace(record, defective=False), inspection).metrics
    assert (metrics.regions, metrics.touching, metrics.iou) == (0, 0, 0.0)


def test_the_border_is_a_tenth_of_each_side(tmp_path):
    # An alarm within 12 rows or 9 columns of the edge is a mistake in the full frame only.
    record, inspection, _ = scene(tmp_path, bumps=[(10, 30), (0, 20)])
    spoilt = measured(record, inspection).metrics
    record = with_map(record, inspection, scene(tmp_path / "other", bumps=[(10, 30)])[2])
    clean = measured(record, inspection).metrics
    assert spoilt.average_precision < clean.average_precision - 0.05
    assert spoilt.border_ignored == clean.border_ignored
    counts = measured(record, inspection).counts
    assert [c.good.sum() + c.bad.sum() for c in counts] == [128 * 96, (128 - 26) * (96 - 20)]


def test_an_image_in_colour_is_measured_as_one_in_grey(tmp_path):
    record, inspection, _ = scene(tmp_path)
    grey = measured(record, inspection)
    Image.new("RGB", SHAPE[::-1]).save(tmp_path / "in/test/hole/a.png")
    assert measured(record, inspection).metrics == grey.metrics


def test_pixels_that_alpha_leaves_out_count_nowhere(tmp_path):
    alpha = np.full(SHAPE, 255, dtype=np.uint8)
    alpha[90:, :] = 0
    record, inspection, scores = scene(tmp_path, bumps=[(10, 30), (50, 5)], alpha=alpha)
    scores[45:] = 0
    record = with_map(record, inspection, scores)
    clean = measured(record, inspection)
    scores[45:] = 60
    record = with_map(record, inspection, scores)
    spoilt = measured(record, inspection)
    assert spoilt.counts[0].good.sum() + spoilt.counts[0].bad.sum() == 90 * 96
    assert (spoilt.metrics.iou, spoilt.metrics.regions) == (clean.metrics.iou, 1)


def test_pixels_that_the_settings_leave_out_are_not_the_verdicts(tmp_path):
    config = Config().updated({"working_size": 48, "border": 0.2})
    record, inspection, _ = scene(tmp_path, bumps=[(26, 20), (2, 2)], truth=[(52, 64, 40, 52)], config=config)
    metrics = measured(record, inspection).metrics
    assert (metrics.regions, metrics.touching) == (1, 1)


@pytest.mark.parametrize(("left_out", "regions"), [(True, 1), (False, 2)])
def test_a_dark_edge_is_the_verdicts_only_where_the_settings_keep_it(tmp_path, left_out, regions):
    config = Config().updated({"working_size": 48, "leave_out_frame": left_out})
    record, inspection, _ = scene(tmp_path, bumps=[(26, 30), (26, 0)], truth=[(52, 64, 60, 72)], config=config)
    texture = np.random.default_rng(0).integers(120, 200, SHAPE, dtype=np.uint8)
    texture[:, :8] = 40
    Image.fromarray(texture).save(tmp_path / "in/test/hole/a.png")
    assert measured(record, inspection).metrics.regions == regions


@pytest.mark.parametrize("shape", [(96, 96), SHAPE])
def test_an_image_that_was_replaced_since_is_unmeasured_until_it_is_inspected_again(tmp_path, shape):
    record, inspection, _ = scene(tmp_path)
    Image.fromarray(np.full(shape, 255, dtype=np.uint8)).save(tmp_path / "in/test/hole/a.png")
    unmeasured = evaluate_image(record, inspection, truth=MvtecTruth(inspection.source))
    assert not unmeasured.lasting
    assert unmeasured.reason == "test/hole/a.png was replaced since it was listed: run again"


def without_mask(tmp_path):
    (tmp_path / "in" / "ground_truth" / "hole" / "a_mask.png").unlink()


def with_empty_mask(tmp_path):
    Image.fromarray(np.zeros(SHAPE, dtype=np.uint8)).save(tmp_path / "in" / "ground_truth" / "hole" / "a_mask.png")


def with_labels(tmp_path):
    Image.fromarray(np.ones(SHAPE, dtype=np.uint8)).save(tmp_path / "in" / "ground_truth" / "hole" / "a_mask.png")


def with_broken_mask(tmp_path):
    (tmp_path / "in" / "ground_truth" / "hole" / "a_mask.png").write_text("mask")


def with_other_size(tmp_path):
    Image.fromarray(np.full((32, 96), 255, dtype=np.uint8)).save(tmp_path / "in/ground_truth/hole/a_mask.png")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (without_mask, r"there is no truth ground_truth/hole/a_mask\.png in .*/in"),
        (with_empty_mask, r"marks no pixel.*\(255\)"),
        (with_labels, r"is 1 where it is brightest, of 255: make what it marks white \(255\)"),
        (with_broken_mask, "not a PNG"),
        (with_other_size, "96 x 32 pixels, its image 96 x 128"),
    ],
)
def test_an_image_without_a_fitting_truth_is_unmeasured_with_the_reason(tmp_path, spoil, reason):
    record, inspection, _ = scene(tmp_path)
    spoil(tmp_path)
    unmeasured = measured(record, inspection)
    assert isinstance(unmeasured, UnmeasuredImage)
    assert (unmeasured.key, unmeasured.category, unmeasured.lasting) == (record.key, "in", True)
    assert re.search(reason, unmeasured.reason)


def test_an_image_that_is_not_there_may_come_back(tmp_path):
    record, inspection, _ = scene(tmp_path)
    (tmp_path / "in/test/hole/a.png").unlink()
    unmeasured = evaluate_image(record, inspection, truth=MvtecTruth(inspection.source))
    assert "there is no such file" in unmeasured.reason
    assert not unmeasured.lasting


def test_an_image_that_was_not_inspected_is_unmeasured_too(tmp_path):
    record, inspection, _ = scene(tmp_path)
    unmeasured = measured(replace(record, status="failed", error="truncated PNG"), inspection)
    assert isinstance(unmeasured, UnmeasuredImage)
    assert unmeasured.reason == "not inspected: truncated PNG"


def test_a_good_image_has_no_pixel_metrics_but_its_regions_count(tmp_path):
    record, inspection, _ = scene(tmp_path, truth=())
    metrics = measured(record, inspection).metrics
    assert (metrics.truly_defective, metrics.defective, metrics.regions, metrics.touching) == (False, True, 1, 0)
    assert all(math.isnan(value) for value in (metrics.auroc, metrics.iou, metrics.border_ignored.auroc))


def test_what_the_mask_beside_an_image_leaves_out_counts_nowhere(tmp_path):
    record, inspection, _ = scene(tmp_path, bumps=[(10, 30), (50, 5)])
    keep = np.full(SHAPE, 255, dtype=np.uint8)
    keep[90:] = 0
    (tmp_path / "masks").mkdir()
    Image.fromarray(keep).save(tmp_path / "masks" / "a.png")
    masked = replace(inspection, masks=Storage(str(tmp_path / "masks")))
    whole, part = measured(record, masked), measured(record, masked, mask="a.png")
    assert part.metrics.average_precision > whole.metrics.average_precision
    assert (whole.metrics.regions, part.metrics.regions) == (2, 1)


def test_the_truth_of_a_night_is_measured_as_that_of_a_labelled_folder(tmp_path):
    record, inspection, _ = scene(tmp_path)
    mask = Storage(str(tmp_path / "in" / "ground_truth" / "hole")).read("a_mask.png")
    night = Storage(str(tmp_path / "truth"))
    night.write("test/hole/a.png", mask)
    labelled = measured(record, inspection)
    of_night = evaluate_image(record, inspection, truth=NightTruth(night, "line-1"))
    assert of_night.metrics == replace(labelled.metrics, category="line-1")


def test_an_image_of_a_night_without_truth_is_unmeasured(tmp_path):
    record, inspection, _ = scene(tmp_path)
    missed = evaluate_image(record, inspection, truth=NightTruth(Storage(str(tmp_path / "truth")), "line-1"))
    assert isinstance(missed, UnmeasuredImage)
    assert "no truth" in missed.reason
