import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import pytest

from tasks import lease as leases
from tasks.lease import STALE_AFTER, BatchBusyError, LeaseHolder, LeaseLostError, hold_batch
from tasks.storage import Storage


@pytest.fixture
def folder(tmp_path):
    return Storage(str(tmp_path))


def elsewhere(**changes) -> LeaseHolder:
    fields = {"run": "r", "host": "another-host", "pid": 1, "boot": "b", "renewed": time.time()}
    return LeaseHolder(**{**fields, **changes})


def put(folder: Storage, number: int, holder: LeaseHolder) -> None:
    folder.write(f"leases/{number:06d}.json", json.dumps(asdict(holder)).encode())


def test_a_second_run_steps_aside_and_names_the_first(folder):
    with hold_batch(folder), pytest.raises(BatchBusyError, match=f"process {os.getpid()} on {socket.gethostname()}"):
        hold_batch(folder).__enter__()


def test_a_released_batch_can_be_held_again(folder):
    for _ in range(3):
        with hold_batch(folder) as lease:
            lease.check()


def test_a_batch_is_free_again_after_a_failure(folder):
    with pytest.raises(ZeroDivisionError), hold_batch(folder):
        raise ZeroDivisionError
    with hold_batch(folder):
        pass


def test_a_run_that_died_on_this_machine_is_noticed_at_once(folder):
    code = (
        "import os, sys; from tasks.lease import _take; from tasks.storage import Storage; "
        "_take(Storage(sys.argv[1])); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, folder.address], check=False)
    with hold_batch(folder) as lease:
        lease.check()


def test_a_run_elsewhere_is_trusted_for_a_minute_and_no_longer(folder):
    put(folder, 1, elsewhere())
    with pytest.raises(BatchBusyError, match="another-host"):
        hold_batch(folder).__enter__()
    put(folder, 1, elsewhere(renewed=time.time() - STALE_AFTER - 1))
    with hold_batch(folder):
        pass


def test_of_many_that_take_over_one_gets_the_batch(folder):
    put(folder, 1, elsewhere(released=True))
    held, barrier = [], threading.Barrier(6)

    def take() -> None:
        barrier.wait()
        with contextlib.suppress(BatchBusyError):
            held.append(leases._take(folder))

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1
    held[0].release()


def test_a_run_that_was_taken_over_stops(folder):
    with hold_batch(folder) as lease:
        put(folder, 2, elsewhere())
        with pytest.raises(LeaseLostError):
            lease.check()


def test_a_held_lease_is_renewed(folder, monkeypatch):
    monkeypatch.setattr(leases, "RENEWED_EVERY", 0.05)
    with hold_batch(folder):
        first = json.loads(folder.read("leases/000001.json"))["renewed"]
        time.sleep(0.5)
        assert json.loads(folder.read("leases/000001.json"))["renewed"] > first
