"""Lines whose storage is away, among others whose is not; what ran before is asked for over real HTTP connections."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest

from flows import backfill_survey as survey
from flows.backfill import planned_row
from flows.backfill_days import Days
from flows.backfill_plan import BackfillError, NightState
from flows.backfill_survey import LISTINGS, plan_backfill
from tasks.nights import day_before
from tasks.seal import Seal
from tasks.storage import Storage
from tasks.storage_answers import NoAnswerError, StorageError
from tasks.stored_json import to_json
from tests.flows.flow_runs import LINE, RunsApi, flow_run, serving

DAYS = Days(date(2026, 11, 21), date(2026, 11, 22))


@pytest.fixture
def lines(tmp_path, monkeypatch):
    """Two lines with an image in each of two nights, of which the first is sealed; each has storage of its own."""
    lines = {}
    for name in ("line-1", "line-2"):
        places = {place: tmp_path / place / name for place in ("images", "results")}
        for day in (DAYS.start, DAYS.end):
            night = places["images"] / name / day.isoformat()
            night.mkdir(parents=True)
            (night / "0.png").write_bytes(b"an image")
        batch = places["results"] / f"{name}-{DAYS.start}"
        batch.mkdir(parents=True)
        seal = Seal(
            batch=batch.name,
            fingerprint=LINE.config.fingerprint(),
            images=1,
            inspected=1,
            failed=0,
            defective=0,
            digest="",
        )
        (batch / "seal.json").write_bytes(to_json(seal))
        addresses = {place: str(folder) for place, folder in places.items()}
        lines[name] = replace(LINE, deployment=f"nightly/{name}", id=uuid4(), name=name, **addresses)
    monkeypatch.setattr(
        survey, "find_lines", lambda asked, _: tuple(lines[name] for name in sorted(asked or lines.keys()))
    )
    return lines


def planned(runs=(), days=DAYS, **asked):
    with serving(RunsApi(list(runs))):
        nights = plan_backfill(days, **asked)
    return {(night.night.line, night.night.day): night for night in nights}


def states(nights, line):
    return [nights[line, day].state for day in (DAYS.start, DAYS.end)]


def away(path):
    """Let a folder or file be there without being given; root is not refused it."""
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.name)


def test_a_line_whose_images_are_away_has_its_nights_given_up_and_the_others_run(lines, tmp_path):
    away(tmp_path / "images" / "line-2")
    nights = planned()
    assert states(nights, "line-1") == [NightState.SEALED, NightState.TO_DO]
    assert states(nights, "line-2") == [NightState.FAILED, NightState.FAILED]
    lost = nights["line-2", DAYS.end]
    assert not lost.waits
    assert planned_row(lost)["to do"].startswith(f"nothing: cannot list {tmp_path}/images/line-2: ")


def test_a_line_without_a_folder_keeps_what_is_sealed_and_has_the_rest_given_up(lines, tmp_path):
    (tmp_path / "images" / "line-2" / "line-2").rename(tmp_path / "elsewhere")
    nights = planned()
    assert states(nights, "line-2") == [NightState.SEALED, NightState.FAILED]
    assert nights["line-2", DAYS.end].reason.startswith("no line 'line-2' in ")


def test_a_seal_that_cannot_be_read_gives_up_its_night_alone(lines, tmp_path, monkeypatch):
    seal = tmp_path / "results" / "line-2" / f"line-2-{DAYS.start}" / "seal.json"
    away(seal)
    monkeypatch.setattr(survey, "LISTINGS", 1)
    nights = planned()
    assert states(nights, "line-1") == [NightState.SEALED, NightState.TO_DO]
    assert states(nights, "line-2") == [NightState.FAILED, NightState.TO_DO]
    assert f"cannot read {seal}: " in nights["line-2", DAYS.start].reason


def test_a_web_page_in_place_of_a_seal_gives_up_its_night_alone(lines, tmp_path):
    (tmp_path / "results" / "line-2" / f"line-2-{DAYS.start}" / "seal.json").write_text("<!doctype html><p>502</p>")
    nights = planned()
    assert states(nights, "line-1") == [NightState.SEALED, NightState.TO_DO]
    assert states(nights, "line-2") == [NightState.FAILED, NightState.TO_DO]


def test_a_night_of_files_that_are_no_images_leaves_the_lines_other_nights(lines, tmp_path, monkeypatch):
    night = tmp_path / "images" / "line-2" / "line-2" / DAYS.start.isoformat()
    (night / "0.png").rename(night / "0.txt")
    monkeypatch.setattr(survey, "LISTINGS", 1)
    assert states(planned(), "line-2") == [NightState.SEALED, NightState.TO_DO]


@pytest.mark.parametrize("dead", ["images", "results", "both"])
def test_a_store_that_is_dead_is_asked_no_more_often_than_nights_are_looked_at_side_by_side(lines, monkeypatch, dead):
    asked, places = [], ("images", "results") if dead == "both" else (dead,)

    def dying(request):
        def ask(storage, *key):
            if storage.address.startswith(tuple(getattr(lines["line-2"], place) for place in places)):
                asked.append(storage.address)
                raise NoAnswerError("the store does not answer")
            return request(storage, *key)

        return ask

    for request in ("folders", "list", "read", "exists"):
        monkeypatch.setattr(Storage, request, dying(getattr(Storage, request)))
    nights = planned(days=Days(date(2026, 8, 1), DAYS.end))
    assert 1 <= len(asked) <= LISTINGS + 1
    assert states(nights, "line-1") == [NightState.SEALED, NightState.TO_DO]
    of_line = [night for (line, _), night in nights.items() if line == "line-2"]
    assert len(of_line) > 10 * LISTINGS
    assert {(night.state, night.reason) for night in of_line} == {(NightState.FAILED, "the store does not answer")}


def test_a_night_that_runs_is_waited_for_though_its_storage_is_away(lines, tmp_path):
    away(tmp_path / "images" / "line-2")
    line = lines["line-2"]
    places = {"line": line.name, "images": line.images, "results": line.results}
    run = flow_run(**places, day=DAYS.end.isoformat())
    assert planned([run])["line-2", DAYS.end].run == run.id


@pytest.mark.parametrize(
    "asked",
    [{"lines": ["line-2"]}, {"lines": ["line-1", "line-2"]}, {"deployments": ["nightly/line-1", "nightly/line-2"]}],
    ids=str,
)
def test_storage_that_is_away_ends_a_backfill_of_that_line(lines, tmp_path, asked):
    away(tmp_path / "images" / "line-2")
    with pytest.raises(StorageError, match="cannot list"):
        planned(**asked)
    assert states(planned(lines=["line-1"]), "line-1") == [NightState.SEALED, NightState.TO_DO]


def test_storage_that_is_away_ends_a_backfill_of_the_only_line(lines, tmp_path):
    del lines["line-1"]
    away(tmp_path / "images" / "line-2")
    with pytest.raises(StorageError, match="cannot list"):
        planned()


def test_a_deployment_that_may_start_no_run_has_its_nights_given_up_and_keeps_what_is_sealed(lines):
    lines["line-2"] = replace(lines["line-2"], limit=0)
    nights = planned()
    assert states(nights, "line-1") == [NightState.SEALED, NightState.TO_DO]
    assert states(nights, "line-2") == [NightState.SEALED, NightState.FAILED]
    assert "nightly/line-2 has a concurrency limit of 0" in nights["line-2", DAYS.end].reason


def test_two_deployments_that_would_take_a_batch_from_each_other_are_refused_unless_their_settings_differ(lines):
    lines["line-2"] = replace(lines["line-1"], deployment="nightly/again", id=uuid4())
    with pytest.raises(BackfillError, match=r"line 'line-1' has several .*, nightly/line-1, nightly/again: name one"):
        planned()
    lines["line-2"] = replace(lines["line-2"], config=LINE.config.updated({"seed": 1}))
    assert planned()


@pytest.fixture
def newest(lines):
    """The last night of the one line, which is another one than that of the other line at any time."""
    lines["line-1"] = replace(lines["line-1"], timezone="Pacific/Kiritimati")
    lines["line-2"] = replace(lines["line-2"], timezone="Etc/GMT+12")
    return day_before(datetime.now(UTC), "Pacific/Kiritimati")


@pytest.mark.parametrize("nights", [1, 5])
def test_a_night_that_is_not_over_where_a_line_is_keeps_no_other_from_running(newest, nights):
    start = newest - timedelta(days=nights - 1)
    found = planned(days=Days(start, newest))
    assert len(found) == 2 * nights
    assert found["line-1", newest].state is NightState.NO_IMAGES
    late = found["line-2", newest]
    assert (late.state, late.waits) == (NightState.FAILED, False)
    assert re.match(
        rf"{newest} is not over yet for line 'line-2', whose time zone is Etc/GMT\+12: its last", late.reason
    )
    if nights > 3:
        assert found["line-2", newest - timedelta(days=3)].state is NightState.NO_IMAGES


@pytest.mark.parametrize(("asked", "later", "named"), [(["line-2"], 0, "line-2"), (None, 3, "line-1")])
def test_a_night_that_is_not_over_for_a_line_asked_for_or_for_any_is_refused(newest, asked, later, named):
    end = newest + timedelta(days=later)
    with pytest.raises(BackfillError, match=f"{end} is not over yet for line '{named}', whose time zone is"):
        planned(days=Days(newest, end), lines=asked)


@pytest.mark.parametrize("limit", [None, 1])
def test_a_line_whose_runs_may_start_has_its_nights_started(lines, limit):
    lines["line-2"] = replace(lines["line-2"], limit=limit)
    assert states(planned(), "line-2") == [NightState.SEALED, NightState.TO_DO]


def test_a_backfill_with_settings_of_its_own_inspects_with_them(lines):
    config = LINE.config.updated({"seed": 7})
    nights = planned(config=config, changes={"fit.steps": 9})
    assert {night.config for night in nights.values()} == {config.updated({"fit.steps": 9})}
    assert not any(night.seal for night in nights.values())


def test_two_deployments_of_a_batch_are_refused_however_their_results_are_written(lines):
    again = f"{lines['line-1'].results}/"
    lines["line-2"] = replace(lines["line-1"], deployment="nightly/again", id=uuid4(), results=again)
    with pytest.raises(BackfillError, match="has several deployments with the same results"):
        planned()
