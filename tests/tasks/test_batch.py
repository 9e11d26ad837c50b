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
    ImageEntry,
    Manifest,
    batch_name,
    check_batch_name,
    folder_names,
    open_batch,
    read_manifest,
)
from tasks.storage import Storage

KEYS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), unique=True, max_size=8)


def manifest(*keys: str, settings: Config | None = None, source: str = "/in") -> Manifest:
    entries = tuple(ImageEntry(index=i, key=key, etag=f"e{i}", size=1) for i, key in enumerate(keys))
    return Manifest(batch="n", input=source, pattern="", config=settings or Config(), entries=entries)


@given(KEYS)
def test_a_manifest_survives_its_json(keys):
    original = manifest(*keys, settings=Config().updated({"fit.steps": 7}))
    assert Manifest.from_json(original.to_json()) == original


def test_a_manifest_with_fields_of_a_later_version_is_read_without_them():
    original = manifest("a.png")
    tree = json.loads(original.to_json())
    later = {**tree, "camera": "left", "entries": [{**entry, "taken": 1.5} for entry in tree["entries"]]}
    assert Manifest.from_json(json.dumps(later).encode()) == original


@given(KEYS, KEYS)
def test_known_images_keep_their_index_and_new_ones_follow(before, after):
    old = manifest(*before)
    merged = old.merged(manifest(*after).entries)
    assert [entry.index for entry in merged.entries] == list(range(len(merged.entries)))
    assert [entry.key for entry in merged.entries[: len(before)]] == before
    assert {entry.key for entry in merged.entries if entry.present} == set(after)


def test_a_replaced_image_keeps_its_index_and_takes_the_new_etag():
    replaced = replace(manifest("a", "b").entries[1], etag="new", index=0)
    merged = manifest("a", "b").merged((replaced,))
    assert (merged.entries[1].index, merged.entries[1].etag) == (1, "new")
    assert not merged.entries[0].present


def test_an_image_that_cannot_be_read_any_more_stays_as_it_was_and_is_replaced_by_another_one():
    before = manifest("a", "b")
    unreadable = tuple(replace(entry, etag="", problem="there is no such file") for entry in before.entries)
    assert before.merged(unreadable) == before
    absent = before.merged(())
    assert absent.merged(unreadable) == before
    never = before.merged(unreadable[:1]).merged(unreadable)
    assert never == before
    founded = replace(before, entries=unreadable)
    assert founded.merged(unreadable) == founded
    assert founded.merged(before.entries) == before


@pytest.mark.parametrize(
    ("etag", "mask", "kept"),
    [
        ("1+", "a.png", True),
        ("+2", "a.png", True),
        ("+", "a.png", True),
        ("", "", True),
        ("9+", "a.png", False),  # The image was replaced as well.
        ("1+", "a.tif", False),  # It has another mask.
        ("1", "", False),  # It has none any more.
        ("1+9", "a.png", False),
    ],
)
def test_an_image_whose_mask_cannot_be_read_any_more_stays_as_it_was_unless_more_has_changed(etag, mask, kept):
    [entry] = manifest("a").entries
    before = replace(manifest("a"), entries=(replace(entry, etag="1+2", mask="a.png"),))
    found = replace(entry, etag=etag, mask=mask)
    assert before.merged((found,)).entries == (before.entries if kept else (found,))


def test_an_image_that_had_no_mask_is_not_kept_without_the_one_that_it_has_now():
    [entry] = manifest("a").entries
    found = replace(entry, etag=f"{entry.etag}+", mask="a.png")
    assert manifest("a").merged((found,)).entries == (found,)


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
