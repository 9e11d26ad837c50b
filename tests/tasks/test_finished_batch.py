from dataclasses import replace

import pytest

import tasks.finished_batch
from ssdnet_core.config import Config
from tasks.batch import open_batch
from tasks.batch_results import BatchResults
from tasks.finished_batch import (
    ChangedBatchError,
    ChangedRecordsError,
    LostRecordError,
    NotSealedError,
    find_seal,
    read_sealed,
)
from tasks.manifest import ImageEntry, Manifest
from tasks.records import ImageRecord, failed_record, record_key, write_record
from tasks.seal import break_seal, make_seal, set_seal
from tasks.storage import Storage

FIRST, SECOND = Config(), Config().updated({"seed": 1})


def batch(config):
    return Manifest(batch="n", input="/in", pattern="", config=config)


def sealed(results, config):
    manifest = batch(config)
    folder = open_batch(results, manifest)
    set_seal(folder, make_seal(BatchResults(manifest, {})))


@pytest.fixture
def results(tmp_path):
    return Storage(str(tmp_path))


@pytest.mark.parametrize("order", [(FIRST, SECOND), (SECOND, FIRST)])
def test_the_seal_of_the_settings_asked_for_is_found_whichever_came_first(results, order):
    for config in order:
        assert find_seal(results, "n", fingerprint=config.fingerprint()) is None
        sealed(results, config)
    for config in order:
        assert find_seal(results, "n", fingerprint=config.fingerprint()).fingerprint == config.fingerprint()


def test_what_is_no_batch_is_told_with_a_batch_that_lies_below(tmp_path):
    results = Storage(str(tmp_path))
    for address, told in (
        (f"{tmp_path}/nowhere", f"there is no {tmp_path}/nowhere: give the folder of one batch"),
        (str(tmp_path), f"{tmp_path} holds no batch: give the folder of one batch"),
    ):
        with pytest.raises(NotSealedError, match=f"^{told}"):
            read_sealed(address)
    for name in ("a/notes", "line-1-2026-11-22/manifest.json"):
        results.write(name, b"")
    with pytest.raises(
        NotSealedError, match=f"is no batch, but holds batches: give one of them, as {tmp_path}/line-1-2026-11-22$"
    ):
        read_sealed(str(tmp_path))


def test_a_batch_that_is_not_finished_has_no_seal(results):
    open_batch(results, batch(FIRST))
    assert find_seal(results, "n", fingerprint=FIRST.fingerprint()) is None


@pytest.mark.parametrize("content", [b"", b"{}", None])
def test_a_record_that_cannot_be_read_is_named_with_its_image_if_that_is_still_there(results, content):
    entries = tuple(
        ImageEntry(index=index, key=f"{index}.png", etag="", size=1, present=index < 2) for index in range(3)
    )
    manifest = Manifest(batch="n", input="/in", pattern="", config=FIRST, entries=entries)
    folder = open_batch(results, manifest)
    records = {entry.index: failed_record(entry, "broken", fingerprint="f", lasting=True) for entry in entries}
    for record in records.values():
        write_record(folder, record)
    set_seal(folder, make_seal(BatchResults(manifest, records)))
    folder.delete(record_key(2))
    assert set(read_sealed(folder.address)[1].records) == {0, 1}
    folder.delete(record_key(1))
    if content is not None:
        folder.write(record_key(1), content)
    with pytest.raises(LostRecordError, match=r"records/0000001\.json, the record of 1\.png,.*`ssdnet inspect` again"):
        read_sealed(folder.address)


@pytest.fixture
def finished(results):
    """The folder of a sealed batch of three images, and its records."""
    entries = tuple(
        ImageEntry(index=index, key=f"{index}.png", etag="", size=1, height=32, width=32) for index in range(3)
    )
    manifest = replace(batch(FIRST), entries=entries)
    folder, sizes = open_batch(results, manifest), {"height": 32, "width": 32, "working_height": 32}
    records = {
        entry.index: ImageRecord(
            index=entry.index, key=entry.key, etag="", fingerprint="f", status="inspected", score=0.1, **sizes
        )
        for entry in entries
    }
    for record in records.values():
        write_record(folder, record)
    set_seal(folder, make_seal(BatchResults(manifest, records)))
    assert read_sealed(folder.address)[1].records == records
    return folder, records


@pytest.mark.parametrize(
    "change", [{"score": 0.2}, {"defective": True}, {"status": "failed"}, {"map_digest": "another"}], ids=str
)
def test_a_batch_of_which_a_record_is_not_as_it_was_sealed_is_refused_whatever_was_changed(finished, change):
    folder, records = finished
    write_record(folder, replace(records[1], **change))
    with pytest.raises(
        ChangedRecordsError, match=r"records were changed since, .* newer than its seal\.json\. Put them"
    ):
        read_sealed(folder.address)


def test_a_batch_that_a_run_inspects_anew_while_it_is_read_is_not_called_changed_by_somebody(finished, monkeypatch):
    folder, records = finished
    read = tasks.finished_batch.read_manifest

    def read_beside_a_run(folder):
        break_seal(folder)
        write_record(folder, replace(records[1], score=0.2))
        return read(folder)

    monkeypatch.setattr(tasks.finished_batch, "read_manifest", read_beside_a_run)
    with pytest.raises(ChangedBatchError, match="inspected anew meanwhile"):
        read_sealed(folder.address)
