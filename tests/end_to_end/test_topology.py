"""A cluster as it is in production, on one machine: scheduler, workers and command at addresses of their own."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest
from distributed import Client
from PIL import Image

from ssdnet_core.synthetic import sample
from tasks.local_workers import WORKER_ENVIRONMENT
from tests.conftest import QUICK, wait_for
from tests.end_to_end.clusters import dask_cluster

pytestmark = pytest.mark.slow

IMAGES = 12


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("topology") / "night"
    folder.mkdir()
    for number in range(IMAGES):
        made = sample("weave", "hole" if number % 2 else "none", size=(96, 96), seed=number)
        Image.fromarray(made.pixels).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture
def cluster(tmp_path):
    with dask_cluster(tmp_path, host="127.0.0.2") as cluster:
        yield cluster


def test_workers_that_join_leave_and_die_during_a_run_change_nothing(cluster, night, ssdnet, tmp_path):
    alone = ssdnet("inspect", night, "--results", tmp_path / "alone", "--workers", "1", "--json", *QUICK)
    leaving = cluster.start_worker("127.0.0.3")
    records = tmp_path / "shared" / "n" / "records"
    command = ["inspect", night, "--results", tmp_path / "shared", "--batch", "n", "--scheduler", cluster.address]
    running = subprocess.Popen(
        [sys.executable, "-m", "flows", *map(str, command), "--json", *QUICK],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def done() -> int:
        return len(list(records.glob("*.json"))) if records.exists() else 0

    wait_for(lambda: done() >= 1, what="the first record", timeout=120)
    dying = cluster.start_worker("127.0.0.4")
    with Client(cluster.address) as client:
        client.wait_for_workers(2, timeout=60)
        [number] = client.run(os.getpid, workers=[host(client, "127.0.0.4")]).values()
        leaving.terminate()
        wait_for(lambda: done() >= 3, what="the third record", timeout=120)
        os.kill(number, signal.SIGKILL)
    out, errors = running.communicate(timeout=200)
    assert running.returncode == 0, errors
    assert json.loads(out)["inspected"] == IMAGES
    assert json.loads(out)["digest"] == json.loads(alone.stdout)["digest"]
    assert dying.poll() is None, "its nanny started it again"


def test_processes_tell_their_health_and_have_the_code_s_own_environment(cluster):
    cluster.start_worker("127.0.0.3")
    with Client(cluster.address) as client:
        client.wait_for_workers(1, timeout=60)
        [environment] = client.run(lambda: dict(os.environ)).values()
        [worker] = client.scheduler_info()["workers"].values()
        assert environment.items() >= WORKER_ENVIRONMENT.items()
        assert worker["nthreads"] == 1
        health = [f"http://127.0.0.3:{worker['services']['dashboard']}/health"]
        health.append(f"http://127.0.0.1:{client.scheduler_info()['services']['dashboard']}/health")
    for address in health:
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert answer.status == 200


def host(client: Client, address: str) -> str:
    [worker] = [worker for worker in client.scheduler_info()["workers"] if f"//{address}:" in worker]
    return worker
