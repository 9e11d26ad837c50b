import logging
from contextlib import nullcontext, suppress
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from flows import nightly as flow
from flows.nightly import is_last_night, measure_night
from ssdnet_core.errors import SsdnetError
from tasks.cluster import ClusterError
from tasks.nights import Night
from tasks.storage import Storage
from tasks.truth import NightTruth, NoTruthError


@pytest.mark.parametrize(
    ("day", "late", "last"),
    [
        (22, timedelta(0), True),
        (22, timedelta(hours=8), True),  # it waited for a worker
        (21, timedelta(0), False),
        (23, timedelta(0), False),  # a custom run of today, whose night has not been yet
        (22, timedelta(hours=30), False),  # the next run has been due for six hours
        (22, timedelta(days=3), False),  # three later runs wait for a worker, too
    ],
)
def test_only_the_night_before_makes_a_line_up_to_date_and_only_until_the_next_is_due(day, late, last):
    due = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
    assert is_last_night(date(2026, 11, day), due=due, now=due + late, timezone="Europe/Madrid") is last


def test_a_night_that_is_due_before_midnight_may_start_after_it():
    due = datetime(2026, 11, 23, 22, 30, tzinfo=UTC)
    assert is_last_night(date(2026, 11, 22), due=due, now=due + timedelta(hours=1), timezone="Europe/Madrid")


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Measure a sealed night, and tell what it was compared with."""
    night, root, compared = Night("line-1", date(2026, 11, 22)), tmp_path / "truth", []
    monkeypatch.setattr(flow, "measure", lambda *_, truth, **__: compared.append(truth))
    monkeypatch.setattr(flow, "get_run_logger", logging.getLogger)

    def measure(*folders):
        for folder in folders:
            (root / folder).mkdir(parents=True)
        measure_night(SimpleNamespace(), SimpleNamespace(), source=Storage("/in"), night=night, truth=str(root))
        return compared

    return measure


def test_a_night_is_measured_against_its_own_truth(measured, tmp_path):
    folder = Storage(str(tmp_path / "truth" / "line-1" / "2026-11-22"))
    assert measured("line-1/2026-11-22") == [NightTruth(folder, "line-1")]


def test_a_night_that_nobody_has_looked_at_is_not_measured_and_the_log_says_so(measured, tmp_path, caplog):
    assert not measured("line-1/2026-11-21")
    assert f"no truth at {tmp_path}/truth/line-1/2026-11-22: this night is not measured" in caplog.text


def test_truth_that_is_nowhere_fails_the_run_and_does_not_look_like_a_night_nobody_has_looked_at(measured, tmp_path):
    with pytest.raises(NoTruthError, match=f"no truth at {tmp_path}/truth: "):
        measured()


@pytest.fixture
def nightly(tmp_path, monkeypatch, outcome):
    """Run a night of one image, which is sealed at once; return what came after that, in its order."""
    steps = []
    (tmp_path / "images" / "line-1" / "2026-11-22").mkdir(parents=True)
    (tmp_path / "images" / "line-1" / "2026-11-22" / "0.png").write_bytes(b"an image")
    monkeypatch.setattr(flow, "Cluster", lambda *_, **__: nullcontext())
    monkeypatch.setattr(flow, "run_batch", lambda *_, **__: outcome)
    monkeypatch.setattr(flow, "get_run_logger", logging.getLogger)
    for step in ("measure", "update_trends", "tell_of_night"):
        monkeypatch.setattr(flow, step, lambda *_, step=step, **__: steps.append(step))

    def run(truth):
        places = {place: str(tmp_path / place) for place in ("images", "results")}
        with suppress(SsdnetError):
            flow.nightly.fn("line-1", **places, day=date(2026, 11, 22), truth=truth and str(tmp_path / truth))
            steps.append("completed")
        return steps

    return run


def test_a_night_is_measured_before_it_is_compared_since_the_trends_have_its_metrics(nightly, tmp_path):
    (tmp_path / "truth" / "line-1" / "2026-11-22").mkdir(parents=True)
    assert nightly("truth") == ["measure", "update_trends", "tell_of_night", "completed"]


def test_a_night_whose_truth_is_nowhere_is_compared_and_told_of_before_its_run_fails(nightly):
    assert nightly("misspelt") == ["update_trends", "tell_of_night"]


@pytest.mark.parametrize("failure", ["a truth that cannot be looked for", "workers that leave"])
def test_a_night_that_cannot_be_measured_is_compared_and_told_of_before_its_run_fails(
    nightly, tmp_path, monkeypatch, failure
):
    if failure == "workers that leave":
        (tmp_path / "truth" / "line-1" / "2026-11-22").mkdir(parents=True)

        def left(*_, **__):
            raise ClusterError("all workers have left")

        monkeypatch.setattr(flow, "measure", left)
    else:
        (tmp_path / "truth").symlink_to("truth")
    assert nightly("truth") == ["update_trends", "tell_of_night"]


def test_a_night_without_truth_is_compared_and_told_of(nightly):
    assert nightly(None) == ["update_trends", "tell_of_night", "completed"]
