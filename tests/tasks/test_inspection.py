import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import tasks.decoding
import tasks.inspection
import tasks.local_files
from ssdnet_core import evidence, groups, localize
from ssdnet_core.config import METHOD_VERSION, Config
from ssdnet_core.devices import resolve_device
from ssdnet_core.synthetic import sample
from tasks.discovery import discover, list_input
from tasks.inspection import PIXELS_TOGETHER, Inspection, fitting_groups, inspect_images
from tasks.manifest import ImageEntry, Manifest
from tasks.maps import prepare_maps, read_map, written_maps
from tasks.records import ImageRecord, read_records
from tasks.side_work import SideWork
from tasks.storage import Storage
from tests.conftest import wait_for

QUICK = Config().updated(
    {"fit.steps": 3, "working_size": 64, "fit.crop": 32, "network.width": 8, "precision": "float32"}
)


class Night:
    """A folder of images with masks, and what is needed to inspect it here, without workers."""

    def __init__(self, folder: Path) -> None:
        self.images, self.masks = folder / "night", folder / "masks"
        self.images.mkdir()
        self.masks.mkdir()
        self.folder = Storage(str(folder / "results"))

    def entries(self):
        source = Storage(str(self.images))
        listing = list_input(source, masks=Storage(str(self.masks)) if any(self.masks.iterdir()) else None)
        return discover(source, listing.images, masks=listing.masks.of_images)

    def add(self, key: str, *, seed: int = 0, size: tuple[int, int] = (96, 80)) -> None:
        Image.fromarray(sample("leather", "hole", size=size, seed=seed).pixels).save(self.images / key)

    def inspection(self, *, group: int = 1, folder: Storage | None = None) -> Inspection:
        """Of the images there are now."""
        manifest = Manifest(
            batch="n", input=str(self.images), pattern="", config=QUICK, entries=self.entries(), masks=str(self.masks)
        )
        prepare_maps(folder or self.folder, manifest)
        return Inspection(
            source=Storage(str(self.images)),
            folder=folder or self.folder,
            config=QUICK,
            fingerprint=manifest.fingerprint,
            masks=Storage(str(self.masks)),
            group=group,
        )

    def inspect(self) -> ImageRecord:
        [record] = inspect_images(self.entries()[:1], self.inspection())
        return record


@pytest.fixture
def night(tmp_path):
    made = sample("leather", "none", size=(96, 80), seed=2)
    night = Night(tmp_path)
    Image.fromarray(made.pixels).save(night.images / "a.png")
    return night


def test_the_record_is_written_beside_the_map(night):
    record = night.inspect()
    assert (record.status, record.device) == ("inspected", str(resolve_device("auto")))
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


def test_what_an_alpha_channel_leaves_out_has_no_influence(night):
    pixels = sample("leather", "none", size=(96, 80), seed=2).pixels
    alpha = np.full((96, 80, 1), 255, dtype=np.uint8)
    alpha[30:70, 10:40] = 0
    digests = []
    for colour in (0, 255):
        pixels[30:70, 10:40] = colour
        Image.fromarray(np.concatenate([pixels, alpha], axis=2)).save(night.images / "a.png")
        digests.append(night.inspect().map_digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize(("quality", "warned"), [(10, True), (90, False)])
def test_a_jpeg_of_very_low_quality_is_told_of_on_its_record_and_has_the_map_of_its_pixels(night, quality, warned):
    pixels = Image.open(night.images / "a.png")
    pixels.save(night.images / "a.png", "JPEG", quality=quality)
    compressed = night.inspect()
    assert ["JPEG is strongly compressed" in warning for warning in compressed.warnings] == ([True] if warned else [])
    Image.fromarray(np.asarray(Image.open(night.images / "a.png"))).save(night.images / "a.png", "PNG")
    plain = night.inspect()
    assert plain.warnings == ()
    assert plain.map_digest == compressed.map_digest


@pytest.mark.parametrize("hidden", [np.nan, np.inf])
def test_pixels_that_are_no_number_are_left_out_as_masked_ones_and_told_of(night, hidden):
    pixels = np.asarray(Image.open(night.images / "a.png").convert("L"), dtype=np.float32)
    tifffile.imwrite(night.images / "a.png", pixels)
    mask = np.full((96, 80), 255, dtype=np.uint8)
    mask[24:48, 10:50] = 0
    Image.fromarray(mask).save(night.masks / "a.png")
    masked = night.inspect()
    (night.masks / "a.png").unlink()
    pixels[24:48, 10:50] = hidden
    tifffile.imwrite(night.images / "a.png", pixels)
    told = night.inspect()
    assert masked.warnings == ()
    assert told.warnings == ("pixels that are no number or infinite were left out: 12.5% of the image",)
    assert told.map_digest == masked.map_digest


def test_a_changed_mask_changes_the_etag(night):
    before = night.entries()[0].etag
    Image.fromarray(np.full((96, 80), 255, dtype=np.uint8)).save(night.masks / "a.tif")
    assert night.entries()[0].etag != before
    assert night.entries()[0].mask == "a.tif"


@pytest.mark.parametrize(
    ("mask", "named"),
    [
        (Image.new("L", (96, 80), 255), "96 x 80 pixels, its image 80 x 96"),
        (Image.new("L", (80, 96), 0), "no pixel of the image is left to inspect: all are masked"),
        (Image.new("LA", (80, 96), (255, 0)), "its mask a.png: it has transparent pixels: flatten it"),
        (
            Image.new("L", (80, 96), 3),
            "its mask a.png: it is 3 where it is brightest, of 255: make what it marks",
        ),
        (
            Image.new("I;16", (80, 96), 255),
            "its mask a.png: it is 255 where it is brightest, of 65535",
        ),
    ],
)
def test_a_mask_that_does_not_fit_is_a_lasting_failure_with_its_reason(night, mask, named):
    mask.save(night.masks / "a.png")
    record = night.inspect()
    assert (record.status, record.lasting) == ("failed", True)
    assert named in record.error


def test_a_mask_that_cannot_be_decoded_is_told_from_its_image(night):
    (night.masks / "a.png").write_bytes(b"no image")
    record = night.inspect()
    assert (record.status, record.lasting) == ("failed", True)
    assert record.error.startswith("its mask a.png: not a PNG")


@pytest.mark.parametrize("masked", [False, True])
def test_what_cannot_be_read_under_its_name_is_a_lasting_failure_with_a_mask_or_without(night, masked):
    (night.images / "a.png").unlink()
    (night.images / "a.png").symlink_to("nowhere.png")
    if masked:
        Image.new("L", (80, 96), 255).save(night.masks / "a.png")
    record = night.inspect()
    assert (record.status, record.lasting) == ("failed", True)


def test_an_image_that_is_transparent_throughout_says_so(night):
    Image.new("LA", (80, 96), (90, 0)).save(night.images / "a.png")
    assert "all are masked, transparent" in night.inspect().error


def test_a_setting_that_does_not_fit_the_image_is_a_lasting_failure(night):
    Image.new("L", (32, 32), 90).save(night.images / "a.png")
    block = replace(night.inspection(), config=QUICK.updated({"reconstruction.block": 32}))
    [record] = inspect_images(night.entries(), block)
    assert (record.status, record.lasting) == ("failed", True)
    assert "reconstruction.block <= 16" in record.error


def test_an_image_removed_after_the_listing_may_come_back(night):
    entries = night.entries()
    (night.images / "a.png").unlink()
    [record] = inspect_images(
        entries, Inspection(source=Storage(str(night.images)), folder=night.folder, config=QUICK, fingerprint="f")
    )
    assert (record.status, record.lasting) == ("failed", False)
    assert "a.png" in record.error


@pytest.mark.parametrize("size", [(64, 200), (96, 80)])
@pytest.mark.parametrize("folder", ["images", "masks"])
def test_what_was_replaced_since_it_was_listed_is_noticed_and_may_come_back(night, folder, size):
    Image.new("L", (80, 96), 255).save(night.masks / "a.png")
    entries, inspection = night.entries(), night.inspection()
    Image.fromarray(sample("tile", "hole", size=size).pixels).save(getattr(night, folder) / "a.png")
    [record] = inspect_images(entries, inspection)
    assert (record.status, record.lasting) == ("failed", False)
    assert record.error == "a.png or its mask was replaced since it was listed: run again"


def test_an_image_without_a_mask_that_was_replaced_since_it_was_listed_is_named(night):
    night.add("b.png")
    entries, inspection = night.entries(), night.inspection()
    night.add("b.png", seed=1)
    [record] = inspect_images([entries[-1]], inspection)
    assert record.error == "b.png was replaced since it was listed: run again"


def test_any_etag_is_that_of_an_object_that_was_not_replaced(night, monkeypatch):
    monkeypatch.setattr(tasks.local_files, "file_etag", lambda status: f"CK+b{status.st_size}=")
    assert night.inspect().status == "inspected"


def test_an_image_that_could_be_read_only_after_the_listing_is_a_failure_that_may_pass_and_says_why(night):
    (night.images / "b.png").write_bytes(b"no picture yet")
    [_, entry] = night.entries()
    night.add("b.png")
    [record] = inspect_images([entry], night.inspection())
    assert record.passing
    assert record.error == f"b.png can be read now, but could not be when listed ({entry.problem}): run again"
    [_, entry] = night.entries()
    [record] = inspect_images([entry], night.inspection())
    assert record.status == "inspected"


def test_an_image_that_was_refused_when_listed_is_refused_again_without_reading_it_whole(night, monkeypatch):
    monkeypatch.setattr(tasks.decoding, "MAX_BYTES", 10**6)
    (night.images / "b.png").write_bytes(b"no picture" * 50_000)
    (night.images / "c.tif").write_bytes(b"II*\0" + bytes(2 * 10**6))
    read = []
    inspection = night.inspection()
    watched = replace(inspection, source=WatchedStorage(inspection.source.url, tell=read.append))
    broken, huge = inspect_images(night.entries()[1:], watched)
    assert (broken.lasting, huge.lasting) == (True, True)
    assert broken.error.startswith("not a PNG")
    assert huge.error.startswith("file has 0.002 GB, over the limit of 0.001: cut it into parts")
    assert read == []


def test_a_worker_with_another_version_of_the_method_inspects_nothing_and_says_so(night):
    inspection = replace(night.inspection(), method_version=METHOD_VERSION + 1)
    [record] = inspect_images(night.entries(), inspection)
    assert record.passing
    assert f"has version {METHOD_VERSION} of the method, the run version {METHOD_VERSION + 1}: install" in record.error
    assert read_records(night.folder, night.entries()) == {0: record}
    assert written_maps(night.folder) == set()


def test_a_setting_for_another_machine_is_a_failure_that_may_pass(night):
    entries = night.entries()
    elsewhere = replace(
        Inspection(source=Storage(str(night.images)), folder=night.folder, config=QUICK, fingerprint="f"),
        config=QUICK.updated({"device": "cuda:7"}),
    )
    [record] = inspect_images(entries, elsewhere)
    assert (record.status, record.lasting) == ("failed", False)
    assert "cuda:7" in record.error


@dataclass(frozen=True)
class WatchedStorage(Storage):
    """A storage that tells of every object before it is read or written."""

    tell: Callable[[str], object] = field(kw_only=True)

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        self.tell(key)
        return super().read_with_etag(key)

    def write(self, key: str, content: bytes) -> None:
        self.tell(key)
        super().write(key, content)


def test_a_group_of_one_gives_to_the_byte_what_localize_gives(night):
    record = night.inspect()
    result = localize(np.asarray(Image.open(night.images / "a.png")), config=QUICK)
    assert (record.score, record.defective, record.regions) == (result.score, result.defective, result.regions)
    assert record.map_digest == hashlib.sha256(result.working_map.astype(np.float16).tobytes()).hexdigest()


def test_in_a_group_every_image_comes_to_what_it_comes_to_alone(night, tmp_path):
    """Good, masked, constant, of other sizes, broken in five ways: each in a group, each alone."""
    for seed, key in enumerate(("b.png", "masked.png", "c.png", "replaced.png", "removed.png", "d.png")):
        night.add(key, seed=seed)
    night.add("other-size.png", size=(200, 70))
    night.add("bad-mask.png")
    Image.new("L", (80, 96), 90).save(night.images / "constant.png")
    Image.new("L", (40, 20), 90).save(night.images / "too-small.png")
    whole = (night.images / "b.png").read_bytes()
    (night.images / "cut-short.png").write_bytes(whole[: len(whole) // 2])
    (night.images / "no-image.png").write_bytes(b"no image")
    mask = np.full((96, 80), 255, dtype=np.uint8)
    mask[30:70, 10:40] = 0
    Image.fromarray(mask).save(night.masks / "masked.png")
    Image.new("L", (20, 20), 255).save(night.masks / "bad-mask.png")
    entries = night.entries()
    together = night.inspection(group=3, folder=Storage(str(tmp_path / "together")))
    alone = night.inspection(folder=Storage(str(tmp_path / "alone")))
    night.add("replaced.png", size=(64, 200))
    (night.images / "removed.png").unlink()

    of_group = inspect_images(entries, together)
    of_each = [record for entry in entries for record in inspect_images([entry], alone)]

    assert [record.key for record in of_group] == [entry.key for entry in entries]
    assert {record.key for record in of_group if record.status == "failed"} == {
        *("bad-mask.png", "cut-short.png", "no-image.png", "removed.png", "replaced.png", "too-small.png")
    }
    figures = {"score": 0.0, "seconds": 0.0, "map_digest": "", "regions": (), "regions_from": 0.0}
    for grouped, single in zip(of_group, of_each, strict=True):
        assert replace(grouped, **figures) == replace(single, **figures)
        assert grouped.score == pytest.approx(single.score, abs=0.05)
        assert len(grouped.regions) == len(single.regions)
        if grouped.status == "inspected":
            maps = read_map(together.folder, grouped), read_map(alone.folder, single)
            np.testing.assert_allclose(*maps, rtol=0.01, atol=0.01)
            assert grouped.map_digest == hashlib.sha256(maps[0].astype(np.float16).tobytes()).hexdigest()
    assert read_records(together.folder, entries) == {record.index: record for record in of_group}


def test_every_record_is_written_after_its_map(night, tmp_path):
    for key in ("b.png", "c.png", "d.png", "e.png"):
        night.add(key)
    maps = tmp_path / "results" / "maps.zarr" / "anomaly_map" / "c"
    written = []

    def look(key):
        index = int(Path(key).stem)
        written.append((index, (maps / str(index) / "0" / "0").exists()))

    inspection = night.inspection(group=2)
    inspect_images(night.entries(), replace(inspection, folder=WatchedStorage(inspection.folder.url, tell=look)))
    assert sorted(written) == [(index, True) for index in range(5)]


def test_while_a_group_is_fitted_the_next_is_read_and_the_one_before_is_written(night, monkeypatch):
    for key in ("b.png", "c.png", "d.png", "e.png", "f.png"):
        night.add(key)
    happened = {name: threading.Event() for name in ("c.png", "f.png", "0000000.json", "0000003.json")}
    # What each fit waits for, the first of which has nothing to fit: one after the other, all would wait in vain.
    awaited = [[], ["c.png"], ["f.png", "0000000.json"], ["0000003.json"]]
    plain, seen = groups.evidence_of_group, []

    def fit(working, config, *, size):
        seen.extend(happened[name].wait(30) for name in awaited.pop(0))
        return plain(working, config, size=size)

    def note(key):
        if event := happened.get(Path(key).name):
            event.set()

    monkeypatch.setattr(groups, "evidence_of_group", fit)
    inspection = night.inspection(group=2)
    watched = replace(
        inspection,
        source=WatchedStorage(inspection.source.url, tell=note),
        folder=WatchedStorage(inspection.folder.url, tell=note),
    )
    records = inspect_images(night.entries(), watched)
    assert [record.status for record in records] == ["inspected"] * 6
    assert seen == [True] * 4


def test_the_seconds_of_a_group_are_the_fits_and_not_those_of_what_is_read_beside_it(night, monkeypatch):
    for key in ("b.png", "c.png", "d.png"):
        night.add(key)
    inspect_images(night.entries(), night.inspection(group=2))  # What is loaded once in a process would count as well.
    plain_fetch, plain_reconstruction = tasks.inspection.fetch, evidence.reconstruct_in_tiles
    each, made = 0.5, []

    class WatchedSideWork(SideWork):
        def __init__(self, threads):
            super().__init__(threads)
            made.append(self)

    def fetch(entry, source, **options):
        image = plain_fetch(entry, source, **options)
        started = time.thread_time()
        while entry.key in ("c.png", "d.png") and time.thread_time() - started < each:
            pass
        return image

    def reconstruct(*arguments, **options):
        wait_for(lambda: made[-1].seconds >= 2 * each, what="the second group's reading")
        return plain_reconstruction(*arguments, **options)

    monkeypatch.setattr(tasks.inspection, "SideWork", WatchedSideWork)
    monkeypatch.setattr(tasks.inspection, "fetch", fetch)
    monkeypatch.setattr(evidence, "reconstruct_in_tiles", reconstruct)
    inspection = night.inspection(group=2, folder=Storage(f"{night.folder.address}-again"))
    started = time.process_time()
    records = inspect_images(night.entries(), inspection)
    spent = time.process_time() - started
    assert [record.status for record in records] == ["inspected"] * 4
    assert 0 < sum(record.seconds for record in records) <= spent - 2 * each


def test_a_map_that_cannot_be_written_is_a_failure_that_may_pass_and_its_group_goes_on(night, tmp_path):
    for key in ("b.png", "c.png", "d.png"):
        night.add(key)
    inspection = night.inspection(group=2)
    in_the_way = tmp_path / "results" / "maps.zarr" / "anomaly_map" / "c" / "1"
    in_the_way.parent.mkdir()
    in_the_way.write_text("a file in the folder's place")
    records = inspect_images(night.entries(), inspection)
    assert [record.status for record in records] == ["inspected", "failed", "inspected", "inspected"]
    assert records[1].passing
    assert f"cannot write the map of image 1 to {night.folder.address}/maps.zarr: " in records[1].error
    assert read_records(night.folder, night.entries()) == {record.index: record for record in records}


def test_a_single_image_takes_no_thread(night):
    threads = []
    inspection = night.inspection(group=64)
    watched = WatchedStorage(inspection.source.url, tell=lambda key: threads.append(threading.current_thread()))
    inspect_images(night.entries(), replace(inspection, source=watched))
    assert threads == [threading.main_thread()]


def test_an_image_that_the_memory_does_not_hold_fails_and_its_group_does_not(night, monkeypatch):
    for seed, key in enumerate(("b.png", "c.png", "huge.png", "d.png")):
        night.add(key, seed=seed)
    mask = np.full((96, 80), 255, dtype=np.uint8)
    mask[:20] = 0
    Image.fromarray(mask).save(night.masks / "huge.png")
    plain, fitted = groups.gather_evidence, []

    def fit(group, config):
        if any(not image.valid.all() for image in group):
            raise torch.OutOfMemoryError("CUDA out of memory")
        fitted.append(len(group))
        return plain(group, config)

    monkeypatch.setattr(groups, "gather_evidence", fit)
    records = {record.key: record for record in inspect_images(night.entries(), night.inspection(group=5))}
    huge = records.pop("huge.png")
    assert (huge.status, huge.lasting) == ("failed", False)
    assert "one image alone does not fit" in huge.error
    assert {record.status for record in records.values()} == {"inspected"}
    assert max(fitted) > 1


def test_a_lack_of_memory_that_says_nothing_of_itself_is_told_with_what_to_do(night, monkeypatch):
    def exhausted(*_, **__):
        raise MemoryError

    monkeypatch.setattr(tasks.inspection, "fetch", exhausted)
    record = night.inspect()
    assert record.passing
    assert record.error.startswith("not enough memory: give the workers more")


def test_an_image_whose_fit_diverges_may_be_tried_again_and_its_group_is_inspected(night, monkeypatch):
    for seed, key in enumerate(("b.png", "c.png")):
        night.add(key, seed=seed)
    plain = evidence.reconstruct_in_tiles

    def diverged(*arguments, **options):
        predictions = plain(*arguments, **options).clone()
        predictions[1] = torch.nan
        return predictions

    monkeypatch.setattr(evidence, "reconstruct_in_tiles", diverged)
    records = inspect_images(night.entries(), night.inspection(group=3))
    assert [record.status for record in records] == ["inspected", "failed", "inspected"]
    assert records[1].passing  # Another device may do better, and is no other setting.
    assert "the anomaly map's peak is nan" in records[1].error


@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), min_size=1, max_size=60),
    st.integers(1, 256),
    st.sampled_from([32, 256, 4000]),
)
def test_groups_hold_every_image_once_are_of_one_shape_and_no_larger_than_memory_wants(sizes, group, working_size):
    entries = [
        ImageEntry(index=i, key=f"{i}", etag="", size=0, height=height, width=width)
        for i, (height, width) in enumerate(sizes)
    ]
    here = Storage("here")
    inspection = Inspection(
        source=here, folder=here, config=Config().updated({"working_size": working_size}), fingerprint="f", group=group
    )
    found = list(fitting_groups(entries, inspection))
    assert sorted(entry.index for images in found for entry in images) == list(range(len(entries)))
    for images in found:
        assert 1 <= len(images) <= group
        shapes = {entry.working_shape(working_size) if entry.height * entry.width else None for entry in images}
        [shape] = shapes
        assert len(images) == 1 or shape is None or len(images) * shape[0] * shape[1] <= PIXELS_TOGETHER
