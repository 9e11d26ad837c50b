from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssdnet_core.config import Config
from ssdnet_core.synthetic import sample
from tasks.batch import Manifest
from tasks.discovery import discover, list_images, list_masks
from tasks.inspection import Inspection, inspect_image
from tasks.maps import prepare_maps, read_map
from tasks.records import ImageRecord, read_records
from tasks.storage import Storage

QUICK = Config().updated({"fit.steps": 3, "working_size": 64, "fit.crop": 32})


class Night:
    """A folder of images with masks, and what is needed to inspect it here, without workers."""

    def __init__(self, folder: Path) -> None:
        self.images, self.masks = folder / "night", folder / "masks"
        self.images.mkdir()
        self.masks.mkdir()
        self.folder = Storage(str(folder / "results"))

    def entries(self):
        source = Storage(str(self.images))
        return discover(source, list_images(source), masks=list_masks(Storage(str(self.masks))))

    def inspect(self, index: int = 0) -> ImageRecord:
        entries = self.entries()
        manifest = Manifest("n", str(self.images), "", QUICK, entries, masks=str(self.masks))
        prepare_maps(self.folder, manifest)
        inspection = Inspection(
            Storage(str(self.images)), self.folder, QUICK, manifest.fingerprint, masks=Storage(str(self.masks))
        )
        return inspect_image(entries[index], inspection)


@pytest.fixture
def night(tmp_path):
    made = sample("leather", "none", size=(96, 80), seed=2)
    night = Night(tmp_path)
    Image.fromarray(made.pixels).save(night.images / "a.png")
    return night


def test_the_record_is_written_beside_the_map(night):
    record = night.inspect()
    assert record.status == "inspected"
    assert read_records(night.folder, night.entries()) == {0: record}
    assert read_map(night.folder, record).shape == (77, 64)


def test_what_a_mask_leaves_black_has_no_influence(night):
    mask = np.full((96, 80), 255, dtype=np.uint8)
    mask[30:70, 10:40] = 0
    Image.fromarray(mask).save(night.masks / "a.png")
    clean = night.inspect()
    pixels = np.asarray(Image.open(night.images / "a.png")).copy()
    pixels[30:70, 10:40] = 255
    Image.fromarray(pixels).save(night.images / "a.png")
    assert night.inspect().map_digest == clean.map_digest


def test_a_changed_mask_changes_the_etag(night):
    before = night.entries()[0].etag
    Image.fromarray(np.full((96, 80), 255, dtype=np.uint8)).save(night.masks / "a.tif")
    assert night.entries()[0].etag != before
    assert night.entries()[0].mask == "a.tif"


@pytest.mark.parametrize(
    ("mask", "named"),
    [
        (Image.new("L", (96, 80), 255), "80 x 96 pixels, the image 96 x 80"),
        (Image.new("L", (80, 96), 0), "leaves no pixel"),
    ],
)
def test_a_mask_that_does_not_fit_is_a_lasting_failure_with_its_reason(night, mask, named):
    mask.save(night.masks / "a.png")
    record = night.inspect()
    assert (record.status, record.lasting) == ("failed", True)
    assert named in record.error


def test_an_image_removed_after_the_listing_may_come_back(night):
    entries = night.entries()
    (night.images / "a.png").unlink()
    record = inspect_image(entries[0], Inspection(Storage(str(night.images)), night.folder, QUICK, "f"))
    assert (record.status, record.lasting) == ("failed", False)
    assert "a.png" in record.error


def test_an_image_replaced_by_one_of_another_size_is_noticed(night):
    entries = night.entries()
    prepare_maps(night.folder, Manifest("n", str(night.images), "", QUICK, entries))
    Image.fromarray(sample("tile", "none", size=(64, 200)).pixels).save(night.images / "a.png")
    record = inspect_image(entries[0], Inspection(Storage(str(night.images)), night.folder, QUICK, "f"))
    assert (record.status, record.lasting) == ("failed", False)
    assert "96 x 80 pixels when it was listed, now 64 x 200" in record.error


def test_a_setting_for_another_machine_is_a_failure_that_may_pass(night):
    entries = night.entries()
    elsewhere = replace(
        Inspection(Storage(str(night.images)), night.folder, QUICK, "f"), config=QUICK.updated({"device": "cuda:7"})
    )
    record = inspect_image(entries[0], elsewhere)
    assert (record.status, record.lasting) == ("failed", False)
    assert "cuda:7" in record.error
