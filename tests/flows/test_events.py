"""What is told of a finished batch."""

import pytest

from flows import events
from flows.events import BATCH_SEALED, MANY_FAILED, batch_sealed
from tasks.seal import Seal


@pytest.fixture
def told(monkeypatch):
    """The events that are sent, by their names."""
    told = {}
    monkeypatch.setattr(events, "emit_event", lambda event, **rest: told.update({event: rest}))
    return told


def seal(images, failed):
    return Seal("line-1-2026-11-22", "f", images, inspected=images - failed, failed=failed, defective=1, digest="d")


@pytest.mark.parametrize(
    ("images", "failed", "many"),
    [(100, 0, False), (100, 5, False), (100, 6, True), (10, 1, True), (20, 1, False), (3, 3, True)],
)
def test_more_than_5_in_100_failed_images_of_a_batch_are_an_event_of_their_own(told, images, failed, many):
    batch_sealed(seal(images, failed), folder="s3://results/n", report="s3://results/n/report/index.html")
    assert set(told) == ({BATCH_SEALED, MANY_FAILED} if many else {BATCH_SEALED})


def test_an_event_of_a_night_has_its_counts_and_names_its_line(told):
    batch_sealed(seal(10, 4), folder="s3://results/n", report="s3://results/n/report/index.html")
    counts = {"images": 10, "inspected": 6, "failed": 4, "defective": 1}
    assert told[MANY_FAILED]["payload"] == counts
    assert told[BATCH_SEALED]["payload"].items() > counts.items()
    for event in told.values():
        assert event["resource"]["prefect.resource.id"] == "ssdnet.batch.line-1-2026-11-22"
        [line] = event["related"]
        assert (line["prefect.resource.id"], line["prefect.resource.role"]) == ("ssdnet.line.line-1", "line")
