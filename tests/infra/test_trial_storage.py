"""The buckets for trying things, over a stop of their server."""

import resource
import zipfile
from datetime import date

import fsspec
import pytest

from infra.local.errors import LocalStackError
from infra.local.trial_storage import SAMPLE_IMAGES, create_buckets, provide_nights, restore_buckets, save_buckets
from tasks.storage import Storage


@pytest.fixture
def empty(s3_server):
    def clear() -> None:
        filesystem = fsspec.filesystem("s3", use_listings_cache=False)
        for bucket in filesystem.ls("", detail=False):
            filesystem.rm(bucket, recursive=True)

    clear()
    yield clear
    clear()


@pytest.mark.slow
def test_saved_buckets_come_back_as_they_were(empty, tmp_path):
    create_buckets(("s3://one/prefix", "s3://empty", str(tmp_path / "folder")))
    objects = {f"a/{number}": bytes([number]) * number for number in range(100)}
    # An object and others below its name: a folder could not hold both.
    objects["a"] = b"beside its prefix"
    objects["strange/ü %2e#?.png"] = b"name"
    for key, content in objects.items():
        Storage("s3://one").write(key, content)
    etags = {stored.key: stored.etag for stored in Storage("s3://one").list()}
    save_buckets(tmp_path / "buckets.zip")

    empty()
    restore_buckets(tmp_path / "buckets.zip")
    assert Storage("s3://empty").list() == []
    assert {stored.key: stored.etag for stored in Storage("s3://one").list()} == etags
    assert {key: Storage("s3://one").read(key) for key in objects} == objects


@pytest.mark.slow
def test_without_an_archive_nothing_is_restored(empty, tmp_path):
    restore_buckets(tmp_path / "none.zip")
    assert fsspec.filesystem("s3", use_listings_cache=False).ls("", detail=False) == []


@pytest.mark.slow
def test_an_archive_that_cannot_be_written_is_told_and_that_of_before_is_kept(empty, tmp_path, monkeypatch):
    archive = tmp_path / "buckets.zip"
    create_buckets(["s3://one"])
    save_buckets(archive)
    before = archive.read_bytes()
    Storage("s3://one").write("large", bytes(1_000_000))
    earlier = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, earlier[1]))
    try:
        with pytest.raises(
            LocalStackError, match=r"the buckets are lost, since .*/buckets\.zip cannot be written \(File"
        ):
            save_buckets(archive)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, earlier)
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]
    assert archive.read_bytes() == before


@pytest.mark.parametrize("damage", [lambda content: content[:-30], lambda content: b"", lambda content: b"no archive"])
def test_a_damaged_archive_is_told_with_what_to_do(tmp_path, damage):
    archive = tmp_path / "buckets.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("one/", "")
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(LocalStackError, match=r"buckets\.zip, .* is damaged \(.*\): delete it to start with new ones"):
        restore_buckets(archive)


@pytest.mark.slow
def test_each_line_gets_a_night_of_its_own_once_for_its_day(empty):
    create_buckets(["s3://images"])
    provide_nights("s3://images", ["line-1", "line-2"], day=date(2026, 11, 22))
    night = Storage("s3://images/line-1/2026-11-22")
    made = night.list()
    assert len(made) == SAMPLE_IMAGES
    other = Storage("s3://images/line-2/2026-11-22").list()
    assert len(other) == SAMPLE_IMAGES
    assert not {stored.etag for stored in made} & {stored.etag for stored in other}
    night.delete(made[0].key)
    provide_nights("s3://images", ["line-1", "line-2"], day=date(2026, 11, 22))
    assert len(night.list()) == SAMPLE_IMAGES - 1


def test_a_folder_of_the_users_gets_no_made_images(tmp_path):
    standstill = tmp_path / "line-1"
    standstill.mkdir()
    provide_nights(str(tmp_path), ["line-1", "line-2"], day=date(2026, 11, 22))
    assert list(tmp_path.rglob("*")) == [standstill]
