import os
from dataclasses import replace

import pytest

from tasks.discovery import (
    NothingToInspectError,
    discover,
    list_images,
    list_input,
)
from tasks.input_address import split_input
from tasks.keys import count_by_suffix
from tasks.storage import Storage
from tasks.storage_answers import StorageError
from tests.tasks.small_images import CountedStorage, write_image


def keys(source: Storage, pattern: str = "", *, outside: tuple[str, ...] = ()) -> list[str]:
    return [entry.key for entry in list_images(source, pattern, outside=outside)]


def test_images_are_found_below_the_folder_in_key_order_whatever_their_suffixes_case(tmp_path):
    for name in ("b.png", "a/z.JPG", "a/c.tif"):
        write_image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    assert keys(Storage(str(tmp_path))) == ["a/c.tif", "a/z.JPG", "b.png"]


def test_what_is_no_image_is_counted_by_suffix_but_for_what_is_not_looked_at(tmp_path):
    write_image(tmp_path / "a.png")
    for name in ("b.HEIC", "c.heic", "d/README", ".hidden.txt", "ground_truth/e.txt", "out/f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("old/n/manifest.json", "old/n/maps.zarr/zarr.json", "old/n/report/images/0.png", "old/g.csv"):
        Storage(str(tmp_path)).write(name, b"")
    (tmp_path / "latest").symlink_to("d")
    listing = list_input(Storage(str(tmp_path)), outside=[str(tmp_path / "out")])
    assert [image.key for image in listing.images] == ["a.png"]
    assert listing.others == {".heic": 2, "": 1, ".csv": 1}
    assert count_by_suffix(listing.others) == "1 without a suffix, 1 .csv, 2 .heic"


def test_hidden_files_truth_masks_and_results_below_the_input_are_no_images(tmp_path):
    for name in ("a.png", ".hidden.png", ".cache/b.png", "ground_truth/hole/a_mask.png", "out/n/report/images/0.jpg"):
        write_image(tmp_path / name)
    assert keys(Storage(str(tmp_path)), outside=(str(tmp_path / "out"),)) == ["a.png"]


@pytest.mark.parametrize("through_a_link", [False, True])
def test_results_below_the_input_are_left_out_by_whichever_name_they_are_given(tmp_path, through_a_link):
    for name in ("night/a.png", "night/out/b.png"):
        write_image(tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / "night")
    names = ("link", "night") if through_a_link else ("night", "link")
    source, results = (tmp_path / name for name in names)
    assert keys(Storage(str(source)), outside=(str(results / "out"),)) == ["a.png"]


@pytest.mark.parametrize("pattern", ["", "**/*.png"])
@pytest.mark.parametrize("mark", ["maps.zarr/zarr.json", "leases/0000001.json"])
@pytest.mark.parametrize("batch", ["", "n/", "older/n/"])
def test_the_gallery_of_a_batch_is_no_input_wherever_it_lies(tmp_path, batch, mark, pattern):
    storage = Storage(str(tmp_path))
    for name in ("a.png", "report/b.png", "n.d/report/c.png", f"{batch}report/images/0.png"):
        write_image(tmp_path / "input" / name)
    source = storage.below("input")
    before = keys(source, pattern)
    for name in (f"{batch}manifest.json", f"{batch}{mark}", "n.d/manifest.json"):
        source.write(name, b"")
    ours = {f"{batch}report/images/0.png"} | ({"report/b.png"} if not batch else set())
    assert set(keys(source, pattern)) == set(before) - ours


def test_what_a_linked_folder_shows_once_more_is_listed_under_its_own_name(tmp_path):
    for name in ("night/2026-11-22/a.png", "night/2026-11-21/a.png", "elsewhere/b.png", "night/.store/c.png"):
        write_image(tmp_path / name)
    night = tmp_path / "night"
    for link, target in (("0", "2026-11-22"), ("latest", "2026-11-22"), ("line", "../elsewhere"), ("old", ".store")):
        (night / link).symlink_to(target)
    (night / "2026-11-22" / "d.png").symlink_to("a.png")
    (tmp_path / "link").symlink_to(night)
    own = ["2026-11-21/a.png", "2026-11-22/a.png", "2026-11-22/d.png"]
    for name in ("night", "link"):
        source = Storage(str(tmp_path / name))
        assert keys(source) == [*own, "line/b.png", "old/c.png"]
        assert keys(source, "*/[ad].png") == own
        assert keys(source, "2026-*/*.png") == own
        assert keys(source, "latest/*.png") == ["latest/a.png", "latest/d.png"]


def test_a_listing_shows_images_and_masks_as_they_are_and_no_others(tmp_path):
    night, masks = Storage(str(tmp_path / "night")), Storage(str(tmp_path / "masks"))
    for name in ("night/a.png", "night/b.png", "masks/a.png"):
        write_image(tmp_path / name)
    listing = list_input(night, masks=masks)
    entries = discover(night, listing.images, masks=listing.masks.of_images)
    assert listing.shows(entries)
    assert listing.shows(entries[1:])
    assert list_input(night).shows(entries[1:])
    assert not list_input(night).shows(entries)
    (tmp_path / "night" / "b.png").unlink()
    assert not list_input(night, masks=masks).shows(entries)
    for time, replaced in enumerate(("masks/a.png", "night/a.png")):
        os.utime(tmp_path / replaced, (time, time))
        assert not list_input(night, masks=masks).shows(entries[:1])


def test_brackets_without_a_match_are_said_to_be_a_pattern(tmp_path):
    write_image(tmp_path / "night [2]" / "a.png")
    with pytest.raises(NothingToInspectError, match=r"; night \[1\] was read as a pattern: for a bracket write \[\[\]"):
        list_images(*split_input(f"{tmp_path}/night [1]"))
    assert keys(*split_input(f"{tmp_path}/night [[]2]/*.png")) == ["night [2]/a.png"]


def test_a_pattern_that_matches_nothing_is_told_what_would_go_deeper(tmp_path):
    write_image(tmp_path / "night" / "below" / "a.png")
    with pytest.raises(NothingToInspectError, match=r"nothing matches \*\.png; .*; a \* stays in one folder, \*\*"):
        list_images(*split_input(f"{tmp_path}/night/*.png"))
    assert keys(*split_input(f"{tmp_path}/night/**/*.png")) == ["below/a.png"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["notes.txt"], r"1 other file \(1 \.txt\)"),
        (["a.DNG", "b.heic", "notes"], r"3 other files \(1 without a suffix, 1 \.dng, 1 \.heic\)"),
        ([], "it is empty"),
        ([".a.png", "ground_truth/a.png"], "all that is there is hidden, truth, masks or results"),
    ],
)
def test_an_input_without_images_says_what_is_there_and_what_would_count(tmp_path, names, said):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    with pytest.raises(NothingToInspectError, match=rf"no image in {tmp_path}: {said}; images end in .*\.png"):
        list_images(Storage(str(tmp_path)))


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        list_images(Storage(str(tmp_path / "nowhere")))


def test_results_in_a_link_that_leads_to_itself_are_below_no_input(tmp_path):
    write_image(tmp_path / "a.png")
    (tmp_path / "around").symlink_to("around")
    assert keys(Storage(str(tmp_path)), outside=(str(tmp_path / "around"),)) == ["a.png"]


def test_results_below_the_root_of_all_folders_and_what_a_link_shows_once_more_are_left_out(tmp_path, monkeypatch):
    for name in ("night/a.png", "out/b.png"):
        write_image(tmp_path / name)
    (tmp_path / "latest").symlink_to("night")
    here, listed = str(tmp_path)[1:], Storage(str(tmp_path)).list()
    below = [replace(entry, key=f"{here}/{entry.key}") for entry in listed]
    # What is real of / : whoever runs this may not list all that is there.
    monkeypatch.setattr(Storage, "list", lambda *_: below)
    assert keys(Storage("/"), outside=(str(tmp_path / "out"),)) == [f"{here}/night/a.png"]


def test_a_name_that_is_not_utf8_is_listed_escaped_and_said_to_be_renamed(tmp_path):
    (tmp_path / os.fsdecode("Prüfung".encode("latin-1"))).mkdir()
    write_image(tmp_path / os.fsdecode("Prüfung/Gerät.png".encode("latin-1")))
    write_image(tmp_path / "Prüfung.png")
    source = Storage(str(tmp_path))
    escaped, kept = discover(source, list_images(source))
    assert (escaped.key, escaped.problem) == (
        r"Pr\xfcfung/Ger\xe4t.png",
        r"cannot read Pr\xfcfung/Ger\xe4t.png: its name is not UTF-8: rename it",
    )
    assert (kept.key, kept.problem, kept.height) == ("Prüfung.png", "", 40)
    with pytest.raises(StorageError, match="its name is not UTF-8: rename it"):
        source.read(escaped.key)


def test_headers_of_unchanged_images_are_not_read_again(tmp_path):
    for name in ("a.png", "c.png"):
        write_image(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    known = discover(Storage(str(tmp_path)), list_images(Storage(str(tmp_path))))
    write_image(tmp_path / "b.png", (60, 70))
    write_image(tmp_path / "c.png", (80, 90))
    os.utime(tmp_path / "c.png", (1, 1))
    source = CountedStorage(str(tmp_path))
    entries = discover(source, list_images(source), known=known)
    assert {key for key, _ in source.reads} == {"b.png", "broken.png", "c.png"}
    sizes = {entry.key: (entry.index, entry.height, entry.width) for entry in entries}
    assert sizes == {"a.png": (0, 40, 50), "b.png": (1, 60, 70), "broken.png": (2, 0, 0), "c.png": (3, 80, 90)}
