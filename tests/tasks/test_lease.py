import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from tasks import lease as leases
from tasks.lease import STALE_AFTER, BatchBusyError, LeaseHolder, LeaseLostError, hold_batch
from tasks.storage import Storage
from tasks.storage_answers import StorageError
from tests.conftest import wait_for


@pytest.fixture
def folder(tmp_path):
    return Storage(str(tmp_path))


@pytest.fixture(autouse=True)
def often_renewed(monkeypatch):
    monkeypatch.setattr(leases, "RENEWED_EVERY", 0.05)


def elsewhere(**changes) -> LeaseHolder:
    fields = {"run": "r", "host": "another-host", "pid": 1, "boot": "b", "renewed": time.time(), "started": 0.0}
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


def mine(**changes) -> LeaseHolder:
    """A holder as this process would write it."""
    here = {"host": socket.gethostname(), "pid": os.getpid(), "boot": leases._boot_id()}
    return elsewhere(**{**here, "started": leases._started(os.getpid()), **changes})


def test_a_process_that_is_there_holds_a_batch_however_long_it_was_not_heard_of(folder):
    put(folder, 1, mine(renewed=0))
    with pytest.raises(BatchBusyError, match=f"process {os.getpid()}"):
        hold_batch(folder).__enter__()


def test_a_process_that_has_ended_and_was_not_waited_for_does_not_hold_a_batch(folder):
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        put(folder, 1, mine(pid=ended.pid, started=leases._started(ended.pid)))
        with pytest.raises(BatchBusyError):
            hold_batch(folder).__enter__()
        ended.stdin.close()
        wait_for(lambda: psutil.Process(ended.pid).status() == psutil.STATUS_ZOMBIE, what="its end")
        with hold_batch(folder) as lease:
            lease.check()
    finally:
        ended.kill()
        ended.wait()


@pytest.mark.parametrize("hidden", [FileNotFoundError, PermissionError])
def test_a_process_that_the_system_hides_from_this_account_is_not_taken_for_one_that_is_gone(monkeypatch, hidden):
    """As where /proc is mounted with hidepid, and the batch is another account's."""

    def refuse(*_):
        raise PermissionError

    def hide(*_):
        raise hidden

    holder = mine(started=5.0)
    assert holder.gone is True
    monkeypatch.setattr(Path, "read_bytes", hide)
    monkeypatch.setattr(os, "kill", refuse)
    assert holder.gone is None


def test_a_process_of_before_a_restart_or_of_another_container_is_not_known_by_its_id(monkeypatch):
    holder = mine(started=5.0)
    assert holder.gone is True
    for name, other in (("read_text", "another-boot\n"), ("readlink", Path("pid:[1]"))):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, lambda *_, other=other: other)
            assert holder.gone is None


def test_what_a_mac_leaves_among_the_leases_is_none_of_them(folder):
    put(folder, 1, elsewhere(released=True))
    for name in ("._000001.json", "notes.json", ".DS_Store"):
        folder.write(f"leases/{name}", b"Mac OS X")
    with hold_batch(folder) as lease:
        lease.check()
        assert folder.exists("leases/000002.json")


def create_over(storage, key, content):
    """Create an object as a store does that does not know conditional writes."""
    storage.write(key, content)
    return True


def fail_at_the_second(storage, key, content, create=Storage.create):
    """Create an object; the attempt to write over it fails."""
    if content == b"another's":
        raise StorageError("the store is away")
    return create(storage, key, content)


def test_a_store_that_does_not_know_conditional_writes_holds_no_batch_and_is_named(folder, monkeypatch):
    monkeypatch.setattr(Storage, "create", create_over)
    with pytest.raises(StorageError, match=r"writes over what is there .*If-None-Match"), hold_batch(folder):
        pass
    assert folder.below("leases").list() == []


def test_a_store_that_fails_while_a_batch_is_taken_leaves_it_free(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "create", fail_at_the_second)
        with pytest.raises(StorageError, match="the store is away"), hold_batch(folder):
            pass
    with hold_batch(folder):
        pass


def test_another_process_of_the_same_id_does_not_hold_a_batch(folder):
    put(folder, 1, mine(started=leases._started(os.getpid()) - 1))
    with hold_batch(folder) as lease:
        lease.check()


def test_two_processes_of_one_program_began_at_different_times():
    parent = leases._started(os.getpid())
    code = "import os; from tasks.lease import _started; print(_started(os.getpid()), _started(os.getppid()))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    started, of_its_parent = map(float, child.stdout.split())
    assert started > parent == of_its_parent > 0


@pytest.mark.parametrize("content", [b"", b"\0" * 200, b"[]"])
def test_a_damaged_lease_is_trusted_for_a_minute_and_no_longer(folder, content):
    folder.write("leases/000001.json", content)
    with pytest.raises(BatchBusyError, match="another run is at work"):
        hold_batch(folder).__enter__()
    then = time.time() - STALE_AFTER - 1
    os.utime(folder.path("leases/000001.json"), (then, then))
    with hold_batch(folder) as lease:
        lease.check()


def test_a_lease_that_cannot_be_released_is_a_warning_and_hides_no_error(folder, caplog):
    def fail_without_storage():
        with hold_batch(folder):
            shutil.rmtree(folder.path("leases"))
            Path(folder.path("leases")).write_text("in the way")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_without_storage()
    assert "could not be released, and is free once this process has ended: cannot write" in caplog.text


@pytest.mark.parametrize("renewed_every", [0.05, 60])
def test_a_run_that_ends_does_not_wait_for_a_storage_that_does_not_answer(folder, monkeypatch, caplog, renewed_every):
    """Neither where a renewal is under way, nor where only the release would be."""
    answer, write = threading.Event(), Storage.write

    def write_at_last(self, key, content):
        answer.wait(30)
        write(self, key, content)

    monkeypatch.setattr(leases, "RENEWED_EVERY", renewed_every)
    monkeypatch.setattr(leases, "RELEASED_WITHIN", 0.2)
    with hold_batch(folder):
        monkeypatch.setattr(Storage, "write", write_at_last)
        time.sleep(0.2)
    assert not answer.is_set()
    answer.set()
    assert "could not be released, and is free once this process has ended: the storage does not answer" in caplog.text


def test_a_run_elsewhere_is_trusted_for_a_minute_and_no_longer(folder):
    put(folder, 1, elsewhere())
    with pytest.raises(BatchBusyError, match="another-host"):
        hold_batch(folder).__enter__()
    put(folder, 1, elsewhere(renewed=time.time() - STALE_AFTER - 1))
    with hold_batch(folder):
        pass


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_a_run_whose_clock_is_another_is_trusted_as_long_as_it_renews_and_no_longer(folder, monkeypatch, ahead):
    def renew(seconds: float) -> None:
        put(folder, 1, elsewhere(renewed=time.time() + ahead))

    renew(0)
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", renew)
        with pytest.raises(BatchBusyError, match="another-host"):
            hold_batch(folder).__enter__()
    with hold_batch(folder):
        pass


def test_a_run_whose_clock_is_another_is_watched_for_longer_than_it_takes_to_renew(folder, monkeypatch):
    monkeypatch.setattr(leases, "RENEWED_EVERY", 0.5)

    def renew() -> None:
        put(folder, 1, elsewhere(renewed=time.time() - 3600))

    renew()
    renewal = threading.Timer(leases.RENEWED_EVERY, renew)
    renewal.start()
    with pytest.raises(BatchBusyError, match="another-host"):
        hold_batch(folder).__enter__()
    renewal.join()


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


def renewed(folder: Storage) -> float:
    return json.loads(folder.read("leases/000001.json"))["renewed"]


def renewers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lease"]


def test_a_held_lease_is_renewed(folder):
    with hold_batch(folder):
        first = renewed(folder)
        wait_for(lambda: renewed(folder) > first, what="a renewal", timeout=5)


def test_a_lease_is_renewed_again_once_the_storage_is_back(folder):
    store, there = Path(folder.path("store")), Path(folder.path("leases"))
    store.mkdir()
    there.symlink_to(store)

    def lead_to(target: Path) -> None:
        link = Path(folder.path("link"))
        link.symlink_to(target)
        link.replace(there)

    with hold_batch(folder):
        lead_to(there)
        with pytest.raises(StorageError):
            folder.read("leases/000001.json")
        time.sleep(0.5)
        lead_to(store)
        back = time.time()
        wait_for(lambda: renewed(folder) > back, what="a renewal", timeout=5)


def test_a_lease_is_renewed_again_after_any_failure_and_it_is_told_once(folder, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("can't start new thread")

    with hold_batch(folder):
        with monkeypatch.context() as patch:
            patch.setattr(leases, "_highest", fail)
            time.sleep(0.5)
        back = time.time()
        wait_for(lambda: renewed(folder) > back, what="a renewal", timeout=5)
    assert caplog.text.count("could not be renewed, which is tried again: can't start new thread") == 1


def test_a_run_that_was_taken_over_renews_and_releases_its_lease_no_more(folder):
    with hold_batch(folder):
        put(folder, 2, elsewhere())
        wait_for(lambda: not renewers(), what="the end of the renewals", timeout=5)
        last = folder.read("leases/000001.json")
    assert folder.read("leases/000001.json") == last
    assert not json.loads(last)["released"]


def test_a_batch_that_was_lost_stays_lost(folder):
    with hold_batch(folder) as lease:
        put(folder, 2, elsewhere())
        for _ in range(2):
            with pytest.raises(LeaseLostError):
                lease.check()
            folder.delete("leases/000002.json")


def test_each_outage_of_the_storage_is_told(folder, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("away")

    def renewed():
        return json.loads(folder.read("leases/000001.json"))["renewed"]

    def told():
        return caplog.text.count("could not be renewed")

    with hold_batch(folder):
        for outage in (1, 2):
            with monkeypatch.context() as patch:
                patch.setattr(leases, "_highest", fail)
                wait_for(lambda so_far=outage: told() == so_far, what="a warning", timeout=5)
            before = renewed()
            wait_for(lambda before=before: renewed() > before, what="a renewal", timeout=5)


def test_a_store_that_writes_over_is_named_though_the_lease_cannot_be_deleted(folder, monkeypatch):
    def refuse(self, key):
        raise StorageError("no right to delete")

    monkeypatch.setattr(Storage, "create", create_over)
    monkeypatch.setattr(Storage, "delete", refuse)
    with pytest.raises(StorageError, match=r"writes over what is there .*If-None-Match"), hold_batch(folder):
        pass


def test_a_store_that_stays_away_while_a_batch_is_taken_is_told_with_its_first_reason(folder, monkeypatch):
    def fail(self, key, content):
        raise StorageError("cannot write")

    monkeypatch.setattr(Storage, "create", fail_at_the_second)
    monkeypatch.setattr(Storage, "write", fail)
    with pytest.raises(StorageError, match="the store is away"), hold_batch(folder):
        pass
