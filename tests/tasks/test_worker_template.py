"""A command's workers are forked from a process that has loaded the method."""

import json
import os
import subprocess
import sys

import psutil
import pytest

from tasks import worker_template
from tasks.local_workers import WORKER_ENVIRONMENT
from tasks.worker_template import MODULES, start_method, start_worker_template
from tests.conftest import wait_for

FORKED = """\
import json, os, sys, signal, time

from tasks.worker_template import start_worker_template

def seen():
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return [os.getppid(), "torch" in sys.modules, *map(os.getenv, ("MALLOC_MMAP_MAX_", "SET_LATER")),
            signal.SIGINT in blocked]

if __name__ == "__main__":
    start_worker_template()
    assert "MALLOC_MMAP_MAX_" not in os.environ
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    os.environ["SET_LATER"] = "yes"
    from tasks.cluster import dask_client
    with dask_client(workers=2) as client:
        first = list(client.run(seen).values())
        lost = client.submit(os.getpid).result()
        os.kill(lost, signal.SIGKILL)
        while lost in (back := client.run(os.getpid, on_error="ignore").values()) or len(back) < 2:
            time.sleep(0.1)
        print(json.dumps({"self": os.getpid(), "workers": first + list(client.run(seen).values())}))
"""


@pytest.mark.slow
def test_workers_are_forked_with_the_method_loaded_and_end_with_the_command(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(FORKED)
    # Dask leaves them in a process in which it has started workers, as another test may have.
    environment = {name: value for name, value in os.environ.items() if name not in WORKER_ENVIRONMENT}
    done = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "leaked" not in done.stderr
    said = json.loads(done.stdout)
    [template] = {parent for parent, *_ in said["workers"]}
    assert template != said["self"]
    # Two at first, and two after one of them was killed.
    assert [seen for _, *seen in said["workers"]] == [[True, "0", "yes", True]] * 4
    wait_for(lambda: not psutil.pid_exists(template), what="the end of the template")


def test_what_the_template_is_started_with_does_not_stay_in_the_commands_own_environment(monkeypatch):
    users, *others = WORKER_ENVIRONMENT
    monkeypatch.setenv(users, "the user's")
    for name in others:
        monkeypatch.delenv(name, raising=False)
    seen = {}
    monkeypatch.setattr(worker_template, "_started", False)
    monkeypatch.setattr(worker_template.sys, "platform", "linux")
    monkeypatch.setattr(worker_template, "may_have_gpus", lambda: False)
    monkeypatch.setattr(worker_template.forkserver, "set_forkserver_preload", lambda modules: None)
    monkeypatch.setattr(worker_template.forkserver, "ensure_running", lambda: seen.update(os.environ))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    before = dict(os.environ)
    start_worker_template()
    assert WORKER_ENVIRONMENT.items() <= seen.items()
    assert seen["PYTHONWARNINGS"].startswith("error,ignore")
    assert dict(os.environ) == before


def test_workers_start_from_nothing_where_no_template_was_started():
    assert start_method() == "spawn"


@pytest.mark.parametrize(("platform", "gpus"), [("darwin", False), ("linux", True)])
def test_there_is_no_template_where_a_fork_may_not_be_borne(platform, gpus, monkeypatch):
    monkeypatch.setattr(worker_template.sys, "platform", platform)
    monkeypatch.setattr(worker_template, "may_have_gpus", lambda: gpus)
    start_worker_template()
    assert start_method() == "spawn"


def test_what_the_template_loads_is_there_to_load():
    for module in MODULES:
        assert __import__(module)
