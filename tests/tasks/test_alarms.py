"""What is remembered of alarms, and what of it outlasts a storage that fails."""

import pytest

from tasks.alarms import FAILED_IMAGES, OUT_OF_THE_ORDINARY, note_raised, was_raised
from tasks.batch import ALARM
from tasks.storage import Storage
from tasks.storage_answers import StorageError


@pytest.fixture
def folder(tmp_path):
    """Of a batch of which many images failed, and that was told."""
    folder = Storage(str(tmp_path / "night"))
    note_raised(folder, FAILED_IMAGES, digest="d")
    return folder


def test_each_alarm_is_remembered_for_its_own_results(folder):
    assert not was_raised(folder, OUT_OF_THE_ORDINARY, digest="d")
    note_raised(folder, OUT_OF_THE_ORDINARY, digest="e")
    assert was_raised(folder, OUT_OF_THE_ORDINARY, digest="e")
    assert was_raised(folder, FAILED_IMAGES, digest="d")
    assert not was_raised(folder, FAILED_IMAGES, digest="e")


def test_a_read_that_fails_while_one_alarm_is_noted_leaves_the_other(folder, monkeypatch):
    def away(*arguments):
        raise StorageError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "read", away)
        assert not was_raised(folder, FAILED_IMAGES, digest="d")
        with pytest.raises(StorageError, match="the store is away"):
            note_raised(folder, OUT_OF_THE_ORDINARY, digest="d")
    assert was_raised(folder, FAILED_IMAGES, digest="d")
    assert not was_raised(folder, OUT_OF_THE_ORDINARY, digest="d")


def test_a_web_page_in_place_of_what_is_remembered_counts_as_nothing_raised(folder):
    folder.write(ALARM, b"<!doctype html><title>502 Bad Gateway</title>")
    assert not was_raised(folder, FAILED_IMAGES, digest="d")


@pytest.mark.parametrize("damaged", [b"", b'{"failed im', b"3", b"[1]", b"\xff"])
def test_what_is_damaged_counts_as_nothing_raised_and_is_replaced(folder, damaged):
    folder.write(ALARM, damaged)
    assert not was_raised(folder, FAILED_IMAGES, digest="d")
    note_raised(folder, FAILED_IMAGES, digest="d")
    assert was_raised(folder, FAILED_IMAGES, digest="d")
