"""A backfill against a real Prefect server, a real worker of its pool, and a Dask cluster: through the deployments."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.backfill_days import Days
from flows.backfill_plan import BackfillError, NightState
from flows.backfill_survey import plan_backfill
from flows.deployed_lines import find_lines
from ssdnet_core.config import Config, parse_config
from ssdnet_core.synthetic import sample
from tasks.finished_batch import find_seal
from tasks.nights import day_before
from tasks.storage import Storage
from tests.conftest import QUICK, end, wait_for
from tests.prefect_server import PREFECT, ask, prefect, prefect_server

pytestmark = pytest.mark.slow

ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass
class Site:
    """Images and results of two lines, and the environment that names their server."""

    folder: Path
    environment: dict[str, str]

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def command(self, *arguments: str, first: int = 1, last: int = 4, settings: list[str] = QUICK) -> list[str]:
        days = ["--start", f"2026-11-{first:02d}", "--end", f"2026-11-{last:02d}"]
        return [sys.executable, "-m", "flows", "backfill", *days, *arguments, "--json", *settings]

    def backfill(self, *arguments: str, **days: Any) -> tuple[int, dict[tuple[str, str], dict[str, Any]]]:
        """Run the command; return its exit status and what it says of each night."""
        finished = subprocess.run(
            self.command(*arguments, **days), env=self.environment, capture_output=True, text=True, timeout=600
        )
        assert finished.stdout, finished.stderr
        nights = json.loads(finished.stdout)["nights"]
        return finished.returncode, {(night["line"], night["day"][-2:]): night for night in nights}

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs of all nights so far."""
        return ask(self.environment, "flow_runs/filter", {"flows": {"name": {"any_": ["nightly"]}}})

    def runs_by_night(self) -> Counter[str]:
        return Counter(run["name"] for run in self.runs())

    def state(self, run: dict[str, Any]) -> str:
        [found] = ask(self.environment, "flow_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
        return found["state_type"]

    def seal(self, batch: str) -> dict[str, Any]:
        return json.loads((self.results / batch / "seal.json").read_text())

    def write_night(self, line: str, day: int, *, images: int = 2) -> Path:
        folder = self.folder / "images" / line / f"2026-11-{day:02d}"
        folder.mkdir(parents=True)
        for number in range(images):
            made = sample("weave", "hole" if number % 2 else "none", size=(96, 96), seed=10 * day + number)
            Image.fromarray(made.pixels).save(folder / f"{number:03d}.png")
        return folder


@contextmanager
def process(command: list[str], environment: dict[str, str]):
    running = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield running
    finally:
        end(running)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, database):
    folder = tmp_path_factory.mktemp("site")
    scheduler_file = folder / "scheduler.json"
    settings = {
        "PREFECT_WORKER_QUERY_SECONDS": "3",
        "SSDNET_IMAGES": str(folder / "images"),
        "SSDNET_RESULTS": str(folder / "results"),
    }
    with ExitStack() as stack:
        for role, options in (("scheduler", ["--host", "127.0.0.1", "--port", "0"]), ("worker", ["--nthreads", "1"])):
            dask = [sys.executable, "-m", f"distributed.cli.dask_{role}", *options, "--no-dashboard"]
            stack.enter_context(process([*dask, "--scheduler-file", str(scheduler_file)], dict(os.environ)))
        environment = stack.enter_context(prefect_server(database(folder / "server"), **settings))
        for pool in ("inspection", "backfills"):
            start = [*PREFECT, "worker", "start", "--pool", pool, "--type", "process"]
            stack.enter_context(process(start, environment))
        wait_for(lambda: len(ask(environment, "work_pools/filter", {})) == 2, what="the pools of both workers")
        wait_for(scheduler_file.exists, what="the Dask scheduler")
        environment["SSDNET_SCHEDULER"] = json.loads(scheduler_file.read_text())["address"]
        prefect(environment, "--no-prompt", "deploy", "--all")
        site = Site(folder, environment)
        for line in ("line-1", "line-2"):
            for day in (1, 4):
                site.write_night(line, day)
        broken = site.write_night("line-1", 2)
        (broken / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
        yield site


def test_a_killed_backfill_run_again_seals_every_night_once(site):
    killed = subprocess.Popen(
        site.command(), env=site.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        ended = wait_for(
            lambda: [run["name"] for run in site.runs() if run["state_type"] == "COMPLETED"],
            what="the first night sealed",
            timeout=600,
        )
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    _, line, day = ended[0].split()
    done = site.seal(f"{line}-{day}")
    status, nights = site.backfill()

    assert status == 3
    quiet = {("line-1", "03"), ("line-2", "02"), ("line-2", "03")}
    assert {key for key, night in nights.items() if night["state"] == "no images"} == quiet
    assert {night["state"] for key, night in nights.items() if key not in quiet} == {"sealed"}
    assert nights[line, day[-2:]]["before"] == "sealed"
    for key, night in nights.items():
        assert night["folder"] == (None if key in quiet else str(site.results / night["batch"]))
        assert key in quiet or Path(night["report"]).is_file()
    assert nights["line-1", "02"]["seal"]["failed"] == 1
    assert site.seal(f"{line}-{day}") == done
    expected = {"line-1 2026-11-01", "line-1 2026-11-02", "line-1 2026-11-04", "line-2 2026-11-01", "line-2 2026-11-04"}
    assert site.runs_by_night() == {f"nightly {night}": 1 for night in expected}
    assert most_at_once(site.runs()) == 2
    for line in ("line-1", "line-2"):
        assert most_at_once([run for run in site.runs() if run["parameters"]["line"] == line]) == 1
    status, nights = site.backfill("--line", "line-1", first=2, last=2)
    assert (status, nights["line-1", "02"]["before"]) == (3, "sealed"), "nothing was started, and an image of it failed"
    assert len(site.runs()) == len(expected)


def test_force_inspects_a_sealed_night_again_with_equal_results(site):
    batch = site.results / "line-2-2026-11-01"
    old = site.seal(batch.name)
    records = {path: path.stat().st_mtime_ns for path in (batch / "records").iterdir()}
    status, nights = site.backfill("--line", "line-2", "--force", last=1)
    assert (status, nights["line-2", "01"]["attempt"]) == (0, 2)
    assert site.seal(batch.name) == old
    assert all(path.stat().st_mtime_ns > before for path, before in records.items())


def test_a_night_that_failed_gets_another_attempt_and_a_grown_one_its_new_images(site):
    folder = site.folder / "images" / "line-2" / "2026-11-05"
    folder.mkdir()
    (folder / "notes.txt").write_text("no image")
    status, nights = site.backfill("--deployment", "nightly/line-2", first=5, last=5)
    assert (status, nights["line-2", "05"]["state"]) == (1, "failed")
    assert "no image in" in nights["line-2", "05"]["reason"]
    for number in range(2):
        Image.fromarray(sample("tile", "none", size=(96, 96), seed=number).pixels).save(folder / f"{number}.png")
    late = site.folder / "images" / "line-2" / "2026-11-04" / "late.png"
    Image.fromarray(sample("tile", "none", size=(96, 96), seed=9).pixels).save(late)
    status, nights = site.backfill("--line", "line-2", first=4, last=5)
    assert status == 0
    assert [(night["before"], night["attempt"], night["seal"]["images"]) for night in nights.values()] == [
        ("new images", 2, 3),
        ("failed", 2, 2),
    ]


def night_with(site, **places):
    """Run the first night of line-2 with settings of its own, and masks or truth; return the run that has ended."""
    [deployment] = ask(site.environment, "deployments/filter", {"deployments": {"name": {"any_": ["line-2"]}}})
    config = Config().updated({"fit.steps": 8, "working_size": 64, "fit.crop": 64, "seed": 3})
    parameters = {"day": "2026-11-01", "config": config.model_dump(mode="json")}
    parameters |= {name: str(folder) for name, folder in places.items()}
    run = ask(site.environment, f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
    wait_for(lambda: site.state(run) in ENDED, what="the night", timeout=600)
    [ended] = ask(site.environment, "flow_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    return ended


def test_a_night_whose_truth_is_known_in_part_is_measured_in_part(site):
    day = "line-2/2026-11-01"
    for kind in ("masks", "truth"):
        (site.folder / kind / day).mkdir(parents=True)
    keep = np.full((96, 96), 255, dtype=np.uint8)
    keep[:8] = 0
    Image.fromarray(keep).save(site.folder / "masks" / day / "001.png")
    Image.fromarray(sample("weave", "hole", size=(96, 96), seed=11).truth).save(site.folder / "truth" / day / "001.png")
    run = night_with(site, masks=site.folder / "masks", truth=site.folder / "truth")
    assert run["state_type"] == "COMPLETED"
    [evaluation] = site.results.glob("line-2-2026-11-01*/evaluation.json")
    measured = json.loads(evaluation.read_text())
    assert [(image["key"], image["truly_defective"]) for image in measured["images"]] == [("001.png", True)]
    assert [image["key"] for image in measured["unmeasured"]] == ["000.png"]
    assert measured["mean"]["auroc"] is not None
    wanted = {"key": {"any_": ["line-2-metrics"]}, "flow_run_id": {"any_": [run["id"]]}}
    [shown] = ask(site.environment, "artifacts/filter", {"artifacts": wanted})
    mean = json.loads(shown["data"])[-1]
    assert (mean["defective"], mean["unmeasured"]) == (1, 1)
    assert mean["AUROC"] == pytest.approx(measured["mean"]["auroc"], abs=0.001)
    [masked] = [e for e in json.loads((evaluation.parent / "manifest.json").read_text())["entries"] if e["mask"]]
    assert masked["key"] == "001.png"


def test_a_night_whose_truth_is_nowhere_is_sealed_and_its_run_fails_and_says_so(site):
    run = night_with(site, truth=site.folder / "trouth")
    assert run["state_type"] == "FAILED"
    assert f"no truth at {site.folder}/trouth: " in run["state"]["message"]
    fingerprint = parse_config(run["parameters"]["config"]).fingerprint()
    assert find_seal(Storage(str(site.results)), "line-2-2026-11-01", fingerprint=fingerprint) is not None


def backfills(site) -> dict[str, dict[str, Any]]:
    """Return the deployments of the backfill, by their names."""
    found = ask(site.environment, "deployments/filter", {"flows": {"name": {"any_": ["backfill"]}}})
    return {deployment["name"]: deployment for deployment in found}


def test_the_last_nights_are_caught_up_with_as_a_schedule_would(site):
    run = ask(site.environment, f"deployments/{backfills(site)['catch-up']['id']}/create_flow_run", {})
    wait_for(lambda: site.state(run) in ENDED, what="the backfill", timeout=600)
    [ended] = ask(site.environment, "flow_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    assert (ended["state_type"], ended["name"]) == ("COMPLETED", "backfill the last 3 nights")
    wanted = {"key": {"any_": ["backfill-outcome"]}, "flow_run_id": {"any_": [run["id"]]}}
    [artifact] = ask(site.environment, "artifacts/filter", {"artifacts": wanted})
    last = day_before(datetime.now(UTC), "Europe/Madrid")
    nights = [f"line-{number} {last - timedelta(days=ago)}" for ago in (2, 1, 0) for number in (1, 2)]
    assert [row["night"] for row in json.loads(artifact["data"])] == nights


def test_a_backfill_from_the_form_takes_no_place_of_the_nights_it_waits_for(site):
    ask(site.environment, "work_pools/inspection", {"concurrency_limit": 1}, method="PATCH")
    deployment = backfills(site)["on-demand"]
    changes = {"fit.steps": 8, "working_size": 64, "fit.crop": 64, "seed": 1}
    old = site.seal("line-1-2026-11-01")
    parameters = {"start": "2026-11-01", "end": "2026-11-01", "at_most": 2, "changes": changes}
    run = ask(site.environment, f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})

    wait_for(lambda: site.state(run) in ENDED, what="the backfill", timeout=600)
    assert site.state(run) == "COMPLETED"
    fingerprint = Config().updated(changes).fingerprint()[:8]
    assert len(list(site.results.glob(f"line-?-2026-11-01~{fingerprint}/seal.json"))) == 2
    assert site.seal("line-1-2026-11-01") == old, "other settings go beside the old results"
    assert site.seal(f"line-1-2026-11-01~{fingerprint}")["digest"] != old["digest"]
    wanted = {"key": {"any_": ["backfill-outcome"]}, "flow_run_id": {"any_": [run["id"]]}}
    [artifact] = ask(site.environment, "artifacts/filter", {"artifacts": wanted})
    assert "sealed" in artifact["data"]


def test_a_dry_run_shows_each_night_and_starts_none(site):
    before = site.runs_by_night()
    status, nights = site.backfill("--dry-run", "--line", "line-1", settings=[*QUICK, "--set", "seed=1"])
    assert (status, site.runs_by_night()) == (0, before)
    assert [night["state"] for night in nights.values()] == ["sealed", "to do", "no images", "to do"]
    assert [night["attempt"] for night in nights.values()] == [0, 1, 0, 1]
    [sealed, *others] = nights.values()
    assert sealed["batch"] == f"line-1-2026-11-01~{sealed['fingerprint'][:8]}", "beside the batch of other settings"
    assert Path(sealed["report"]) == site.results / sealed["batch"] / "report" / "index.html"
    assert Path(sealed["report"]).is_file()
    assert [night["folder"] for night in others] == [None, None, None]


def test_a_schedule_that_misses_its_line_fails_and_a_line_that_stood_still_does_not(site):
    created = {}
    for deployment, line in (("line-1", "line-1"), ("line-2", "lime-1")):
        [found] = ask(site.environment, "deployments/filter", {"deployments": {"name": {"any_": [deployment]}}})
        parameters = {"parameters": {"line": line, "day": "2026-11-03"}}
        created[line] = ask(site.environment, f"deployments/{found['id']}/create_flow_run", parameters)["id"]

    def states() -> dict[str, dict[str, Any]]:
        found = ask(site.environment, "flow_runs/filter", {"flow_runs": {"id": {"any_": list(created.values())}}})
        assert {run["name"] for run in found if run["run_count"]} <= {f"nightly {line} 2026-11-03" for line in created}
        return {run["parameters"]["line"]: run["state"] for run in found}

    wait_for(lambda: {"COMPLETED", "FAILED"} >= {s["type"] for s in states().values()}, what="both runs", timeout=600)
    assert (states()["line-1"]["type"], states()["line-1"]["name"]) == ("COMPLETED", "NoImages")
    assert states()["lime-1"]["type"] == "FAILED"
    assert "there are line-1, line-2" in states()["lime-1"]["message"]
    assert not (site.results / "line-1-2026-11-03").exists()


def test_a_line_without_a_folder_keeps_no_other_from_running_unless_it_is_asked_for(site):
    folder = site.folder / "images" / "line-2"
    away = folder.rename(site.folder / "away")
    before = site.runs_by_night()
    try:
        status, nights = site.backfill(first=1, last=2)
        assert (status, site.runs_by_night()) == (1, before), "what is sealed is not started again"
        assert nights["line-1", "01"]["state"] == "sealed"
        assert (nights["line-1", "02"]["before"], nights["line-1", "02"]["seal"]["failed"]) == ("sealed", 1)
        assert nights["line-2", "01"]["state"] == "sealed", "its images may be archived"
        assert (nights["line-2", "02"]["state"], nights["line-2", "02"]["run"]) == ("failed", None)
        assert "there are line-1" in nights["line-2", "02"]["reason"]
        asked = subprocess.run(site.command("--line", "line-2"), env=site.environment, capture_output=True, text=True)
        assert asked.returncode == 2
        assert "there are line-1" in asked.stderr
    finally:
        away.rename(folder)


def test_a_line_whose_storage_is_away_keeps_no_other_from_running_unless_it_is_asked_for(site):
    before = site.runs_by_night()
    with deployed(site, "line-3", line="line-3", images=str(site.folder / "unmounted")):
        status, nights = site.backfill(first=1, last=1)
        assert (status, site.runs_by_night()) == (1, before)
        assert nights["line-1", "01"]["state"] == nights["line-2", "01"]["state"] == "sealed"
        assert (nights["line-3", "01"]["state"], nights["line-3", "01"]["run"]) == ("failed", None)
        assert nights["line-3", "01"]["reason"].startswith(f"cannot list {site.folder}/unmounted: ")
        asked = subprocess.run(site.command("--line", "line-3"), env=site.environment, capture_output=True, text=True)
        assert asked.returncode == 1
        assert f"cannot list {site.folder}/unmounted: " in asked.stderr


def test_lines_are_found_by_their_own_or_their_deployments_name(site):
    with temporary_settings({PREFECT_API_URL: site.environment["PREFECT_API_URL"]}):
        assert [line.name for line in find_lines()] == ["line-1", "line-2"]
        with pytest.raises(BackfillError, match="there are line-1, line-2"):
            find_lines(["line-9"])
        assert find_lines(["line-2"]) == find_lines((), ["line-2"]) == find_lines(["line-2"], ["nightly/line-2"])
        [line] = find_lines(["line-2"])
        assert (line.images, line.timezone, line.limit) == (str(site.folder / "images"), "Europe/Madrid", 1)
        with pytest.raises(BackfillError, match="there are nightly/line-1, nightly/line-2"):
            find_lines((), ["line-9"])


@contextmanager
def deployed(site, name, **parameters):
    """Another deployment of the nightly flow, for a while; gives what the server knows of it."""
    [first] = ask(site.environment, "deployments/filter", {"deployments": {"name": {"any_": ["line-1"]}}})
    given = {**first["parameters"], **parameters}
    body = {"name": name, "flow_id": first["flow_id"], "concurrency_limit": 1}
    body["parameters"] = {parameter: value for parameter, value in given.items() if value is not None}
    deployment = ask(site.environment, "deployments/", body)
    try:
        yield deployment
    finally:
        ask(site.environment, f"deployments/{deployment['id']}", {}, method="DELETE")


def planned(site, day, **asked):
    with temporary_settings({PREFECT_API_URL: site.environment["PREFECT_API_URL"]}):
        nights = plan_backfill(Days(date(2026, 11, day), date(2026, 11, day)), **asked)
    return {night.deployment: night for night in nights}


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"line": None}, "names no line"),
        ({"images": ""}, "SSDNET_IMAGES"),
        ({"config": {"fit": {"stepz": 1}}}, "fit.stepz"),
        ({"timezone": "Mars/Base"}, "Mars/Base"),
    ],
)
def test_a_deployment_no_night_can_run_through_keeps_no_other_from_running_unless_it_is_asked_for(
    site, parameters, named
):
    with deployed(site, "line-3", **{"line": "line-3", **parameters}):
        night = planned(site, 1)["nightly/line-3"]
        assert (night.state, night.waits, night.night.line) == (NightState.FAILED, False, "line-3")
        assert named in night.reason
        assert {"nightly/line-1", "nightly/line-2"} < planned(site, 1).keys()
        with pytest.raises(BackfillError, match="nightly/line-3"):
            planned(site, 1, deployments=["line-3"])


def test_two_deployments_that_would_inspect_one_batch_are_not_both_started(site):
    with deployed(site, "line-1-again"):
        with pytest.raises(BackfillError, match=r"nightly/line-1, nightly/line-1-again.*--deployment"):
            planned(site, 1)
        assert planned(site, 1, deployments=["line-1"]).keys() == {"nightly/line-1"}
    with deployed(site, "line-1-preview", config=Config.preset("preview").model_dump(mode="json")):
        assert {"nightly/line-1", "nightly/line-1-preview"} < planned(site, 1).keys()


def test_a_deployment_whose_limit_lets_none_of_its_runs_start_is_not_waited_for(site):
    site.write_night("line-3", 1)
    with deployed(site, "line-3", line="line-3") as deployment:
        assert planned(site, 1)["nightly/line-3"].waits
        limit = deployment["global_concurrency_limit"]["id"]
        ask(site.environment, f"v2/concurrency_limits/{limit}", {"limit": 0}, method="PATCH")
        night = planned(site, 1)["nightly/line-3"]
        assert (night.state, night.waits) == (NightState.FAILED, False)
        assert "limit of 0" in night.reason


def most_at_once(runs: list[dict[str, Any]]) -> int:
    """Return how many runs were started and not ended at the same time, at most."""
    moments = [(datetime.fromisoformat(run["created"]), 1) for run in runs]
    moments += [(datetime.fromisoformat(run["end_time"]), -1) for run in runs]
    running = [0]
    for _, change in sorted(moments):
        running.append(running[-1] + change)
    return max(running)
