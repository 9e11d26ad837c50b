import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import xarray
import zarr

from ssdnet_core.config import Config
from tasks.batch import DamagedBatchError
from tasks.batch_results import BatchResults
from tasks.image_figures import write_figures
from tasks.manifest import ImageEntry
from tasks.maps import LostMapError, clear_maps, damaged_maps, prepare_maps, read_map, write_map, written_maps
from tasks.records import failed_record
from tasks.storage import Storage
from tasks.storage_answers import StorageError
from tests.tasks.mapped import SHAPES, manifest_of, random_map, record_of


@pytest.fixture
def folder(tmp_path):
    return Storage(str(tmp_path))


def test_maps_of_different_sizes_share_one_array_and_come_back_within_float16(folder):
    manifest = manifest_of(SHAPES)
    prepare_maps(folder, manifest)
    for entry in manifest.entries:
        write_map(folder, entry.index, anomaly_map=random_map(entry))
    for entry in manifest.entries:
        np.testing.assert_allclose(read_map(folder, record_of(entry)), random_map(entry), rtol=1e-3)


def test_the_helper_gives_a_map_at_the_images_own_size(folder):
    manifest = manifest_of([(300, 512)])
    prepare_maps(folder, manifest)
    [entry] = manifest.entries
    digest = write_map(folder, 0, anomaly_map=np.full(entry.working_shape(256), 7, dtype=np.float32))
    enlarged = read_map(folder, record_of(entry, map_digest=digest), original_size=True)
    assert enlarged.shape == (300, 512)
    assert (enlarged == 7).all()


def test_the_digest_is_that_of_the_stored_values_and_not_of_the_canvas(folder, tmp_path):
    small, large = manifest_of([(64, 64)]), manifest_of([(64, 64), (128, 128)])
    values = random_map(small.entries[0])
    prepare_maps(folder, small)
    prepare_maps(Storage(str(tmp_path / "large")), large)
    digest = write_map(folder, 0, anomaly_map=values)
    assert digest == write_map(Storage(str(tmp_path / "large")), 0, anomaly_map=values)
    assert digest == hashlib.sha256(values.astype(np.float16).tobytes()).hexdigest()


def test_a_cleared_map_is_nan_and_leaves_no_chunk_and_the_others_stay(folder):
    manifest = manifest_of(SHAPES)
    prepare_maps(folder, manifest)
    for entry in manifest.entries:
        write_map(folder, entry.index, anomaly_map=random_map(entry))
    clear_maps(folder, [1])
    assert written_maps(folder) == {entry.index for entry in manifest.entries} - {1}
    with xarray.open_zarr(f"{folder.address}/maps.zarr", consolidated=False) as store:
        gone = np.isnan(store.anomaly_map.values).all(axis=(1, 2))
    assert gone.tolist() == [entry.index == 1 for entry in manifest.entries]


def test_values_beyond_float16_are_cut_and_stay_finite(folder):
    manifest = manifest_of([(64, 64)])
    prepare_maps(folder, manifest)
    digest = write_map(folder, 0, anomaly_map=np.full((64, 64), 1e9, dtype=np.float32))
    assert np.isfinite(read_map(folder, record_of(manifest.entries[0], map_digest=digest))).all()


def test_a_store_that_grows_keeps_its_maps_even_when_the_canvas_does_too(folder):
    before, after = manifest_of(SHAPES[:1]), manifest_of(SHAPES)
    prepare_maps(folder, before)
    write_map(folder, 0, anomaly_map=random_map(before.entries[0]))
    write_figures(folder, BatchResults(before, {0: record_of(before.entries[0])}))
    prepare_maps(folder, after)
    for entry in after.entries[1:]:
        write_map(folder, entry.index, anomaly_map=random_map(entry))
    write_figures(folder, BatchResults(after, {entry.index: record_of(entry) for entry in after.entries}))
    for entry in after.entries:
        np.testing.assert_allclose(read_map(folder, record_of(entry)), random_map(entry), rtol=1e-3)
    with xarray.open_zarr(f"{folder.address}/maps.zarr") as store:
        assert dict(store.sizes) == {"image": 3, "y": 256, "x": 437}


def test_a_store_opens_after_its_manifest_was_lost_and_the_images_had_become_fewer(folder):
    before, after = manifest_of(SHAPES), manifest_of(SHAPES[:2])
    prepare_maps(folder, before)
    for entry in before.entries:
        write_map(folder, entry.index, anomaly_map=random_map(entry))
    prepare_maps(folder, after)
    write_figures(folder, BatchResults(after, {entry.index: record_of(entry) for entry in after.entries}))
    with xarray.open_zarr(f"{folder.address}/maps.zarr") as store:
        assert store.sizes["image"] == 2
    for entry in after.entries:
        np.testing.assert_allclose(read_map(folder, record_of(entry)), random_map(entry), rtol=1e-3)


def objects(folder: Storage) -> int:
    """Number of stored chunks of maps."""
    return len(folder.below("maps.zarr/anomaly_map/c").list())


UNREADABLE = replace(manifest_of([]), entries=(ImageEntry(index=0, key="0.png", etag="", size=1, problem="no image"),))


@pytest.mark.parametrize("first", [UNREADABLE, manifest_of([(40, 40)])], ids=["unreadable", "small"])
@pytest.mark.parametrize("later", [(300, 512), (256, 2000), (40, 90)], ids=str)
def test_the_first_images_do_not_cut_the_maps_of_later_ones_small(folder, first, later):
    prepare_maps(folder, first)
    grown = manifest_of([(40, 40), later])
    prepare_maps(folder, grown)
    write_map(folder, 1, anomaly_map=random_map(grown.entries[1]))
    np.testing.assert_allclose(read_map(folder, record_of(grown.entries[1])), random_map(grown.entries[1]), rtol=1e-3)
    assert objects(folder) == 1
    write_figures(folder, BatchResults(grown, {1: record_of(grown.entries[1])}))
    with xarray.open_zarr(f"{folder.address}/maps.zarr") as store:
        height, width = grown.entries[1].working_shape(256)
        assert np.isfinite(store.anomaly_map[1, :height, :width].values).all()


def test_maps_that_are_there_stay_in_chunks_that_are_never_tiny(folder):
    before, after = manifest_of([(40, 40)]), manifest_of([(40, 40), (256, 700)])
    prepare_maps(folder, before)
    write_map(folder, 0, anomaly_map=random_map(before.entries[0]))
    prepare_maps(folder, after)
    write_map(folder, 1, anomaly_map=random_map(after.entries[1]))
    for entry in after.entries:
        np.testing.assert_allclose(read_map(folder, record_of(entry)), random_map(entry), rtol=1e-3)
    assert objects(folder) == 1 + 3


@pytest.mark.parametrize("refused", [(1, 6_000_000), (40_000, 31)])
def test_an_image_that_is_refused_for_its_size_makes_no_room_for_a_map(folder, refused):
    prepare_maps(folder, manifest_of([(256, 256), refused]))
    array = zarr.open_array(f"{folder.address}/maps.zarr/anomaly_map", mode="r")
    assert (array.shape, array.chunks) == ((2, 256, 256), (1, 256, 256))


def test_a_working_size_far_beyond_the_images_makes_no_larger_chunks(folder):
    manifest = replace(manifest_of([(512, 300)]), config=Config().updated({"working_size": 8192}))
    prepare_maps(folder, manifest)
    assert zarr.open_array(f"{folder.address}/maps.zarr/anomaly_map", mode="r").chunks == (1, 512, 300)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("gone", "is gone"),
        ("cut", "cannot be read"),
        ("store", "cannot be read"),
        ("shorter", "cannot be read"),
        ("another's", "is not the one that its record is of"),
    ],
)
def test_a_map_that_is_lost_is_named_with_what_to_do(folder, damage, reason):
    manifest = manifest_of(SHAPES)
    prepare_maps(folder, manifest)
    for entry in manifest.entries:
        write_map(folder, entry.index, anomaly_map=random_map(entry))
    chunk = "maps.zarr/anomaly_map/c/1/0/0"
    if damage == "cut":
        folder.write(chunk, folder.read(chunk)[:100])
    elif damage == "shorter":
        # As a partial copy leaves it: the array of an earlier listing.
        prepared = json.loads(folder.read("maps.zarr/anomaly_map/zarr.json"))
        folder.write(
            "maps.zarr/anomaly_map/zarr.json", json.dumps({**prepared, "shape": [1, *prepared["shape"][1:]]}).encode()
        )
    elif damage == "another's":
        write_map(folder, 1, anomaly_map=random_map(manifest.entries[1]) + 1)
    else:
        folder.delete(chunk if damage == "gone" else "maps.zarr/anomaly_map/zarr.json")
    with pytest.raises(LostMapError, match=rf"the map of 1\.png .*{reason}.*Delete .*/records/0000001\.json and run"):
        read_map(folder, record_of(manifest.entries[1]))


def test_damaged_maps_are_those_that_are_not_what_their_records_say(folder):
    manifest = manifest_of([*SHAPES, (32, 32)])
    prepare_maps(folder, manifest)
    for entry in manifest.entries[:3]:
        write_map(folder, entry.index, anomaly_map=random_map(entry))
    records = [record_of(entry) for entry in manifest.entries[:3]]
    failed = failed_record(manifest.entries[3], "broken", fingerprint="f", lasting=True)
    assert damaged_maps(folder, [*records, failed]) == set()
    write_map(folder, 0, anomaly_map=random_map(manifest.entries[0]) + 1)
    folder.delete("maps.zarr/anomaly_map/c/2/0/0")
    assert damaged_maps(folder, [*records, failed]) == {0, 2}


def test_a_map_that_the_store_does_not_give_is_not_taken_for_a_damaged_one(folder, tmp_path):
    [entry] = manifest_of(SHAPES[:1]).entries
    prepare_maps(folder, manifest_of(SHAPES[:1]))
    chunk = tmp_path / "maps.zarr" / "anomaly_map" / "c" / "0" / "0" / "0"
    chunk.parent.mkdir(parents=True)
    chunk.symlink_to(chunk)
    for read in (lambda: damaged_maps(folder, [record_of(entry)]), lambda: read_map(folder, record_of(entry))):
        with pytest.raises(
            StorageError, match=r"cannot read the map of 0\.png in .*maps\.zarr: a link in it leads back"
        ):
            read()


def test_maps_count_as_written_only_with_the_metadata_of_their_array(folder):
    assert written_maps(folder) == set()
    manifest = manifest_of(SHAPES)
    prepare_maps(folder, manifest)
    for index in (0, 2):
        write_map(folder, index, anomaly_map=random_map(manifest.entries[index]))
    assert written_maps(folder) == {0, 2}
    folder.write("maps.zarr/anomaly_map/c/2/0/0", b"")
    assert written_maps(folder) == {0}
    folder.delete("maps.zarr/anomaly_map/zarr.json")
    before = written_maps(folder)
    prepare_maps(folder, manifest)
    assert before == written_maps(folder) == set()


def test_what_a_mac_leaves_among_the_maps_is_none_of_them(folder, tmp_path):
    manifest = manifest_of(SHAPES)
    prepare_maps(folder, manifest)
    write_map(folder, 0, anomaly_map=random_map(manifest.entries[0]))
    write_map(folder, 1, anomaly_map=random_map(manifest.entries[1]))
    folder.delete("maps.zarr/anomaly_map/c/1/0/0")
    folders = [tmp_path / "maps.zarr", *(path for path in (tmp_path / "maps.zarr").rglob("*") if path.is_dir())]
    for here in folders:
        for name in (".DS_Store", "._0", "._zarr.json"):
            (here / name).write_bytes(b"Mac OS X")
    assert written_maps(folder) == {0}
    prepare_maps(folder, manifest_of([*SHAPES, (64, 64)]))
    clear_maps(folder, [0])
    assert written_maps(folder) == set()


def test_damaged_metadata_are_named_with_what_to_do(folder):
    manifest = manifest_of(SHAPES[:1])
    records = {0: record_of(manifest.entries[0])}

    def write() -> None:
        prepare_maps(folder, manifest)
        write_map(folder, 0, anomaly_map=random_map(manifest.entries[0]))

    for content in (b"[]", b"\0" * 20):
        write()
        folder.write("maps.zarr/zarr.json", content)
        named = rf"{folder.address}/maps\.zarr/zarr\.json is damaged: .*: delete that object, and inspect again"
        for call in (
            lambda: prepare_maps(folder, manifest),
            lambda: write_figures(folder, BatchResults(manifest, records)),
        ):
            with pytest.raises(DamagedBatchError, match=named):
                call()
        folder.delete("maps.zarr/zarr.json")
        prepare_maps(folder, manifest)
        assert read_map(folder, records[0]).shape == (64, 64)

        folder.write("maps.zarr/anomaly_map/zarr.json", content)
        named = rf"anomaly_map/zarr\.json is damaged: .*: delete {folder.address}/maps\.zarr, and inspect again"
        for call in (write, lambda: read_map(folder, records[0])):
            with pytest.raises(DamagedBatchError, match=named):
                call()
        shutil.rmtree(folder.path("maps.zarr"))


def test_of_metadata_that_cannot_be_understood_only_the_beginning_of_the_error_is_told(folder):
    prepare_maps(folder, manifest_of(SHAPES))
    folder.write("maps.zarr/zarr.json", json.dumps({"zarr_format": "x" * 10_000}).encode())
    with pytest.raises(DamagedBatchError, match=r"zarr\.json is damaged: .*x: delete that object") as damaged:
        prepare_maps(folder, manifest_of(SHAPES))
    assert len(str(damaged.value)) < 600


def test_an_array_of_maps_that_cannot_be_made_is_an_error_that_names_where(folder, tmp_path):
    (tmp_path / "maps.zarr").write_bytes(b"in the way")
    with pytest.raises(StorageError, match=r"cannot write the array of maps to .*maps\.zarr: "):
        prepare_maps(folder, manifest_of(SHAPES))


def test_an_image_of_the_least_size_has_room_for_its_map(folder):
    manifest = manifest_of([(64, 64), (32, 300)])
    prepare_maps(folder, manifest)
    entry = manifest.entries[1]
    write_map(folder, 1, anomaly_map=random_map(entry))
    np.testing.assert_allclose(read_map(folder, record_of(entry)), random_map(entry), rtol=1e-3)
