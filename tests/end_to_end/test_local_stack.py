"""``ssdnet up`` as a user meets it: servers, a night through the UI's API, the pages in a browser, and the stop.

One stack serves all tests of this module; the last ones stop it.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psutil
import pytest

from infra.local.processes import marked
from infra.local.registration import ask
from tests.browser import browser, opened
from tests.conftest import QUICK as QUICK_OPTIONS
from tests.conftest import ROOT, accepts, wait_for

pytestmark = pytest.mark.slow

QUICK = {"fit": {"steps": 8, "crop": 64}, "working_size": 64}
SCREENSHOTS = ROOT / "build" / "screenshots"
"""Kept for a person to look at, in a folder that git ignores."""

FREE_PORTS = [f"--{part}-port=0" for part in ("prefect", "scheduler", "dashboard", "s3", "gallery")]


@dataclass
class Stack:
    home: Path
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with (self.home.parent / "up.log").open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows", "up", "--home", self.home, "--workers", "2", *FREE_PORTS],
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        wait_for(lambda: "Ctrl-C here" in self.told() or self.process.poll() is not None, what="ssdnet up", timeout=600)
        assert self.process.poll() is None, self.told()

    def told(self) -> str:
        return (self.home.parent / "up.log").read_text()

    @property
    def environment(self) -> dict[str, str]:
        """What a shell that knows nothing else has after it sourced the stack's file."""
        shell = ["env", "-i", "PATH=/usr/bin:/bin", "bash", "-c", f". {self.home / 'environment.sh'}; env"]
        told = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
        return dict(line.split("=", 1) for line in told.splitlines() if "=" in line)

    @property
    def ports(self) -> set[int]:
        return {int(port) for port in re.findall(r"(?:http|tcp)://127\.0\.0\.1:(\d+)", self.told())}

    def ask(self, path: str, body: Any = None, *, method: str | None = None) -> Any:
        return ask(f"{self.environment['PREFECT_API_URL']}/{path}", body, method=method)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if not (ROOT / ".venv-moto" / "bin" / "moto_server").exists():
        if os.environ.get("SSDNET_REQUIRE_SERVERS"):
            pytest.fail("no S3 server: run `make test-slow`")
        pytest.skip("no S3 server: `make test-slow` installs one")
    stack = Stack(home=tmp_path_factory.mktemp("up") / "home")
    stack.start()
    yield stack
    stack.process.terminate()
    stack.process.wait(timeout=600)
    left = marked(stack.home)
    for process in left:
        process.kill()
    assert not left


def nightly(stack: Stack) -> dict[str, Any]:
    return stack.ask("deployments/name/nightly/line-1")


def start_night(stack: Stack) -> str:
    """Start a night as the UI does, and return its run."""
    day = re.search(r"--param day=(\S+)", stack.told())[1]
    parameters = {**nightly(stack)["parameters"], "day": day, "config": QUICK}
    return stack.ask(f"deployments/{nightly(stack)['id']}/create_flow_run", {"parameters": parameters})["id"]


def wait_until(stack: Stack, run: str, *states: str) -> dict[str, Any]:
    wait_for(
        lambda: stack.ask(f"flow_runs/{run}")["state_name"] in (*states, "Failed", "Crashed"),
        what=f"run {states}",
        timeout=240,
    )
    found = stack.ask(f"flow_runs/{run}")
    assert found["state_name"] in states, found["state"]
    return found


@pytest.fixture(scope="module")
def night(stack: Stack) -> dict[str, Any]:
    return wait_until(stack, start_night(stack), "Completed")


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=300) as answer:
        return answer.read()


def test_a_night_started_as_the_ui_does_is_sealed_in_s3_by_the_clusters_workers(stack, night):
    batch = f"line-1-{night['parameters']['day']}"
    code = f"from tasks.storage import Storage; print(Storage('s3://results/{batch}').read('seal.json').decode())"
    seal = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **stack.environment}, capture_output=True, text=True
    )
    assert json.loads(seal.stdout)["inspected"] == 16, seal.stderr
    logs = {"logs": {"flow_run_id": {"any_": [night["id"]]}}}
    wait_for(
        lambda: any("all workers fit" in entry["message"] for entry in stack.ask("logs/filter", logs)),
        what="the word in the run's log of who fits",
    )
    dashboard = re.search(r"(http://\S+)/status", stack.told())[1]
    assert json.loads(fetched(f"{dashboard}/json/counts.json"))["workers"] == 2
    assert b"bokeh" in fetched(f"{dashboard}/status").lower()


def test_the_pages_of_the_run_link_to_what_a_browser_reaches(stack, night):
    day = night["parameters"]["day"]
    [summary] = stack.ask("artifacts/filter", {"artifacts": {"key": {"any_": ["line-1-summary"]}}})
    link = re.search(r"\]\((http://[^)]*)\)", summary["data"])[1]
    assert link == f"{stack.environment['SSDNET_GALLERY_URL']}/line-1-{day}/report/index.html"
    assert stack.ask("automations/count", {}) > 0


def test_the_gallery_of_the_night_opens_over_http_with_its_pictures(stack, night):
    served = stack.environment["SSDNET_GALLERY_URL"]
    trends, page = re.findall(r'href="(/[^"]*)"', fetched(served).decode())
    assert b"line-1" in fetched(served + trends)
    gallery = fetched(served + page).decode()
    assert "001-" in gallery
    picture = re.search(r"images/[\w-]+\.jpg", gallery)[0]
    assert fetched(f"{served}{page.rsplit('/', 1)[0]}/{picture}").startswith(b"\xff\xd8")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetched(f"{served}/line-1-{night['parameters']['day']}/seal.json")


def test_from_the_page_of_a_run_a_browser_gets_to_the_worst_image_and_the_gallery(stack, night, tmp_path):
    ui = stack.environment["PREFECT_API_URL"].removesuffix("/api")
    shown = {
        artifact["key"]: f"{ui}/artifacts/artifact/{artifact['id']}"
        for artifact in stack.ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [night["id"]]}}})
    }
    with browser(tmp_path / "profile") as devtools:
        with opened(devtools, f"{ui}/runs/flow-run/{night['id']}") as page:
            page.wait_for_text(night["name"], "Completed", "Beginning flow run", timeout=300)
            page.click("Artifacts")
            page.wait_for_text("line-1-summary", "line-1-worst", "line-1-worst-1", "PROGRESS")
            page.screenshot(SCREENSHOTS / "run.png")
        with opened(devtools, shown["line-1-worst-1"]) as page:
            picture = "/report/worst/"
            wait_for(lambda: any(picture in address for address in page.pictures()), what="the worst image's picture")
            page.screenshot(SCREENSHOTS / "worst-1.png")
        with opened(devtools, shown["line-1-worst"]) as page:
            page.wait_for_text("verdict", "defective")
            gallery = page.value("[...document.links].map(link => link.href).find(url => url.includes('#image-'))")
            page.screenshot(SCREENSHOTS / "worst.png")
        with opened(devtools, gallery) as page:
            page.wait_for_text("001-")
            wait_for(lambda: len(page.pictures()) >= 2, what="the gallery's pictures")
            page.screenshot(SCREENSHOTS / "gallery.png")


def test_a_backfill_over_nights_in_s3_leaves_what_is_sealed_alone(stack, night):
    sealed = date.fromisoformat(night["parameters"]["day"])
    first = sealed - timedelta(days=2)
    code = "import sys; from tasks.sample_night import write_line_night as w; from tasks.storage import Storage; "
    code += "w(Storage(sys.argv[1]), images=2)"
    environment = {**os.environ, **stack.environment}
    made = f"{stack.environment['SSDNET_IMAGES']}/line-1/{first}"
    subprocess.run([sys.executable, "-c", code, made], env=environment, check=True)

    days = ["--start", str(first), "--end", str(sealed)]
    command = [sys.executable, "-m", "flows", "backfill", "--line", "line-1", *days]
    told = subprocess.run([*command, "--json", *QUICK_OPTIONS], env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr

    nights = [(found["before"], found["state"]) for found in json.loads(told.stdout)["nights"]]
    assert nights == [
        ("to do", "sealed"),
        ("no images", "no images"),
        ("sealed", "sealed"),
    ]


def test_a_shell_that_sources_the_stacks_environment_has_its_commands(stack):
    for command in ("ssdnet", "prefect"):
        found = shutil.which(command, path=stack.environment["PATH"])
        assert found == str(Path(sys.executable).parent / command)


def test_a_second_up_of_the_same_home_says_who_runs(stack, ssdnet):
    second = ssdnet("up", "--home", stack.home, *FREE_PORTS)
    assert second.returncode == 1
    assert f"process {stack.process.pid}" in second.stderr


def test_a_taken_port_is_named_with_the_option_that_changes_it(stack, ssdnet, tmp_path):
    taken = max(stack.ports)
    refused = ssdnet("up", "--home", tmp_path / "other", *FREE_PORTS, "--gallery-port", taken)
    assert refused.returncode == 1
    assert f"127.0.0.1:{taken}" in refused.stderr
    assert "--gallery-port" in refused.stderr
    assert not marked(tmp_path / "other")


def test_only_its_own_pages_may_have_a_browser_start_runs(stack):
    api = stack.environment["PREFECT_API_URL"]
    port = urllib.parse.urlsplit(api).port

    def allowed(origin: str) -> str | None:
        asking = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        request = urllib.request.Request(f"{api}/flows/", method="OPTIONS", headers=asking)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.headers["Access-Control-Allow-Origin"]
        except urllib.error.HTTPError as refused:
            return refused.headers["Access-Control-Allow-Origin"]

    for own in (f"http://127.0.0.1:{port}", f"http://localhost:{port}"):
        assert allowed(own) == own
    for other in ("http://elsewhere.example", "null", "http://127.0.0.1", f"http://elsewhere.example:{port}"):
        assert allowed(other) is None


def test_nothing_listens_beyond_loopback(stack):
    listening = {
        connection.laddr.ip
        for process in marked(stack.home)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening <= {"127.0.0.1", "::1"}


def test_ctrl_c_stops_everything_and_the_next_start_has_runs_galleries_and_switches_again(stack, night, ssdnet):
    deployment = nightly(stack)
    schedule = f"deployments/{deployment['id']}/schedules/{deployment['schedules'][0]['id']}"
    stack.ask(schedule, {"active": True}, method="PATCH")
    scheduled = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "sort": "EXPECTED_START_TIME_ASC"}
    [planned, *_] = wait_for(lambda: stack.ask("flow_runs/filter", scheduled), what="the next run", timeout=300)
    start = datetime.fromisoformat(planned["expected_start_time"]).astimezone(ZoneInfo("Europe/Madrid"))
    assert (start.hour, start.minute) == (3, 0)

    ports = stack.ports
    assert len(ports) == 5
    stack.process.send_signal(signal.SIGINT)
    stack.process.wait(timeout=600)
    assert "Traceback" not in stack.told()
    assert not marked(stack.home)
    assert not [port for port in ports if accepts(port)]

    stack.start()
    assert stack.ask(f"flow_runs/{night['id']}")["state_name"] == "Completed"
    assert nightly(stack)["schedules"][0]["active"]
    assert f"line-1-{night['parameters']['day']}" in fetched(stack.environment["SSDNET_GALLERY_URL"]).decode()

    running = start_night(stack)
    wait_until(stack, running, "Running", "Completed")
    ports = stack.ports
    stack.process.kill()
    stack.process.wait()
    assert marked(stack.home)
    assert ssdnet("down", "--home", stack.home).returncode == 0
    assert not marked(stack.home)
    assert not [port for port in ports if accepts(port)]
    assert "nothing was up" in ssdnet("down", "--home", stack.home).stdout
