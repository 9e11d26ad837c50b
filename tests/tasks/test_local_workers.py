"""The workers of this machine own its GPUs one by one, or share its cores and its memory."""

import json
import os
import signal
import stat
import subprocess
import sys

import dask
import pytest

import tasks.local_workers
from ssdnet_core.errors import DeviceUnavailableError
from tasks.cluster import dask_client, fit_resources
from tasks.local_workers import DASK_SETTINGS, dask_environment, local_workers, visible_gpus


def test_workers_of_this_machine_own_what_the_device_may_use(monkeypatch):
    monkeypatch.setattr(tasks.local_workers, "visible_gpus", lambda: ("0", "1"))
    monkeypatch.setattr(tasks.local_workers, "CPU_COUNT", 2)
    assert [worker.gpu for worker in local_workers(device="auto")] == ["0", "1"]
    assert [worker.gpu for worker in local_workers(1, device="cuda")] == ["0"]
    assert [worker.gpu for worker in local_workers(5, device="cuda")] == ["0", "1", "0", "1", "0"]
    assert [worker.gpu for worker in local_workers(device="cpu")] == [None] * 2
    assert [worker.gpu for worker in local_workers(3, device="cpu")] == [None] * 3


def test_dask_reads_its_settings_from_the_environment_as_they_are():
    read = dask.config.collect(paths=[], env=dask_environment(DASK_SETTINGS))
    assert {name: dask.config.get(name, config=read) for name in DASK_SETTINGS} == DASK_SETTINGS


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_a_device_that_this_machine_has_not_is_refused_before_any_image(device, monkeypatch):
    monkeypatch.setattr(tasks.local_workers, "visible_gpus", lambda: ())
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(DeviceUnavailableError, match=f"'{device}'.*auto or cpu"):
        local_workers(device=device)


@pytest.mark.parametrize(
    ("cores", "gibibytes", "gpus", "each"),
    [(16, 128, 1, 3), (16, 128, 2, 2), (7, 128, 1, 1), (64, 128, 4, 3), (8, 128, 8, 1), (16, 12, 1, 2), (64, 32, 4, 1)],
)
def test_a_gpu_is_shared_by_as_many_workers_as_cores_and_memory_can_feed(cores, gibibytes, gpus, each, monkeypatch):
    names = tuple(map(str, range(gpus)))
    monkeypatch.setattr(tasks.local_workers, "visible_gpus", lambda: names)
    monkeypatch.setattr(tasks.local_workers, "CPU_COUNT", cores)
    monkeypatch.setattr(tasks.local_workers, "MEMORY_LIMIT", gibibytes * 2**30)
    workers = local_workers()
    assert sorted(worker.gpu for worker in workers) == sorted(names * each)
    assert len({worker.memory_limit for worker in workers}) == 1
    assert workers[0].memory_limit == int(0.8 * gibibytes * 2**30 / (gpus * each))


@pytest.mark.parametrize(("images", "started"), [(0, 1), (1, 1), (3, 3), (4, 4), (1000, 4), (None, 4)])
def test_no_more_workers_are_started_than_there_are_images_and_they_have_the_memory_to_themselves(
    images, started, monkeypatch
):
    monkeypatch.setattr(tasks.local_workers, "visible_gpus", lambda: ())
    monkeypatch.setattr(tasks.local_workers, "CPU_COUNT", 4)
    monkeypatch.setattr(tasks.local_workers, "MEMORY_LIMIT", 2**34)
    for workers in (local_workers(images=images), local_workers(4, images=images)):
        assert [worker.memory_limit for worker in workers] == [int(0.8 * 2**34 / started)] * started


def test_workers_of_this_machine_share_what_the_process_may_use_not_what_the_machine_has():
    """The process is limited as it can be here; a container's limits Dask reads from its control group."""
    limited = (
        "import os, resource;"
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "resource.setrlimit(resource.RLIMIT_RSS, (2**30, 2**30));"
        "from tasks.local_workers import local_workers;"
        "print([worker.memory_limit for worker in local_workers(device='cpu')])"
    )
    asked = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=True)
    assert json.loads(asked.stdout) == [int(0.8 * 2**30)]


def test_gpus_are_those_that_torch_can_use_by_the_names_they_were_chosen_by(tmp_path, monkeypatch):
    for program, says in (("nvidia-smi", ""), ("python", "2")):
        (tmp_path / program).write_text(f"#!/bin/sh\necho {says}\n")
        (tmp_path / program).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5f3a,7,9")
    assert visible_gpus() == ("GPU-5f3a", "7")


@pytest.mark.slow
def test_a_machine_with_gpus_gets_a_worker_for_each_that_sees_no_other(monkeypatch):
    monkeypatch.setattr(tasks.local_workers, "visible_gpus", lambda: ("2", "GPU-5f3a"))
    with dask_client() as client:
        workers = client.scheduler_info()["workers"].values()
        assert [worker["resources"] for worker in workers] == [{"GPU": 1.0}] * 2
        assert [worker["nthreads"] for worker in workers] == [1, 1]
        assert sorted(client.run(os.getenv, "CUDA_VISIBLE_DEVICES").values()) == ["2", "GPU-5f3a"]
        assert fit_resources(client, "cuda") == {"GPU": 1.0}


@pytest.mark.slow
def test_a_worker_that_is_long_in_coming_back_is_waited_for(tmp_path, monkeypatch):
    preload, started = tmp_path / "preload.py", tmp_path / "started"
    preload.write_text(
        f"import pathlib, time\nstarted = pathlib.Path({str(started)!r})\n"
        # Dask's default ends the nanny of a worker that is away for 15 s.
        "def dask_setup(worker):\n    time.sleep(17 if started.exists() else 0)\n    started.touch()\n"
    )
    monkeypatch.setattr(tasks.local_workers, "PRELOAD", str(preload))
    with dask_client(workers=1) as client:
        [lost] = client.run(os.getpid).values()
        os.kill(lost, signal.SIGKILL)
        assert client.submit(os.getpid, pure=False).result(timeout=60) != lost
        assert set(client.cluster.workers) == {0}
