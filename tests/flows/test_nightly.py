import logging
from contextlib import nullcontext, suppress
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from flows import nightly as flow
from flows.nightly import is_last_night, measure_night
from ssdnet_core.config import Config
from ssdnet_core.errors import SsdnetError
from tasks.address import AddressError
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


@pytest.mark.parametrize("lacking", ["images", "results"])
def test_a_night_whose_deployment_was_made_without_an_address_says_what_to_set(lacking):
    addresses = {"images": "/images", "results": "/results", lacking: ""}
    with pytest.raises(AddressError, match=rf"the address of the {lacking} is empty: set SSDNET_{lacking.upper()} and"):
        flow.nightly.fn("line-1", **addresses)


@pytest.fixture
def nightly(tmp_path, monkeypatch, outcome):
    """Run a night of one image, which is sealed at once; return what came after that, in its order."""
    steps, given = [], SimpleNamespace()
    (tmp_path / "images" / "line-1" / "2026-11-22").mkdir(parents=True)
    (tmp_path / "images" / "line-1" / "2026-11-22" / "0.png").write_bytes(b"an image")

    def cluster(scheduler, **options):
        given.cluster = {"scheduler": scheduler, **options}
        return nullcontext()

    def run_batch(source, results, **rest):
        given.batch = rest
        return outcome

    monkeypatch.setattr(flow, "Cluster", cluster)
    monkeypatch.setattr(flow, "run_batch", run_batch)
    monkeypatch.setattr(flow, "get_run_logger", logging.getLogger)
    for step in ("measure", "update_trends", "tell_of_night", "tell_of_standstill"):

        def note(*_, step=step, **named):
            steps.append(step)
            setattr(given, step, named)

        monkeypatch.setattr(flow, step, note)

    def run(truth, *, day=date(2026, 11, 22), **more):
        places = {place: str(tmp_path / place) for place in ("images", "results")}
        with suppress(SsdnetError):
            flow.nightly.fn("line-1", **places, day=day, truth=truth and str(tmp_path / truth), **more)
            steps.append("completed")
        return steps

    run.given = given
    return run


def test_a_night_takes_the_masks_of_its_own_day_and_its_figures_are_made_anew(nightly, outcome):
    nightly(None, masks="s3://masks")
    assert nightly.given.batch["masks"].address == "s3://masks/line-1/2026-11-22"
    assert nightly.given.update_trends == {"anew": {outcome.results.manifest.batch}}


@pytest.mark.parametrize("days_ago", [1, 2])
def test_only_of_the_last_night_it_is_told_that_the_line_stood_still(nightly, tmp_path, days_ago):
    day = datetime.now(UTC).date() - timedelta(days=days_ago)
    (tmp_path / "images" / "line-1" / day.isoformat()).mkdir()
    assert nightly(None, day=day) == [*["tell_of_standstill"] * (days_ago == 1), "completed"]


@pytest.mark.parametrize(
    ("timezone", "name"),
    [
        ("Europe/Madrid", "nightly line-1 2026-11-22"),
        ("", "nightly line-1 2026-11-21"),
        (None, "nightly line-1 2026-11-21"),
        ("Europe/Madird", "nightly line-1"),
    ],
)
def test_a_run_has_a_name_whatever_its_time_zone_since_an_error_of_the_name_would_be_lost(monkeypatch, timezone, name):
    due = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)  # After midnight in Madrid.
    run = SimpleNamespace(scheduled_start_time=due, parameters={"line": "line-1", "timezone": timezone})
    monkeypatch.setattr(flow, "runtime", SimpleNamespace(flow_run=run))
    assert flow._run_name() == name


def test_a_run_of_a_day_of_its_own_has_that_in_its_name(monkeypatch):
    parameters = {"line": "line-1", "timezone": "", "day": "2026-11-02"}
    run = SimpleNamespace(scheduled_start_time=datetime(2026, 11, 22, 3, tzinfo=UTC), parameters=parameters)
    monkeypatch.setattr(flow, "runtime", SimpleNamespace(flow_run=run))
    assert flow._run_name() == "nightly line-1 2026-11-02"


def test_a_run_that_starts_days_late_inspects_the_night_before_it_was_due(nightly, tmp_path, monkeypatch):
    due = datetime.now(UTC) - timedelta(days=3)
    night = tmp_path / "images" / "line-1" / str(due.date() - timedelta(days=1))
    night.mkdir()
    (night / "0.png").write_bytes(b"an image")
    monkeypatch.setattr(flow, "runtime", SimpleNamespace(flow_run=SimpleNamespace(scheduled_start_time=due)))
    assert nightly(None, day=None) == ["update_trends", "tell_of_night", "completed"]
    assert nightly.given.batch["batch"] == f"line-1-{night.name}"
    assert nightly.given.tell_of_night["newest"] is False


def test_a_time_zone_that_was_emptied_in_a_form_is_utc(nightly):
    assert nightly(None, timezone="")[-1] == "completed"


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


def test_a_night_is_inspected_with_all_that_its_run_was_given(nightly):
    config = Config.preset("fast").updated({"device": "cpu"})
    nightly(None, config=config, refit=True, scheduler="tcp://there:8786", workers=2, group=3)
    assert nightly.given.cluster == {"scheduler": "tcp://there:8786", "workers": 2, "device": "cpu", "group": 3}
    batch = nightly.given.batch
    assert (batch["config"], batch["refit"], batch["retry_failed"]) == (config, True, False)
    assert batch["batch"] == "line-1-2026-11-22"
