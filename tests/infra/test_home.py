import fcntl
import os
import subprocess
import sys
import threading

import pytest

import infra.local.home
from infra.local.errors import LocalStackError
from infra.local.home import PROBE_SECONDS, held, stop
from infra.local.processes import MARK, marked
from tests.conftest import wait_for

HOLD = """
import sys, time
from pathlib import Path
from infra.local.home import held
with held(Path(sys.argv[1])):
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)])
    wait_for(lambda: (tmp_path / "up.pid").exists() and (tmp_path / "up.pid").read_text(), what="the holder")
    yield process
    process.kill()
    process.wait()


def test_of_two_one_holds_a_home_and_the_other_is_told_who(holder, tmp_path):
    with pytest.raises(LocalStackError, match=f"process {holder.pid}.*ssdnet down"), held(tmp_path):
        pass


def test_a_killed_holder_loses_its_home_at_once(holder, tmp_path):
    holder.kill()
    holder.wait()
    with held(tmp_path):
        assert (tmp_path / "up.pid").read_text() == str(os.getpid())
    assert not stop(tmp_path)


def test_stopping_asks_the_holder_and_waits_until_it_is_gone(holder, tmp_path):
    assert stop(tmp_path)
    assert holder.wait(timeout=10) != 0
    assert not stop(tmp_path)


def test_stopping_ends_what_a_killed_holder_left_behind(tmp_path):
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(command, env={**os.environ, MARK: str(tmp_path)}) as left:
        try:
            wait_for(lambda: marked(tmp_path), what="what is left")
            assert stop(tmp_path)
            assert left.wait(timeout=10) != 0
        finally:
            left.kill()
    assert not stop(tmp_path)


def test_a_home_that_another_account_holds_is_told_of(holder, tmp_path, monkeypatch):
    def kill(number, _):
        assert number == holder.pid
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    with pytest.raises(LocalStackError, match=f"by process {holder.pid} of another account"):
        stop(tmp_path)


def test_a_holder_that_does_not_stop_is_named(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(infra.local.home, "STOP_TIMEOUT", 0.0)
    monkeypatch.setattr(os, "kill", lambda *_: None)
    with pytest.raises(LocalStackError, match=f"process {holder.pid} has not stopped {tmp_path} after 0 s: kill it"):
        stop(tmp_path)


def test_a_home_that_never_was_has_nothing_to_stop(tmp_path):
    assert not stop(tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("below", ["", "home"])
def test_a_home_that_cannot_be_made_is_named_with_its_option(tmp_path, below):
    (tmp_path / "file").touch()
    home = tmp_path / "file" / below
    with pytest.raises(LocalStackError, match=f"{home}.*--home"), held(home):
        pass


def test_a_home_that_was_left_names_nobody(tmp_path):
    with pytest.raises(RuntimeError, match="stopped"), held(tmp_path):
        raise RuntimeError("stopped")
    assert not (tmp_path / "up.pid").read_text()


def test_a_home_whose_holder_has_not_said_yet_who_it_is_has_nothing_to_stop(holder, tmp_path):
    os.truncate(tmp_path / "up.pid", 0)
    assert not stop(tmp_path)
    assert holder.poll() is None


def test_who_only_looks_whether_a_home_is_held_hinders_nobody(tmp_path):
    (tmp_path / "up.pid").write_text("99999999")  # Of no process.
    with (tmp_path / "up.pid").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not stop(tmp_path), "nor another who looks"
        threading.Timer(PROBE_SECONDS / 5, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        with held(tmp_path):
            assert (tmp_path / "up.pid").read_text() == str(os.getpid())


def test_the_command_that_stops_a_home_with_a_space_in_its_name_can_be_copied(tmp_path):
    home = tmp_path / "my home"
    with held(home), pytest.raises(LocalStackError, match=f"ssdnet down --home '{home}'`"), held(home):
        pass
