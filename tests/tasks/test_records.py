from dataclasses import replace

import pytest

from ssdnet_core.regions import Region
from tasks.batch import read_manifest
from tasks.manifest import ImageEntry
from tasks.records import ImageRecord, failed_record, read_records, write_record
from tasks.seal import read_seal
from tasks.storage import Storage
from tasks.storage_answers import StorageError
from tasks.stored_json import PageError

ENTRY = ImageEntry(index=3, key="a.png", etag="e", size=9, height=64, width=64)
REGION = Region(top=1, left=2, bottom=5, right=9, area=20, peak=12.5, centroid=(2.5, 5.25))
DONE = ImageRecord(
    index=3, key="a.png", etag="e", fingerprint="f", status="inspected", score=2.0, defective=True, regions=(REGION,)
)


def test_records_are_found_again_and_a_damaged_one_counts_as_absent(tmp_path):
    folder = Storage(str(tmp_path))
    assert read_records(folder, [ENTRY]) == {}
    write_record(folder, DONE)
    before, after = replace(ENTRY, index=2, key="0.png"), replace(ENTRY, index=4, key="b.png")
    for key in ("records/0000002.json", "records/0000004.json"):
        folder.write(key, b'{"index": 4')
    assert read_records(folder, [before, ENTRY, after]) == {3: DONE}


@pytest.mark.parametrize("page", [b"<!DOCTYPE html>\n<title>Log in</title>", b"\n <html><body>Log in</body></html>"])
def test_a_page_that_a_proxy_answers_with_is_no_damaged_record_manifest_or_seal(tmp_path, page):
    folder = Storage(str(tmp_path))
    for key in ("records/0000003.json", "manifest.json", "seal.json"):
        folder.write(key, page)
    for read in (lambda: read_records(folder, [ENTRY]), lambda: read_manifest(folder), lambda: read_seal(folder)):
        with pytest.raises(PageError, match=r"a web page came .* beginning with '<.*leave them where they are"):
            read()


def test_a_record_that_the_store_does_not_give_is_an_error_and_one_that_is_gone_is_absent(tmp_path):
    folder = Storage(str(tmp_path))
    write_record(folder, DONE)
    path = tmp_path / "records" / "0000003.json"
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    assert read_records(folder, [ENTRY]) == {}
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(StorageError, match=r"0000003\.json"):
        read_records(folder, [ENTRY])


@pytest.mark.parametrize(
    ("record", "settled"),
    [
        (DONE, True),
        (replace(DONE, etag="other"), False),
        (replace(DONE, fingerprint="other"), False),
        (replace(DONE, key="other"), False),
        (failed_record(ENTRY, "broken", fingerprint="f", lasting=True), True),
        (failed_record(ENTRY, "no connection", fingerprint="f", lasting=False), False),
    ],
)
def test_an_image_is_inspected_again_only_if_something_changed_or_may_have(record, settled):
    assert record.settles(ENTRY, fingerprint="f") is settled


def test_failures_are_tried_again_on_demand():
    lasting = failed_record(ENTRY, "broken", fingerprint="f", lasting=True)
    assert not lasting.settles(ENTRY, fingerprint="f", retry_failed=True)
    assert DONE.settles(ENTRY, fingerprint="f", retry_failed=True)
