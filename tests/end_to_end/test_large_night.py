"""A night of 2,000 small images at a real Prefect server: all is recorded, in little, and its UI keeps answering."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, wait_for
from tests.prefect_server import ask, prefect_server

pytestmark = pytest.mark.slow

IMAGES, BROKEN = 2000, 50
MOST_BYTES = 20_000_000


@pytest.fixture
def night(tmp_path):
    folder = tmp_path / "line-1-2026-11-22"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(folder / "0000.png")
    image = (folder / "0000.png").read_bytes()
    for number in range(1, IMAGES):
        (folder / f"{number:04d}.png").write_bytes(b"broken" if number % (IMAGES // BROKEN) == 1 else image)
    return folder


def test_two_thousand_images_are_recorded_whole_in_a_small_database_while_the_ui_answers(night, tmp_path, database):
    home = database(tmp_path / "server")
    # The fits alone are replaced: they take minutes, and the server does not see them.
    command = [sys.executable, ROOT / "bench" / "stubbed.py", "inspect", night, "--results", tmp_path / "results"]
    # Into files: nobody reads while it runs, and a full pipe would stop what fails in the middle of its complaints.
    told, complaints = tmp_path / "stdout", tmp_path / "stderr"
    with (
        prefect_server(home, PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30") as environment,
        told.open("w") as stdout,
        complaints.open("w") as stderr,
    ):
        running = subprocess.Popen(
            [*map(str, command), "--workers", "2", "--json"],
            env=environment,
            stdout=stdout,
            stderr=stderr,
        )
        waits = []
        while running.poll() is None:
            waits.append(run_page(environment))
            time.sleep(2)
        assert running.returncode == 3, complaints.read_text()
        summary = json.loads(told.read_text())
        assert (summary["inspected"], summary["failed"]) == (IMAGES - BROKEN, BROKEN), summary["failures"]
        # How long they took is printed, not judged: that is the machine's doing as well.
        assert len(waits) > 2

        def counted(name: str) -> int:
            return ask(environment, "events/filter", {"filter": {"event": {"name": [name]}}, "limit": 1})["total"]

        tasks = ask(environment, "task_runs/count", {})
        assert 100 < tasks < 200
        for state in ("Pending", "Running", "Completed"):
            wait_for(lambda state=state: counted(f"prefect.task-run.{state}") == tasks, what=f"{tasks} events {state}")
        completed = {"task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
        wait_for(lambda: ask(environment, "task_runs/count", completed) == tasks, what="all task runs completed")
        # The server stores an event a moment after it was told of it.
        for name, times in (("image.failed", 20), ("images.failed", 1), ("batch.sealed", 1)):
            wait_for(lambda name=name, times=times: counted(f"ssdnet.{name}") == times, what=f"{times} events {name}")
        progress = {"artifacts": {"type": {"any_": ["progress"]}}}
        assert [artifact["data"] for artifact in ask(environment, "artifacts/filter", progress)] == [100]
    stored = sum(path.stat().st_size for path in home.glob("prefect.db*"))
    print(f"{stored / 1e6:.1f} MB, {tasks} task runs, the slowest page {max(waits):.2f} s")
    assert stored < MOST_BYTES
    assert "dropping" not in (home / "server.log").read_text().lower()


def run_page(environment: dict[str, str]) -> float:
    """Ask for what the page of the newest run shows; return the seconds it took."""
    begun = time.monotonic()
    for run in ask(environment, "flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1}):
        of_run = {"flow_runs": {"id": {"any_": [run["id"]]}}}
        ask(environment, "task_runs/filter", of_run)
        ask(environment, "artifacts/filter", of_run)
        ask(environment, "logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 200})
        resource = {"id": [f"prefect.flow-run.{run['id']}"]}
        ask(environment, "events/filter", {"filter": {"any_resource": resource}, "limit": 50})
    return time.monotonic() - begun
