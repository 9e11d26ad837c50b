"""Runs as a Prefect server shows them, and the automations that act on them; with a real webhook as the alarm."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import typer
from PIL import Image
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from infra import automations
from ssdnet_core.config import Config
from ssdnet_core.synthetic import sample
from tasks.night_figures import NightFigures
from tasks.nights import Night
from tasks.seal import Seal, set_seal
from tasks.storage import Storage
from tasks.stored_json import to_json
from tests.conftest import QUICK, ROOT, wait_for
from tests.http_server import served_by
from tests.prefect_server import ask, prefect_server

pytestmark = pytest.mark.slow

LAST = datetime.now(UTC).date() - timedelta(days=1)
ALARMING = ("--hours", "0.003", "--idle-hours", "0.003", "--notify", "webhook/plant")
QUICK_CONFIG = {"fit.steps": 3, "working_size": 64, "fit.crop": 64}


@pytest.fixture(scope="module")
def alarms():
    """A webhook: its address, and what it was sent."""
    received: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

    with served_by(Receiver) as address:
        yield address, received


@pytest.fixture(scope="module")
def server(tmp_path_factory, alarms, database):
    """A server with the automations registered, twice, whose alarms go to the webhook."""
    home = database(tmp_path_factory.mktemp("monitoring"))
    with prefect_server(home, SSDNET_GALLERY_URL="http://gallery", DASK_LOGGING__DISTRIBUTED="error") as environment:
        block = "from prefect.blocks.webhook import Webhook; import sys; Webhook(url=sys.argv[1]).save('plant')"
        subprocess.run([sys.executable, "-c", block, alarms[0]], env=environment, check=True)
        register(environment, "--hours", "26")
        # A missing night is awaited for the shortest time there is.
        register(environment, *ALARMING)
        yield environment


def registration(environment, *arguments):
    """Run infra/automations.py in this process: to start it takes ten seconds."""
    command = typer.Typer()
    command.command()(automations.main)
    with temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}):
        return CliRunner().invoke(command, arguments)


def register(environment, *arguments):
    finished = registration(environment, *arguments)
    assert finished.exit_code == 0, finished.output
    return finished.stdout


def run_night(environment, folder: Path, line: str, *, day: date = LAST) -> subprocess.CompletedProcess[str]:
    code = (
        "import json, sys, datetime\n"
        "from flows.nightly import nightly\n"
        "from ssdnet_core.config import Config\n"
        "images, results, line, changes = sys.argv[1:]\n"
        f"nightly(line, images, results, day=datetime.date.fromisoformat('{day}'), workers=1,\n"
        "        config=Config().updated(json.loads(changes)))\n"
    )
    arguments = [folder / "images", folder / "results", line, json.dumps(QUICK_CONFIG)]
    return subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)


def write_earlier_nights(results: Storage, line: str, fingerprint: str) -> None:
    """Write nine nights as trends read them: one defect in fifty images each, or two."""
    for number in range(1, 10):
        day = LAST - timedelta(days=number)
        seal = Seal(
            batch=Night(line, day).batch,
            fingerprint=fingerprint,
            **{"images": 50, "inspected": 50, "failed": 0, "defective": 1 + number % 2, "digest": "d"},
        )
        folder = results.below(seal.batch)
        night = NightFigures.of_seal(day, seal)
        quantiles = {f"score_q{q}": q / 100 - 0.8 for q in (10, 25, 50, 75, 90, 99)}
        folder.write("trend.json", to_json(replace(night, **quantiles)))
        set_seal(folder, seal)


def artifacts_of(environment, run) -> dict[str | None, dict]:
    found = ask(environment, "artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    return {artifact["key"]: artifact for artifact in found}


def events_named(environment, name):
    return ask(environment, "events/filter", {"filter": {"event": {"name": [name]}}, "limit": 50})["events"]


def test_registering_twice_gives_one_of_each(server):
    names = [automation["name"] for automation in ask(server, "automations/filter", {})]
    assert sorted(names) == sorted(set(names))
    assert {"SSDnet: crashed run", "SSDnet: missing night", "SSDnet: defect rate"} <= set(names)
    [missing] = [a for a in ask(server, "automations/filter", {}) if a["name"] == "SSDnet: missing night"]
    assert missing["actions"][0]["type"] == "call-webhook", "the second registration changed the first"


def test_keeping_what_is_there_brings_back_what_is_not_and_leaves_the_rest_as_the_user_has_it(server):
    def there():
        return {one["name"]: one for one in ask(server, "automations/filter", {})}

    client = (
        "from prefect.client.orchestration import get_client; import sys\n"
        "client = get_client(sync_client=True)\n"
        "client.delete_automation(sys.argv[1]); client.pause_automation(sys.argv[2])\n"
    )
    gone, paused = (there()[f"SSDnet: {name}"]["id"] for name in ("late night", "drift"))
    subprocess.run([sys.executable, "-c", client, gone, paused], env=server, check=True)
    before = there()
    assert register(server, "--keep").startswith("SSDnet: late night:")
    after = there()
    assert set(after) - set(before) == {"SSDnet: late night"}
    assert before.items() <= after.items(), "paused, or with a notification: as it was"
    register(server, *ALARMING)


def test_a_block_that_is_not_there_is_named(server):
    finished = registration(server, "--notify", "slack-webhook/nowhere")
    assert finished.exit_code == 2
    assert "slack-webhook/nowhere" in finished.stderr


def test_a_line_that_was_never_heard_of_again_alarms(server, alarms):
    # In a process of its own, as a user does; a change of the automations would end what they wait for.
    command = [sys.executable, "-m", "infra.automations", *ALARMING, "--line", "line-9"]
    subprocess.run(command, cwd=ROOT, env=server, check=True)
    for name in ("missing night", "idle line"):
        wait_for(
            lambda name=name: any(name in text and "line-9" in text for text in alarms[1]),
            what=f"an alarm of line-9 as a {name}",
        )


def test_a_line_that_stands_still_night_after_night_is_idle_once(server, alarms):
    """Its nights come more often than the shortest wait, and the last of them after the alarm."""
    code = (
        "import sys, time\n"
        "from datetime import date\n"
        "from flows import events\n"
        "from tasks.nights import Night\n"
        "night = Night('line-7', date(2026, 11, 22))\n"
        "events.line_up_to_date(night)\n"
        "for _ in range(12):\n"
        "    time.sleep(3)\n"
        "    events.line_stood_still(night)\n"
    )

    def told(name):
        return [text for text in alarms[1] if name in text and "line-7" in text]

    subprocess.run([sys.executable, "-c", code], env=server, check=True)
    wait_for(lambda: told("idle line"), what="an alarm that line-7 is idle")
    wait_for(lambda: told("missing night"), what="an alarm that not even its standing still is told any more")
    assert len(told("idle line")) == 1


def test_a_night_stands_on_its_runs_page_and_a_jump_of_its_defect_rate_alarms(server, alarms, tmp_path):
    folder = tmp_path / "images" / "line-1" / LAST.isoformat()
    folder.mkdir(parents=True)
    for number in range(12):
        made = sample("weave", "hole", size=(96, 96), seed=number)
        Image.fromarray(made.pixels).save(folder / f"{number:02d}.png")
    (folder / "zz|broken.png").write_bytes(b"broken")
    results = Storage(str(tmp_path / "results"))
    write_earlier_nights(results, "line-1", Config().updated(QUICK_CONFIG).fingerprint())

    finished = run_night(server, tmp_path, "line-1")
    assert finished.returncode == 0, finished.stderr

    [run] = ask(server, "flow_runs/filter", {"flow_runs": {"name": {"like_": "nightly line-1"}}})
    shown = artifacts_of(server, run)
    assert shown[None]["type"] == "progress"
    assert shown[None]["data"] == 100
    link = f"[line-1-{LAST}](http://gallery/line-1-{LAST}/report/index.html)"
    assert link in shown["line-1-summary"]["data"]
    worst = json.loads(shown["line-1-worst"]["data"])
    assert len(worst) == 12
    assert [row["score"] for row in worst] == sorted((row["score"] for row in worst), reverse=True)
    [failure] = json.loads(shown["line-1-failures"]["data"])
    assert failure["image"] == "zz\\|broken.png"
    picture = shown["line-1-worst-1"]["data"].removeprefix("http://gallery/")
    assert results.read(picture)[:2] == b"\xff\xd8", "the picture is where the page says"
    assert "defect rate" in shown["line-1-trends"]["data"]

    [rate] = wait_for(lambda: events_named(server, "ssdnet.batch.defect-rate"), what="the event of the defect rate")
    assert rate["payload"]["alarm"] is True
    assert {"ssdnet.line.line-1"} <= {related["prefect.resource.id"] for related in rate["related"]}
    for name in ("SSDnet: defect rate", "SSDnet: failed images"):
        wait_for(lambda name=name: any(name in text for text in alarms[1]), what=f"an alarm of {name}")

    assert run_night(server, tmp_path, "line-1").returncode == 0
    wait_for(lambda: len(events_named(server, "ssdnet.batch.defect-rate")) == 2, what="the night compared again")
    assert len(events_named(server, "ssdnet.batch.defect-rate-jump")) == 1, "run again, it is nothing new"


def test_only_last_night_makes_a_line_up_to_date(server, tmp_path):
    """With a custom run of today; tests/flows/test_nightly.py has the other nights."""
    today = datetime.now(UTC).date()
    last = today - timedelta(days=1)
    for day in (today, last):
        folder = tmp_path / "images" / "line-5" / day.isoformat()
        folder.mkdir(parents=True)
        Image.fromarray(sample("weave", "none", size=(96, 96), seed=day.day).pixels).save(folder / "0.png")
        assert run_night(server, tmp_path, "line-5", day=day).returncode == 0

    def told_of_line(name):
        told = events_named(server, f"ssdnet.line.{name}")
        return [event for event in told if event["resource"]["prefect.resource.id"] == "ssdnet.line.line-5"]

    [told] = wait_for(lambda: told_of_line("up-to-date"), what="the line up to date")
    assert told["payload"]["day"] == last.isoformat()
    assert not told_of_line("stood-still")


def test_a_night_that_fails_alarms(server, alarms, tmp_path):
    (tmp_path / "images" / "line-2").mkdir(parents=True)
    assert run_night(server, tmp_path, "line-3").returncode != 0
    wait_for(lambda: any("SSDnet: failed night" in text for text in alarms[1]), what="an alarm of the failed night")


def test_a_night_that_no_worker_takes_alarms(server, alarms):
    flow = ask(server, "flows/", {"name": "nightly"})
    due = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    state = {"type": "SCHEDULED", "name": "Scheduled", "state_details": {"scheduled_time": due}}
    run = ask(server, "flow_runs/", {"flow_id": flow["id"], "name": "nightly line-4", "state": state})
    wait_for(
        lambda: any("SSDnet: late night" in text and run["name"] in text for text in alarms[1]),
        what="an alarm of the late night",
    )


def test_a_run_killed_with_all_its_processes_is_marked_as_crashed(server, tmp_path):
    (tmp_path / "night").mkdir()
    Image.fromarray(sample("weave", "none", size=(96, 96), seed=0).pixels).save(tmp_path / "night" / "0.png")
    command = [sys.executable, "-m", "flows", "inspect", tmp_path / "night", "--results", tmp_path / "results"]
    running = subprocess.Popen(
        [*command, *QUICK, "--set", "fit.steps=10000"],
        env=server,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        alive = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}, "limit": 50}
        name = f"inspect {tmp_path / 'night'}"

        def state():
            runs = ask(server, "flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}})
            return runs[0] if runs else {"id": "", "state_type": ""}

        def beats():
            run = state()["id"] or "none"
            told = ask(server, "events/filter", alive)["events"]
            return any(event["resource"]["prefect.resource.id"].endswith(run) for event in told)

        wait_for(beats, what="a heartbeat", timeout=300)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    killed = time.monotonic()
    wait_for(lambda: state()["state_type"] == "CRASHED", what="the run marked as crashed", timeout=180)
    print(f"marked {time.monotonic() - killed:.1f} s after its death")
