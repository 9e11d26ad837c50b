"""Which alarms a batch raises, and a night: once for its results, however often and by whichever run they are told."""

import logging
from dataclasses import replace

import pytest

from flows import events, monitoring
from flows.events import BATCH_SEALED, DEFECT_RATE, DEFECT_RATE_JUMP, MANY_FAILED, SCORE_DRIFT, UP_TO_DATE
from flows.monitoring import tell_of_batch, tell_of_night
from tasks.nights import Night
from tasks.storage import Storage
from tasks.storage_answers import StorageError
from tasks.trends import Trends, compare_nights
from tests.tasks.made_nights import figures, nights

COMPARED = {DEFECT_RATE, UP_TO_DATE}
ALARMS = {DEFECT_RATE_JUMP, SCORE_DRIFT}
ODD = figures(10, defective=84, median=4.0)


@pytest.fixture
def sent(monkeypatch):
    """The names of the events that are sent."""
    sent = []
    monkeypatch.setattr(events, "emit_event", lambda event, **rest: sent.append(event))
    monkeypatch.setattr(monitoring, "get_run_logger", logging.getLogger)
    for name in ("show_batch", "show_trends"):
        monkeypatch.setattr(monitoring, name, lambda *arguments, **named: None)
    return sent


@pytest.fixture
def results(tmp_path):
    return Storage(str(tmp_path))


def told(sent, results, night=ODD, *, newest=True):
    """The events of a run that compares this night."""
    sent.clear()
    trends = Trends(compare_nights([*nights(10), night]), table="t", page="p")
    tell_of_night(Night("line-1", night.day), night.batch, results=results, trends=trends, newest=newest)
    return set(sent)


def sealed(sent, outcome, *, sealed=True, **changes):
    """The events of a run that finds this batch finished, or seals it; it has two images, of which one failed."""
    sent.clear()
    tell_of_batch(replace(outcome, seal=replace(outcome.seal, **changes)), sealed=sealed)
    return sent


def test_last_night_alarms_once_for_its_results_however_often_it_is_run(sent, results):
    assert told(sent, results) == COMPARED | ALARMS
    assert told(sent, results) == COMPARED


def test_other_results_of_last_night_alarm_again(sent, results):
    assert told(sent, results) == COMPARED | ALARMS
    assert told(sent, results, replace(ODD, digest="with late images")) == COMPARED | ALARMS


def test_an_older_night_raises_no_alarm_and_keeps_none_from_being_raised(sent, results):
    assert told(sent, results, newest=False) == {DEFECT_RATE}
    assert told(sent, results) == COMPARED | ALARMS


def test_an_ordinary_night_raises_none_and_leaves_nothing(sent, results):
    assert told(sent, results, figures(10)) == COMPARED
    assert not results.folders()


def test_a_night_whose_run_ended_before_it_had_told_alarms_when_it_is_repaired(sent, results, monkeypatch):
    def away(*arguments, **named):
        raise OSError("no server")

    with monkeypatch.context() as patch:
        patch.setattr(events, "emit_event", away)
        told(sent, results)
    assert told(sent, results) == COMPARED | ALARMS


def test_where_the_storage_does_not_say_it_alarms_rather_twice_than_never(sent, results, monkeypatch):
    def away(*arguments):
        raise StorageError("the store is away")

    told(sent, results)
    monkeypatch.setattr(Storage, "read", away)
    assert told(sent, results) == COMPARED | ALARMS


@pytest.fixture
def batch(results, outcome):
    """A batch of last night of which half of the images failed."""
    folder = results.below(ODD.batch)
    return replace(outcome, folder=folder, seal=replace(outcome.seal, batch=folder.name))


def test_many_failed_images_alarm_once_for_the_results_however_often_the_batch_is_run(sent, batch):
    assert sealed(sent, batch) == [BATCH_SEALED, MANY_FAILED]
    assert sealed(sent, batch, sealed=False) == []
    assert sealed(sent, batch) == [BATCH_SEALED]
    assert sealed(sent, batch, digest="with late images") == [BATCH_SEALED, MANY_FAILED]


def test_many_failed_images_that_a_killed_run_sealed_alarm_when_the_batch_is_run_again(sent, batch):
    assert sealed(sent, batch, sealed=False) == [MANY_FAILED]


def test_many_failed_images_of_which_the_server_took_nothing_are_not_noted_and_alarm_again(
    sent, results, batch, monkeypatch
):
    def away(outcome):
        raise OSError("no server")

    with monkeypatch.context() as patch:
        patch.setattr(monitoring, "show_batch", away)
        assert sealed(sent, batch) == [BATCH_SEALED, MANY_FAILED]  # queued, as Prefect does
    assert not results.folders()
    assert sealed(sent, batch, sealed=False) == [MANY_FAILED]
    assert sealed(sent, batch, sealed=False) == []


def test_few_failed_images_raise_no_alarm_and_leave_nothing(sent, results, batch):
    assert sealed(sent, batch, images=20, failed=1) == [BATCH_SEALED]
    assert not results.folders()


def test_many_failed_images_and_what_is_out_of_the_ordinary_are_alarms_of_their_own(sent, results, batch):
    assert sealed(sent, batch, digest=ODD.digest) == [BATCH_SEALED, MANY_FAILED]
    assert told(sent, results) == COMPARED | ALARMS
    assert sealed(sent, batch, digest=ODD.digest) == [BATCH_SEALED]
    assert told(sent, results) == COMPARED


@pytest.mark.parametrize(
    ("night", "alarm"), [(figures(10, defective=84), DEFECT_RATE_JUMP), (figures(10, median=4.0), SCORE_DRIFT)]
)
def test_either_departure_alone_raises_its_own_alarm_once(sent, results, night, alarm):
    assert told(sent, results, night) == COMPARED | {alarm}
    assert told(sent, results, night) == COMPARED


def test_a_night_of_which_the_server_took_nothing_is_not_noted_and_alarms_again(sent, results, monkeypatch):
    def away(*arguments, **named):
        raise OSError("no server")

    with monkeypatch.context() as patch:
        patch.setattr(monitoring, "show_trends", away)
        assert told(sent, results) == COMPARED | ALARMS, "queued, as Prefect does"
    assert not results.folders()
    assert told(sent, results) == COMPARED | ALARMS
