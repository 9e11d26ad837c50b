"""A cluster as it is in production, on one machine: scheduler, workers and command at addresses of their own."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import psutil
import pytest
import xarray
from distributed import Client
from PIL import Image

from ssdnet_core.synthetic import sample
from tasks.local_workers import WORKER_ENVIRONMENT
from tests.conftest import QUICK, wait_for
from tests.end_to_end.clusters import dask_cluster

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_server")]

IMAGES = 12
LONG_ENOUGH = [*QUICK, "--set", "fit.steps=100"]
"""That images are left whenever a worker comes or goes."""


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("topology") / "night"
    folder.mkdir()
    for number in range(IMAGES):
        made = sample("weave", "hole" if number % 2 else "none", size=(96, 96), seed=number)
        Image.fromarray(made.pixels).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with dask_cluster(tmp_path_factory.mktemp("dask"), host="127.0.0.2") as cluster:
        yield cluster


def test_workers_that_join_leave_and_die_during_a_run_change_nothing(cluster, night, ssdnet, tmp_path):
    alone = ssdnet(
        *("inspect", night, "--results", tmp_path / "alone", "--batch", "n", "--workers", "1", "--json", *LONG_ENOUGH)
    )
    leaving = cluster.start_worker("127.0.0.3")
    batch = tmp_path / "shared" / "n"
    command = ["inspect", night, "--results", tmp_path / "shared", "--batch", "n", "--scheduler", cluster.address]
    running = subprocess.Popen(
        [sys.executable, "-m", "flows", *map(str, command), "--json", *LONG_ENOUGH],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def done() -> int:
        return len(list((batch / "records").glob("*.json")))

    wait_for(lambda: done() >= 1, what="the first record", timeout=300)
    with Client(cluster.address) as client:
        [number] = client.run(os.getpid, workers=[host(client, "127.0.0.3")]).values()
        os.kill(number, signal.SIGSTOP)  # Or it may have done them all before the others are there.
        cut_off, dying = cluster.start_worker("127.0.0.4"), cluster.start_worker("127.0.0.5")
        client.wait_for_workers(3, timeout=300)
        os.kill(number, signal.SIGCONT)
        assert done() < IMAGES
        leaving.terminate()
        seen = done()
        wait_for(lambda: done() > seen, what="a record of the others", timeout=300)
        assert done() < IMAGES
        kill_with_its_nanny(cut_off)
        [number] = client.run(os.getpid, workers=[host(client, "127.0.0.5")]).values()
        assert done() < IMAGES
        os.kill(number, signal.SIGKILL)
    out, errors = running.communicate(timeout=400)
    assert running.returncode == 0, errors
    shared = json.loads(out)
    assert shared["inspected"] == IMAGES
    assert shared["digest"] == json.loads(alone.stdout)["digest"]
    assert dying.poll() is None, "its nanny started it again"
    assert (batch / "seal.json").exists()
    with (
        xarray.open_zarr(batch / "maps.zarr") as one,
        xarray.open_zarr(tmp_path / "alone" / "n" / "maps.zarr") as other,
    ):
        np.testing.assert_array_equal(one.anomaly_map.values, other.anomaly_map.values)
        assert (one.status.values == 1).all()


def test_processes_tell_their_health_and_have_the_code_s_own_environment(cluster):
    cluster.start_worker("127.0.0.6")
    with Client(cluster.address) as client:
        address = wait_for(lambda: host(client, "127.0.0.6"), what="the worker")
        [environment] = client.run(lambda: dict(os.environ), workers=[address]).values()
        worker = client.scheduler_info()["workers"][address]
        assert environment.items() >= WORKER_ENVIRONMENT.items()
        assert worker["nthreads"] == 1
        health = [f"http://127.0.0.6:{worker['services']['dashboard']}/health"]
        health.append(f"http://127.0.0.1:{client.scheduler_info()['services']['dashboard']}/health")
    for address in health:
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert answer.status == 200


def host(client: Client, address: str) -> str | None:
    workers = client.scheduler_info()["workers"]
    return next((worker for worker in workers if f"//{address}:" in worker), None)


def kill_with_its_nanny(worker: "subprocess.Popen[bytes]") -> None:
    """Kill all of a worker at once, as a power cut does."""
    nanny = psutil.Process(worker.pid)
    for process in (nanny, *nanny.children(recursive=True)):
        process.kill()
