import errno
import os
import pickle
import threading
from pathlib import Path

import pytest

from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError, StorageError
from tests.tasks.answering_s3 import done_at, s3_below_a_prefix, s3_that_answers


def test_what_is_written_is_listed_and_read_back(tmp_path):
    storage = Storage(str(tmp_path))
    storage.write("b/c.bin", b"cc")
    storage.write("a.bin", b"a")
    assert [(entry.key, entry.size) for entry in storage.list()] == [("a.bin", 1), ("b/c.bin", 2)]
    assert storage.read("b/c.bin") == b"cc"
    assert storage.below("b").read("c.bin") == b"cc"


def test_an_etag_changes_with_the_content(tmp_path):
    storage = Storage(str(tmp_path))
    storage.write("a", b"one")
    [before] = storage.list()
    storage.write("a", b"two")
    os.utime(tmp_path / "a", ns=(1, 1))
    [after] = storage.list()
    assert before.etag != after.etag
    assert storage.read_with_etag("a") == (b"two", after.etag)
    with pytest.raises(MissingObjectError, match="b"):
        storage.read_with_etag("b")


def test_reading_many_returns_what_failed_as_its_error(tmp_path):
    storage = Storage(str(tmp_path))
    storage.write("there", b"0123456789")
    contents = storage.read_many(["there", "missing"], end=4)
    assert contents["there"] == b"0123"
    assert isinstance(contents["missing"], StorageError)
    assert "missing" in str(contents["missing"])


def test_a_missing_folder_is_an_error_and_not_an_empty_listing(tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        Storage(str(tmp_path / "nowhere")).list()


@pytest.mark.parametrize("pattern", ["", "**/*.png", "*/*.png"])
def test_a_folder_that_cannot_be_read_is_an_error_that_names_it(tmp_path, monkeypatch, pattern):
    for key in ("a/1.png", "b/2.png"):
        Storage(str(tmp_path)).write(key, b"x")
    scandir = os.scandir

    def failing(folder):
        if str(folder).endswith("/b"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(StorageError, match=f"cannot list {tmp_path}: {tmp_path}/b: {os.strerror(errno.EIO)}$"):
        Storage(str(tmp_path)).list(pattern)


def test_a_glob_does_not_go_deeper_than_it_matches(tmp_path, monkeypatch):
    for key in ("1.png", "a/2.png", "a/b/3.png"):
        Storage(str(tmp_path)).write(key, b"x")
    seen, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: seen.append(Path(folder).name) or scandir(folder))
    assert [entry.key for entry in Storage(str(tmp_path)).list("*/*.png")] == ["a/2.png"]
    assert seen == [tmp_path.name, "a"]


def test_what_cannot_be_looked_at_is_not_called_missing(tmp_path):
    storage = Storage(str(tmp_path))
    storage.write("file", b"")
    assert [storage.exists(key) for key in ("", "file", "file/below", "nowhere", "nowhere/below")] == [
        *(True, True, False, False, False)
    ]
    # A folder without permission answers likewise, but not to root.
    (tmp_path / "around").symlink_to("around")
    with pytest.raises(
        StorageError, match=rf"cannot look for {tmp_path}/around/seal\.json: a link in it leads back to itself"
    ):
        storage.exists("around/seal.json")


def test_what_is_missing_is_told_from_what_cannot_be_read_or_listed(tmp_path):
    storage = Storage(str(tmp_path))
    storage.write("file", b"")
    (tmp_path / "around").symlink_to("around")
    missing, unread = storage.read_many(["gone", "around"]).values()
    assert (type(missing), type(unread)) == (MissingObjectError, StorageError)
    for call in (storage.below("gone").list, storage.below("gone").folders):
        with pytest.raises(MissingObjectError, match=f"cannot list {tmp_path}/gone: there is no such"):
            call()
    with pytest.raises(StorageError, match="a part of this path is a file") as raised:
        storage.below("file").list()
    assert not isinstance(raised.value, MissingObjectError)


def test_a_missing_object_is_named(tmp_path):
    with pytest.raises(StorageError, match="missing"):
        Storage(str(tmp_path)).read("missing")


def test_of_many_threads_one_creates_and_its_content_stays(tmp_path):
    storage = Storage(str(tmp_path))
    answers: dict[int, bool] = {}
    barrier = threading.Barrier(8)

    def create(number: int) -> None:
        barrier.wait()
        answers[number] = storage.create("seal", str(number).encode() * 1000)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [number for number, created in answers.items() if created]
    assert storage.read("seal") == str(winner).encode() * 1000
    assert [path.name for path in tmp_path.iterdir()] == ["seal"], "no partial file is left"


@pytest.mark.parametrize("call", ["read", "read_with_etag"])
def test_an_answer_that_is_always_cut_short_is_an_error_that_names_the_object(call):
    with s3_that_answers(holds=b"short", length=100) as (address, _):
        finished = done_at(address, f"{call}('image.png')")
    message = finished.stderr.splitlines()[-1]
    assert message.startswith("tasks.storage_answers.NoAnswerError: cannot read s3://bucket/image.png: "), (
        finished.stderr
    )


def test_an_object_is_read_with_its_etag_by_one_request_and_again_after_an_answer_that_was_cut_short():
    for cut in (0, 1):
        with s3_that_answers(holds=b"whole", cut=cut) as (address, received):
            finished = done_at(address, "read_with_etag('image.png')")
        assert finished.stdout == "(b'whole', 'tag')\n", finished.stderr
        assert len(received) == 1 + cut


@pytest.mark.parametrize("key", ["", "prefix"])
def test_a_store_that_is_away_is_an_error_and_no_missing_object(key):
    finished = done_at("http://127.0.0.1:9", f"exists('{key}')")
    message = finished.stderr.splitlines()[-1]
    assert message.startswith(f"tasks.storage_answers.NoAnswerError: cannot look for s3://bucket{key and '/' + key}: ")


def test_whoever_may_not_list_all_of_a_bucket_is_told_what_is_there_and_what_is_not():
    with s3_below_a_prefix({"plant/a.png": b"a", "plant/a/b.png": b"b", "plant/ab": b""}) as address:
        for key, there in {
            "plant": True,
            "plant/a.png": True,
            "plant/a": True,
            "plant/a/b.png": True,
            "plant/ab": True,
            "plant/a/b": False,
            "plant/c": False,
            "plan": False,
        }.items():
            assert done_at(address, f"exists('{key}')").stdout == f"{there}\n", key
        missing = done_at(address, "below('plant/none').list()").stderr
        assert missing.splitlines()[-1].startswith("tasks.storage_answers.MissingObjectError: cannot list s3://bucket/")


def test_a_storage_is_the_same_folder_in_a_process_that_runs_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(Storage("night"))
    monkeypatch.chdir("/")
    assert pickle.loads(pickled).address == str(tmp_path / "night")


def test_listings_are_not_cached_and_objects_come_in_one_piece():
    assert Storage("s3://bucket").options == {"use_listings_cache": False, "max_concurrency": 1}


def test_what_was_created_with_this_very_content_counts_as_created(tmp_path):
    storage = Storage(str(tmp_path))
    assert [storage.create("lease", content) for content in (b"me", b"me", b"you")] == [True, True, False]


def test_a_storage_travels_without_its_connections(tmp_path):
    storage = Storage(str(tmp_path))
    storage.write("a", b"x")
    assert storage.read("a") == b"x"
    copy = pickle.loads(pickle.dumps(storage))
    assert (copy, vars(copy)) == (storage, {"url": storage.url})
    assert copy.read("a") == b"x"


def test_a_file_in_the_folders_place_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        Storage(str(tmp_path / "file")).write("key", b"")
    with pytest.raises(StorageError, match="file"):
        Storage(str(tmp_path / "file")).create("key", b"")


def test_deleting_what_is_not_there_is_no_error(tmp_path):
    Storage(str(tmp_path)).delete("nothing")


def test_folders_are_named_without_what_lies_in_them_and_without_those_that_no_address_can_name(tmp_path):
    storage = Storage(str(tmp_path))
    (tmp_path / os.fsdecode("grün-2026-11-01".encode("latin-1"))).mkdir()
    for key in ("line-2/2026-11-01/a.png", "line-1/2026-11-01/a.png", "notes.txt"):
        storage.write(key, b"x")
    assert storage.folders() == ("line-1", "line-2")
    assert storage.below("line-1").folders() == ("2026-11-01",)
    with pytest.raises(StorageError, match=r"cannot list .*line-3"):
        storage.below("line-3").folders()
