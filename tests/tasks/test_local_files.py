"""What files need to be objects of a storage: links that are followed, and whole contents only."""

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from tasks.local_files import walk_files
from tasks.storage import Storage
from tasks.storage_answers import StorageError


@pytest.mark.parametrize("pattern", ["", "*.png"])
def test_a_link_to_a_file_is_listed_as_that_file_and_one_that_leads_nowhere_too(tmp_path, pattern):
    Storage(str(tmp_path)).write("there/a.png", b"content")
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "1.png").symlink_to("../there/a.png")
    (tmp_path / "night" / "2.png").symlink_to("../there/gone.png")
    [linked, broken] = Storage(f"{tmp_path}/night").list(pattern)
    [itself] = Storage(f"{tmp_path}/there").list()
    assert (linked.key, linked.size, linked.etag) == ("1.png", itself.size, itself.etag)
    assert (broken.key, broken.size) == ("2.png", 0)


def test_a_linked_folder_is_entered_but_not_one_that_leads_back(tmp_path):
    Storage(str(tmp_path)).write("there/a.png", b"content")
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "line").symlink_to("../there")
    (tmp_path / "there" / "around").symlink_to("../there")
    (tmp_path / "there" / "back").symlink_to("../night")
    night = Storage(f"{tmp_path}/night")
    assert [entry.key for entry in night.list()] == ["line/a.png"]
    assert night.folders() == ("line",)


def test_a_folder_is_listed_under_each_of_its_names(tmp_path):
    line = Storage(str(tmp_path))
    line.write("2026-11-22/a.png", b"content")
    for link in ("latest", "today"):
        (tmp_path / link).symlink_to("2026-11-22")
    assert [entry.key for entry in line.list()] == ["2026-11-22/a.png", "latest/a.png", "today/a.png"]
    assert [entry.key for entry in line.list("2026-*/*.png")] == ["2026-11-22/a.png"]
    assert [entry.key for entry in line.list("today/*.png")] == ["today/a.png"]


@pytest.mark.parametrize("pattern", ["", "*.png"])
@pytest.mark.parametrize("target", ["link.png", "a.txt/b.png", "x" * 300, "gone.png"])
def test_a_link_that_leads_to_no_file_is_listed_as_one_that_cannot_be_read(tmp_path, pattern, target):
    night = Storage(str(tmp_path))
    for key in ("a.txt", "b.png"):
        night.write(key, b"content")
    (tmp_path / "link.png").symlink_to(target)
    read, link = (entry for entry in night.list(pattern) if entry.key != "a.txt")
    assert (read.key, read.size) == ("b.png", 7)
    assert (link.key, link.size, link.etag) == ("link.png", 0, "")
    with pytest.raises(StorageError, match=r"cannot read .*/link\.png"):
        night.read("link.png")


@pytest.mark.parametrize(("number", "said"), [(errno.EIO, "cannot list .*a.png"), (errno.ENOENT, "")])
def test_a_file_whose_status_cannot_be_read_is_an_error_and_one_that_is_gone_is_not(
    tmp_path, monkeypatch, number, said
):
    night, stat = Storage(str(tmp_path)), Path.stat
    for key in ("a.png", "b.png"):
        night.write(key, b"content")

    def failing(path, *, follow_symlinks=True):
        if path.name == "a.png" and follow_symlinks:
            raise OSError(number, os.strerror(number), str(path))
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", failing)
    if said:
        with pytest.raises(StorageError, match=said):
            night.list()
    else:
        assert [entry.key for entry in night.list()] == ["b.png"]


def test_what_became_a_pipe_or_a_device_after_it_was_listed_is_told_and_neither_waited_for_nor_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    for key in ("pipe.png", "endless.png"):
        with pytest.raises(StorageError, match=rf"cannot read .*/{key}: it is no file, but a device or a pipe"):
            Storage(str(tmp_path)).read_with_etag(key)


def test_a_full_disk_leaves_no_partial_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for write in (Storage(str(tmp_path)).write, Storage(str(tmp_path)).create):
        with pytest.raises(StorageError, match="the disk is full"):
            write("seal", b"content")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [Storage.write, Storage.create])
def test_a_file_whose_name_is_a_folders_leaves_no_partial_file(tmp_path, write):
    (tmp_path / "seal.json").mkdir()
    with suppress(FileExistsError, StorageError):
        assert not write(Storage(str(tmp_path)), "seal.json", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["seal.json"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links_is_told_as_such(tmp_path, monkeypatch, number):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(StorageError, match=r"its file system has no hard links.*: keep results elsewhere"):
        Storage(str(tmp_path)).create("seal", b"content")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_have_the_rights_that_the_account_gives_new_ones(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        Storage(str(tmp_path)).write("record", b"content")
        Storage(str(tmp_path)).create("seal", b"content")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}


@pytest.mark.parametrize("method", [Storage.write, Storage.create])
def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch, method):
    synced, fsync = [], os.fsync

    def noting(descriptor):
        fsync(descriptor)
        synced.append((Path(f"/proc/self/fd/{descriptor}").read_bytes(), (tmp_path / "seal").exists()))

    monkeypatch.setattr(os, "fsync", noting)
    method(Storage(str(tmp_path)), "seal", b"content")
    assert synced == [(b"content", False)]
    assert (tmp_path / "seal").read_bytes() == b"content"


@pytest.mark.parametrize(("depth", "entered"), [(None, ["etc"]), (2, ["etc"]), (1, [])])
def test_keys_below_the_root_of_all_folders_are_whole(monkeypatch, depth, entered):
    folders = ["etc"]
    # Not the real one: whoever runs this may not list all that is there.
    monkeypatch.setattr(os, "walk", lambda *_, **__: iter([("/", folders, []), ("/etc", [], ["passwd"])]))
    assert [key for key, _ in walk_files("/", depth=depth)] == ["etc/passwd"]
    assert folders == entered


def test_what_lies_below_the_root_of_all_folders_has_one_slash():
    assert (Storage("/").path("etc/passwd"), Storage("/").below("etc").address) == ("/etc/passwd", "/etc")
