from dataclasses import replace

import pytest

from ssdnet_core.config import Config
from tasks.batch_results import BatchResults
from tasks.manifest import ImageEntry, Manifest
from tasks.records import ImageRecord, failed_record
from tasks.seal import SealConflictError, break_seal, make_seal, read_seal, set_seal
from tasks.storage import Storage

ENTRIES = tuple(ImageEntry(index=i, key=f"{i}.png", etag=f"e{i}", size=1) for i in range(3))
MANIFEST = Manifest(batch="n", input="/in", pattern="", config=Config(), entries=ENTRIES)
RECORDS = {
    0: ImageRecord(
        index=0, key="0.png", etag="e0", fingerprint="f", status="inspected", score=3.0, defective=True, map_digest="a"
    ),
    1: ImageRecord(index=1, key="1.png", etag="e1", fingerprint="f", status="inspected", score=0.1, map_digest="b"),
    2: failed_record(ENTRIES[2], "broken", fingerprint="f", lasting=True),
}


def test_the_seal_counts_what_the_batch_holds():
    seal = make_seal(BatchResults(MANIFEST, RECORDS))
    assert (seal.images, seal.inspected, seal.failed, seal.defective) == (3, 2, 1, 1)


def test_failures_that_may_pass_are_counted_by_themselves():
    first, second = (
        failed_record(entry, "the store was away", fingerprint="f", lasting=False) for entry in ENTRIES[:2]
    )
    assert make_seal(BatchResults(MANIFEST, RECORDS)).passing == 0
    assert make_seal(BatchResults(MANIFEST, {**RECORDS, 1: second})).passing == 1
    assert make_seal(BatchResults(MANIFEST, {**RECORDS, 0: first, 1: second})).passing == 2


def test_an_image_that_is_gone_does_not_count():
    gone = MANIFEST.merged(ENTRIES[1:])
    assert make_seal(BatchResults(gone, RECORDS)).images == 2


def test_the_digest_tells_results_and_not_circumstances():
    digest = make_seal(BatchResults(MANIFEST, RECORDS)).digest
    slower = {index: replace(record, seconds=9.0, device="cuda", etag="x") for index, record in RECORDS.items()}
    assert make_seal(BatchResults(MANIFEST, slower)).digest == digest
    for change in ({"map_digest": "c"}, {"defective": False}, {"score": 3.1}, {"key": "other"}, {"status": "failed"}):
        assert make_seal(BatchResults(MANIFEST, {**RECORDS, 0: replace(RECORDS[0], **change)})).digest != digest


def test_the_digest_does_not_tell_in_which_order_the_images_came():
    later = replace(MANIFEST, entries=tuple(replace(entry, index=2 - entry.index) for entry in ENTRIES[::-1]))
    records = {2 - index: replace(record, index=2 - index) for index, record in RECORDS.items()}
    assert make_seal(BatchResults(later, records)).digest == make_seal(BatchResults(MANIFEST, RECORDS)).digest


def test_a_missing_record_cannot_be_sealed():
    with pytest.raises(KeyError):
        make_seal(BatchResults(MANIFEST, {0: RECORDS[0]}))


def test_a_batch_is_sealed_once(tmp_path):
    folder = Storage(str(tmp_path))
    seal = make_seal(BatchResults(MANIFEST, RECORDS))
    assert read_seal(folder) is None
    set_seal(folder, seal)
    assert read_seal(folder) == seal
    with pytest.raises(SealConflictError):
        set_seal(folder, replace(seal, digest="other"))
    assert read_seal(folder) == seal
    break_seal(folder)
    assert read_seal(folder) is None


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b"[]", b'{"batch": "n"}'])
def test_a_damaged_seal_counts_as_none_and_is_told(tmp_path, caplog, content):
    folder = Storage(str(tmp_path))
    folder.write("seal.json", content)
    assert read_seal(folder) is None
    assert f"{tmp_path} is taken as unfinished: its seal.json is damaged" in caplog.text


def test_a_seal_that_is_broken_while_it_is_looked_for_counts_as_none(tmp_path, monkeypatch):
    folder = Storage(str(tmp_path))
    set_seal(folder, make_seal(BatchResults(MANIFEST, RECORDS)))
    read = Storage.read

    def broken_before(storage, key):
        break_seal(storage)
        return read(storage, key)

    monkeypatch.setattr(Storage, "read", broken_before)
    assert read_seal(folder) is None


def test_the_digest_tells_scores_to_six_digits_and_no_further():
    def digest(score):
        return make_seal(BatchResults(MANIFEST, {**RECORDS, 0: replace(RECORDS[0], score=score)})).digest

    assert digest(3.14159) != digest(3.14158)
    assert digest(3.141591) == digest(3.1415912)


def test_results_have_the_digest_that_they_were_sealed_with_by_earlier_versions():
    # Of another one, every batch that was sealed before would be refused as changed by hand.
    records = {**RECORDS, 0: replace(RECORDS[0], score=3.14159265)}
    assert make_seal(BatchResults(MANIFEST, records)).digest.startswith("842a2487a5fc47c2")
