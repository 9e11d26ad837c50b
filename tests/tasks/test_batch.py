import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssdnet_core import config
from ssdnet_core.config import Config
from tasks.address import AddressError
from tasks.batch import (
    MAX_NAME,
    BatchConflictError,
    DamagedBatchError,
    batch_name,
    check_batch_name,
    folder_names,
    open_batch,
    read_manifest,
)
from tasks.storage import Storage
from tests.tasks.made_manifest import manifest


@pytest.mark.parametrize(
    ("address", "pattern", "name"),
    [
        ("/data/carpet/test/defect", "", "carpet-test-defect"),
        ("s3://line-1/2026-11-22", "", "line-1-2026-11-22"),
        ("/night", "*.png", "night-png"),
        ("/night", "a.png", "night-a.png"),
        ("/night", "cam_?/IMG_*[0-9].png", "night-cam-IMG-0-9-png"),
        ("/demo/night", "**/test/*/*", "demo-night-test"),
        ("/a b/ü", "", "a-b"),
        ("/", "", "batch"),
        ("s3://trends", "", "trends-batch"),
    ],
)
def test_a_batch_is_named_after_its_input(address, pattern, name):
    assert batch_name(address, pattern) == name


@given(st.text(), st.text())
def test_every_default_name_is_a_valid_one(address, pattern):
    name = batch_name(address.replace("\0", ""), pattern)
    assert check_batch_name(name) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is empty"),
        ("../up", "has '/' in it: use letters"),
        ("a/b", "has '/' in it"),
        ("-option", "begins with '-': begin with"),
        ("ü", "has 'ü' in it"),
        ("a b", "has ' ' in it"),
        ("a\n", r"has '\\n' in it"),
        ("a" * (MAX_NAME + 1), "has 247 characters: give one of at most 246"),
        ("trends", "is the folder in which the trends of all nights are drawn"),
    ],
)
def test_a_name_that_cannot_be_a_folders_is_refused_with_what_is_wrong(name, said):
    with pytest.raises(BatchConflictError, match=f"^batch name '.*' {said}"):
        check_batch_name(name)


def test_the_longest_name_leaves_room_for_other_settings(tmp_path):
    name = batch_name("/" + "a" * 300)
    assert len(name) == MAX_NAME
    (tmp_path / folder_names(name, "0123456789ab")[1]).mkdir()


def test_results_whose_address_zarr_would_take_for_a_chain_are_refused(tmp_path):
    with pytest.raises(AddressError, match="'::'"):
        open_batch(Storage(f"{tmp_path}/a::b"), manifest("a.png"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("prefix", ["plant*", "plant?", "line [3]"])
def test_results_in_a_bucket_whose_address_zarr_would_take_for_a_pattern_are_refused(tmp_path, prefix):
    with pytest.raises(AddressError, match=r"are a pattern, .* give a prefix without them"):
        open_batch(Storage(f"s3://bucket/{prefix}"), manifest("a.png"))
    assert open_batch(Storage(f"{tmp_path}/{prefix}"), manifest("a.png")).exists("manifest.json")


def test_the_same_batch_is_found_again(tmp_path):
    results = Storage(str(tmp_path))
    first = open_batch(results, manifest())
    again = open_batch(results, manifest())
    assert first.address == again.address == str(tmp_path / "n")


def test_other_settings_get_a_folder_of_their_own_and_find_it_again(tmp_path):
    results = Storage(str(tmp_path))
    open_batch(results, manifest())
    other = manifest(settings=Config().updated({"seed": 1}))
    folder = open_batch(results, other)
    assert folder.address == str(tmp_path / f"n~{other.fingerprint[:8]}")
    assert open_batch(results, other) == folder
    assert read_manifest(folder).config == other.config
    assert open_batch(results, manifest()).address == str(tmp_path / "n")


def test_another_version_of_the_method_leaves_the_batches_of_earlier_ones_alone(tmp_path, monkeypatch):
    results = Storage(str(tmp_path))
    earlier = manifest("a.png")
    open_batch(results, earlier)
    monkeypatch.setattr(config, "METHOD_VERSION", config.METHOD_VERSION + 1)
    later = manifest("a.png")
    folder = open_batch(results, later)
    assert folder.address == str(tmp_path / f"n~{later.fingerprint[:8]}")
    assert later.fingerprint != earlier.fingerprint == read_manifest(results.below("n")).fingerprint


def test_a_batch_whose_settings_this_version_does_not_know_is_left_alone(tmp_path):
    results = Storage(str(tmp_path))
    stored = json.loads(manifest("a.png").to_json())
    stored["config"]["fit"]["optimiser"] = "sgd"
    stored["fingerprint"] = "0" * 12
    results.write("n/manifest.json", json.dumps(stored).encode())
    assert open_batch(results, manifest("a.png")).address == str(tmp_path / f"n~{manifest().fingerprint[:8]}")
    assert json.loads(results.read("n/manifest.json")) == stored
    with pytest.raises(DamagedBatchError, match=r"of another version.*optimiser"):
        read_manifest(results.below("n"))


def test_a_batch_that_is_there_is_not_written_over_even_by_a_store_that_would(tmp_path, monkeypatch):
    results = Storage(str(tmp_path))
    folder = open_batch(results, manifest())

    def write(self, key, content):
        self.write(key, content)
        return True

    folder.write("manifest.json", manifest("a.png").to_json())
    monkeypatch.setattr(Storage, "create", write)
    assert open_batch(results, manifest()) == folder
    assert len(read_manifest(folder).entries) == 1


def test_another_input_of_the_same_name_is_refused_with_both_inputs(tmp_path):
    results = Storage(str(tmp_path))
    open_batch(results, manifest())
    with pytest.raises(BatchConflictError, match=r"/in.*not from /other.*--batch"):
        open_batch(results, manifest(source="/other"))


def test_another_pattern_of_the_same_name_is_refused_with_both_patterns(tmp_path):
    results = Storage(str(tmp_path))
    open_batch(results, replace(manifest(), pattern="*.png"))
    with pytest.raises(BatchConflictError, match=r"/in \*\.png, not from /in \*\.jpg.*--batch"):
        open_batch(results, replace(manifest(), pattern="*.jpg"))


@pytest.mark.parametrize("own", ["images.csv", "report/images/mine.png", "maps.zarr/zarr.json", "notes"])
def test_a_folder_of_other_things_is_no_batchs_and_stays_as_it_is(tmp_path, own):
    folder = Storage(str(tmp_path / "n"))
    folder.write(own, b"mine")
    with pytest.raises(
        BatchConflictError, match=rf"n holds other things than a batch, as {own.split('/')[0]}: .*--batch"
    ):
        open_batch(Storage(str(tmp_path)), manifest())
    assert [entry.key for entry in folder.list()] == [own]


@pytest.mark.parametrize("below", ["", "/camera"])
def test_a_folder_that_the_images_lie_in_is_no_batchs(tmp_path, below):
    images = f"{tmp_path / 'n'}{below}"
    with pytest.raises(
        BatchConflictError, match=rf"the images of {images} lie in {tmp_path / 'n'}: .* other --results"
    ):
        open_batch(Storage(str(tmp_path)), replace(manifest(), input=images))
    assert not list(tmp_path.iterdir())


def test_a_folder_whose_name_the_input_only_begins_with_is_free(tmp_path):
    assert open_batch(Storage(str(tmp_path)), replace(manifest(), input=str(tmp_path / "n-1"))).name == "n"


@pytest.mark.parametrize("left", ["", ".DS_Store", "leases/000001.json", "records/0000000.json"])
def test_an_empty_folder_and_a_batchs_that_lost_its_manifest_are_taken(tmp_path, left):
    (tmp_path / "n").mkdir()
    if left:
        Storage(str(tmp_path / "n")).write(left, b"")
    assert read_manifest(open_batch(Storage(str(tmp_path)), manifest())) == manifest()


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        *((cut_off, r"is damaged: .* Delete that file alone") for cut_off in (b"", b'{"batch": "n", ', b"\xff")),
        *((another, r"is damaged, or of another version: .* Move .*/n away") for another in (b"{}", b"[]")),
    ],
)
def test_a_damaged_manifest_is_named_with_what_to_do(tmp_path, content, advice):
    folder = open_batch(Storage(str(tmp_path)), manifest())
    folder.write("manifest.json", content)
    for read in (lambda: open_batch(Storage(str(tmp_path)), manifest()), lambda: read_manifest(folder)):
        with pytest.raises(DamagedBatchError, match=rf"n/manifest\.json {advice}"):
            read()
