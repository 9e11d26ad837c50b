import signal

import pytest

from flows.interruption import end_at_once_when_interrupted
from flows.outcome import Outcome
from ssdnet_core.config import Config
from tasks.batch_results import BatchResults
from tasks.discovery import Listing
from tasks.manifest import ImageEntry, Manifest
from tasks.records import ImageRecord, failed_record
from tasks.seal import make_seal
from tasks.storage import Storage


@pytest.fixture
def handled_as_a_command_starts():
    """Signals to end have the handlers that they have in a command until its work begins."""
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    end_at_once_when_interrupted()
    yield
    for number, handler in earlier.items():
        signal.signal(number, handler)


@pytest.fixture
def outcome():
    """Of a batch that was run again after a broken image, and the one of the highest score, had been deleted."""
    entries = tuple(
        ImageEntry(index=index, key=f"{name}.png", etag="", size=1, present=name not in ("broken", "gone"))
        for index, name in enumerate(("broken", "gone", "good", "unread"))
    )
    manifest = Manifest(batch="night", input="/in", pattern="", config=Config(), entries=entries)
    failed = (entries[0], entries[3])
    scores = {entries[1]: 9.0, entries[2]: 1.0}
    records = {e.index: failed_record(e, f"no picture in {e.key}", fingerprint="f", lasting=True) for e in failed} | {
        e.index: ImageRecord(index=e.index, key=e.key, etag="", fingerprint="f", status="inspected", score=score)
        for e, score in scores.items()
    }
    results = BatchResults(manifest, records)
    return Outcome(
        folder=Storage("/out/night"),
        results=results,
        seal=make_seal(results),
        fitted=0,
        listing=Listing([], {}),
    )
