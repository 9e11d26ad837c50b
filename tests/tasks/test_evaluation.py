import json
import math

import numpy as np
import pytest
from PIL import Image

from ssdnet_core.config import Config
from ssdnet_core.regions import Region
from tasks.batch import ImageEntry, Manifest
from tasks.evaluation import (
    ImageMetrics,
    TruthError,
    category_of,
    evaluate_image,
    summarise_metrics,
    truth_key,
    write_evaluation,
)
from tasks.maps import prepare_maps, write_map
from tasks.records import ImageRecord
from tasks.storage import Storage


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


def scene(tmp_path, *, mask_shape=(64, 64)):
    """A stored map that is perfect, and its truth."""
    source, folder = Storage(str(tmp_path / "in")), Storage(str(tmp_path / "out"))
    truth = np.zeros(mask_shape, dtype=np.uint8)
    truth[10:20, 30:50] = 255
    path = tmp_path / "in" / "test" / "hole"
    path.mkdir(parents=True)
    (tmp_path / "in" / "ground_truth" / "hole").mkdir(parents=True)
    Image.fromarray(truth).save(tmp_path / "in" / "ground_truth" / "hole" / "a_mask.png")
    entry = ImageEntry(index=0, key="test/hole/a.png", etag="", size=1, height=64, width=64)
    manifest = Manifest(batch="n", input=source.address, pattern="", config=Config(), entries=(entry,))
    prepare_maps(folder, manifest)
    perfect = np.zeros((64, 64), dtype=np.float32)
    perfect[10:20, 30:50] = 9
    write_map(folder, 0, perfect)
    region = Region(top=15, left=45, bottom=60, right=60, area=99, peak=9.0, centroid=(12.0, 12.0))
    fields = {"height": 64, "width": 64, "working_height": 64, "working_width": 64, "score": 5.0, "defective": True}
    record = ImageRecord(0, entry.key, "", "f", "inspected", regions=(region,), **fields)
    return record, source, folder, manifest


def test_a_perfect_map_measures_as_one(tmp_path):
    record, source, folder, _ = scene(tmp_path)
    metrics = evaluate_image(record, source, folder)
    assert (metrics.auroc, metrics.average_precision, metrics.f1) == (1.0, 1.0, 1.0)
    assert metrics.truly_defective
    assert metrics.touched


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path):
    record, source, folder, _ = scene(tmp_path, mask_shape=(32, 64))
    with pytest.raises(TruthError, match="32 x 64 pixels, its image 64 x 64"):
        evaluate_image(record, source, folder)


def test_a_missing_mask_is_named(tmp_path):
    record, source, folder, _ = scene(tmp_path)
    (tmp_path / "in" / "ground_truth" / "hole" / "a_mask.png").unlink()
    with pytest.raises(TruthError, match=r"test/hole/a\.png"):
        evaluate_image(record, source, folder)


def image(category, *, bad, auroc=math.nan, defective=False, touched=False, score=0.0):
    return ImageMetrics("k", category, bad, auroc, auroc, auroc, auroc, defective, touched, score)


def test_means_are_taken_over_images_first_and_categories_then(tmp_path):
    images = [
        image("a", bad=True, auroc=0.5, defective=True, touched=True, score=3),
        image("a", bad=True, auroc=0.7, score=0),
        image("b", bad=True, auroc=1.0, defective=True, touched=True, score=4),
        image("b", bad=False, defective=True, score=2),
        image("b", bad=False, score=1),
        image("c", bad=False, score=0.5),
    ]
    evaluation = summarise_metrics(images)
    assert evaluation.mean.auroc == pytest.approx((0.6 + 1.0) / 2)
    assert evaluation.mean.hit_rate == pytest.approx(2 / 3)
    assert evaluation.mean.false_alarm_rate == pytest.approx(1 / 3)
    assert evaluation.mean.image_auroc == pytest.approx(6 / 9)
    assert [category.category for category in evaluation.categories] == ["a", "b", "c"]
    assert math.isnan(evaluation.categories[2].auroc)
    _, _, folder, manifest = scene(tmp_path)
    write_evaluation(folder, manifest, evaluation)
    assert json.loads(folder.read("evaluation.json"))["categories"][2]["auroc"] is None
