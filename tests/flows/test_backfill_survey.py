"""Lines whose storage is away, among others whose is not; what ran before is asked for over real HTTP connections."""

from dataclasses import replace
from datetime import date
from uuid import uuid4

import pytest

from flows import backfill_survey as survey
from flows.backfill import planned_row
from flows.backfill_days import Days
from flows.backfill_plan import NightState
from flows.backfill_survey import plan_backfill
from tasks.seal import Seal
from tasks.storage_answers import StorageError
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
        seal = Seal(batch.name, LINE.config.fingerprint(), images=1, inspected=1, failed=0, defective=0, digest="")
        (batch / "seal.json").write_bytes(seal.to_json())
        addresses = {place: str(folder) for place, folder in places.items()}
        lines[name] = replace(LINE, deployment=f"nightly/{name}", id=uuid4(), name=name, **addresses)
    monkeypatch.setattr(
        survey, "find_lines", lambda asked, _: tuple(lines[name] for name in sorted(asked or lines.keys()))
    )
    return lines


def planned(runs=(), **asked):
    with serving(RunsApi(list(runs))):
        nights = plan_backfill(DAYS, **asked).nights
    return {(night.night.line, night.night.day): night for night in nights}


def states(nights, line):
    return [nights[line, day].state for day in (DAYS.start, DAYS.end)]


def away(path):
    """Let a folder or file be there without being given; root is not refused it."""
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.name)


def test_a_line_whose_images_are_away_has_what_is_not_sealed_given_up_and_the_others_run(lines, tmp_path):
    away(tmp_path / "images" / "line-2")
    nights = planned()
    assert states(nights, "line-1") == [NightState.SEALED, NightState.TO_DO]
    assert states(nights, "line-2") == [NightState.SEALED, NightState.FAILED]
    lost = nights["line-2", DAYS.end]
    assert not lost.waits
    assert planned_row(lost)["to do"].startswith(f"nothing: cannot list {tmp_path}/images/line-2: ")


def test_a_night_whose_seal_cannot_be_read_is_given_up_alone(lines, tmp_path):
    seal = tmp_path / "results" / "line-2" / f"line-2-{DAYS.start}" / "seal.json"
    away(seal)
    nights = planned()
    assert states(nights, "line-1") == [NightState.SEALED, NightState.TO_DO]
    assert states(nights, "line-2") == [NightState.FAILED, NightState.TO_DO]
    assert f"cannot read {seal}: " in nights["line-2", DAYS.start].reason


def test_a_night_that_runs_is_waited_for_though_its_storage_is_away(lines, tmp_path):
    away(tmp_path / "images" / "line-2")
    line = lines["line-2"]
    places = {"line": line.name, "images": line.images, "results": line.results}
    run = flow_run(**places, day=DAYS.end.isoformat())
    assert planned([run])["line-2", DAYS.end].run == run.id


def test_storage_that_is_away_ends_a_backfill_of_that_line(lines, tmp_path):
    away(tmp_path / "images" / "line-2")
    with pytest.raises(StorageError, match="cannot list"):
        planned(lines=["line-2"])
    assert states(planned(lines=["line-1"]), "line-1") == [NightState.SEALED, NightState.TO_DO]
