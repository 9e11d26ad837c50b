"""What is told of a finished batch, and of a night beside those before it."""

from dataclasses import replace

import pytest

from flows import events
from flows.events import (
    BATCH_SEALED,
    DEFECT_RATE,
    DEFECT_RATE_JUMP,
    MANY_FAILED,
    SCORE_DRIFT,
    batch_sealed,
    has_many_failed,
    many_failed,
    night_compared,
)
from tasks.seal import Seal
from tasks.trends import compare_nights
from tests.tasks.made_nights import figures, nights


@pytest.fixture
def told(monkeypatch):
    """The events that are sent, by their names."""
    told = {}
    monkeypatch.setattr(events, "emit_event", lambda event, **rest: told.update({event: rest}))
    return told


def seal(images, failed):
    return Seal(
        batch="line-1-2026-11-22",
        fingerprint="f",
        images=images,
        inspected=images - failed,
        failed=failed,
        defective=1,
        digest="d",
    )


@pytest.mark.parametrize(
    ("images", "failed", "many"),
    [(100, 0, False), (100, 5, False), (100, 6, True), (10, 1, True), (20, 1, False), (3, 3, True)],
)
def test_more_than_5_in_100_failed_images_of_a_batch_are_many(images, failed, many):
    assert has_many_failed(seal(images, failed)) is many


def test_an_event_of_a_night_has_its_counts_and_names_its_line(told):
    batch_sealed(seal(10, 4), folder="s3://results/n", report="s3://results/n/report/index.html")
    many_failed(seal(10, 4))
    counts = {"images": 10, "inspected": 6, "failed": 4, "defective": 1}
    assert told[MANY_FAILED]["payload"] == counts
    assert told[BATCH_SEALED]["payload"].items() > counts.items()
    for event in told.values():
        assert event["resource"]["prefect.resource.id"] == "ssdnet.batch.line-1-2026-11-22"
        [line] = event["related"]
        assert (line["prefect.resource.id"], line["prefect.resource.role"]) == ("ssdnet.line.line-1", "line")


def test_a_jump_of_the_defect_rate_is_told_with_what_is_usual(told):
    *_, row = compare_nights([*nights(9), figures(9, defective=150)])
    night_compared(row, alarm=True)
    assert set(told) == {DEFECT_RATE, DEFECT_RATE_JUMP}
    jumped = told[DEFECT_RATE_JUMP]["payload"]
    assert (jumped["defective"], jumped["inspected"], jumped["defect_rate"]) == (150, 420, 150 / 420)
    assert 0 <= jumped["lowest"] < jumped["usual"] < jumped["highest"] < jumped["defect_rate"]
    assert told[DEFECT_RATE]["payload"] == {**jumped, "alarm": True}


def test_a_drift_of_the_scores_is_told_by_quantile_and_is_no_alarm_of_the_defect_rate(told):
    *_, row = compare_nights([*nights(9), figures(9, median=3.0)])
    night_compared(row, alarm=True)
    assert set(told) == {DEFECT_RATE, SCORE_DRIFT}
    assert told[DEFECT_RATE]["payload"]["alarm"] is False
    drifted = told[SCORE_DRIFT]["payload"]
    assert set(drifted) == {"score_q25", "score_q50", "score_q75"}
    assert drifted["score_q50"]["value"] == 3.0
    for quantile in drifted.values():
        assert quantile["lowest"] < quantile["usual"] < quantile["highest"] < quantile["value"]


def test_a_night_of_the_first_week_has_its_rate_told_without_what_is_usual(told):
    *_, row = compare_nights(nights(3))
    night_compared(row, alarm=True)
    assert set(told) == {DEFECT_RATE}
    assert set(told[DEFECT_RATE]["payload"]) == {"defect_rate", "defective", "inspected", "alarm"}


def test_a_drift_names_no_quantile_that_lies_where_it_usually_does(told):
    night = replace(figures(9), score_q75=4.0)
    night_compared(compare_nights([*nights(9), night])[-1], alarm=True)
    assert set(told[SCORE_DRIFT]["payload"]) == {"score_q75"}
