import logging
from dataclasses import replace

import pytest

from flows import events, run_log
from flows.run_log import MOST_FAILURE_EVENTS, MOST_LOGGED, RunLog
from tasks.records import ImageRecord
from tasks.storage_answers import StorageError

GOOD = ImageRecord(index=0, key="0.png", etag="e", fingerprint="f", status="inspected")


@pytest.fixture
def told(monkeypatch):
    """The events that would be sent: their names and payloads."""
    sent = []
    monkeypatch.setattr(events, "emit_event", lambda event, **parts: sent.append((event, parts)))
    return sent


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO)
    return RunLog("line-1-2026-11-22", logging.getLogger("run"))


def inspect(log, records, *, images=None):
    with log:
        log.begin(images=images or len(records), settled=0)
        for record in records:
            log.inspected(record)


def test_two_thousand_images_make_a_dozen_lines(log, caplog, told):
    inspect(log, [GOOD] * 2000)
    assert len(caplog.records) == 1 + run_log.PARTS
    assert caplog.messages[0] == "line line-1, batch line-1-2026-11-22: 2000 images, 0 done before"
    assert caplog.messages[-1].endswith("2000 of 2000 inspected, 0 defective, 0 failed")
    assert not told


def test_the_last_image_is_counted_whatever_their_number(log, caplog, told):
    inspect(log, [GOOD] * (run_log.LEAST_STEP + 5))
    counts = [message.split(": ")[1] for message in caplog.messages[1:]]
    assert counts == [f"{done} of 30 inspected, 0 defective, 0 failed" for done in (25, 30)]


def test_a_failure_names_line_batch_image_and_reason(log, caplog, told):
    inspect(log, [replace(GOOD, key="a/b.png", status="failed", error="no image")])
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert line.message == "line line-1, batch line-1-2026-11-22, image a/b.png: not inspected: no image"
    [(event, parts)] = told
    assert event == "ssdnet.image.failed"
    assert parts["resource"]["prefect.resource.id"] == "ssdnet.batch.line-1-2026-11-22"
    assert parts["related"][0]["prefect.resource.id"] == "ssdnet.line.line-1"


def test_warnings_are_written_down(log, caplog, told):
    inspect(log, [replace(GOOD, warnings=("hardly any texture",))])
    assert "image 0.png: hardly any texture" in caplog.text


def test_a_night_of_nothing_but_failures_stays_readable(log, caplog, told):
    inspect(log, [replace(GOOD, status="failed", error="x" * 10_000)] * 2000)
    assert len(caplog.records) <= MOST_LOGGED + run_log.PARTS + 2
    assert [event for event, _ in told] == ["ssdnet.image.failed"] * MOST_FAILURE_EVENTS + ["ssdnet.images.failed"]
    assert told[-1][1]["payload"] == {"failed": 2000, "told": MOST_FAILURE_EVENTS}
    assert all(len(str(parts)) < 2000 for _, parts in told)


def test_a_run_that_fails_tells_how_many_images_had_failed(log, told):
    def records():
        yield from [replace(GOOD, status="failed", error="no image")] * 30
        raise StorageError("the disk is full")

    with pytest.raises(StorageError):
        inspect(log, records(), images=100)
    assert told[-1][0] == "ssdnet.images.failed"
    assert told[-1][1]["payload"] == {"failed": 30, "told": MOST_FAILURE_EVENTS}
