"""Supervising real processes: small Python programs instead of servers."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

import infra.local.processes
from infra.local.errors import LocalStackError
from infra.local.processes import MARK, Part, Supervisor, cut, end_all, marked
from tests.conftest import wait_for

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
"""Else what a watcher's thread expects in vain would be a warning."""

SLEEPS = "import time; time.sleep(600)"
HAS_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEPS!r}], start_new_session=True)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEPS}"


def program(name: str, code: str, **options: bool) -> Part:
    return Part(name=name, command=(sys.executable, "-c", code), answers=lambda: True, **options)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path, told, monkeypatch):
    monkeypatch.setattr(infra.local.processes, "WATCHED_EVERY", 0.02)
    supervisor = Supervisor(tmp_path, folder=tmp_path, environment=dict(os.environ), tell=told.append)
    yield supervisor
    end_all(marked(tmp_path))


def test_parts_end_with_their_childrens_children_even_in_sessions_of_their_own(supervisor, tmp_path):
    supervisor.start(program("parent", HAS_CHILD))
    wait_for(lambda: len(marked(tmp_path)) == 2, what="parent and child")
    supervisor.end()
    assert not marked(tmp_path)


def test_what_does_not_end_when_asked_is_killed(supervisor, tmp_path, monkeypatch):
    monkeypatch.setattr(infra.local.processes, "END_TIMEOUT", 0.5)
    part = program("stubborn", STUBBORN)
    supervisor.start(part)
    wait_for(lambda: "deaf" in supervisor.log(part).read_text(), what="the signal's handler")
    supervisor.end(part)
    assert not marked(tmp_path)


GOODBYE = "import pathlib, signal; signal.signal(signal.SIGTERM, lambda *_: pathlib.Path('goodbye').touch() or exit())"
KILLS = f"""
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, '-c', {f"{GOODBYE}; print('up', flush=True); {SLEEPS}"!r}])
signal.signal(signal.SIGTERM, lambda *_: child.kill() or exit())
child.wait()
"""


def test_what_a_part_would_kill_is_asked_to_end_before_it(supervisor, tmp_path):
    part = program("worker", KILLS, ends_children=True)
    supervisor.start(part)
    wait_for(lambda: supervisor.log(part).read_text() == "up\n", what="the signal's handler")
    supervisor.end(part)
    assert (tmp_path / "goodbye").exists()


def test_a_process_that_cannot_be_ended_is_named(supervisor, tmp_path, monkeypatch):
    monkeypatch.setattr(infra.local.processes, "END_TIMEOUT", 0.0)  # As of one that a dead disk holds.
    supervisor.start(program("part", SLEEPS))
    [process] = marked(tmp_path)
    with pytest.raises(LocalStackError, match=f"processes {process.pid} cannot be ended"):
        end_all([process])


def test_a_command_that_is_marked_itself_does_not_end_itself(tmp_path):
    asking = (
        "import pathlib; from infra.local.processes import marked; raise SystemExit(len(marked(pathlib.Path.cwd())))"
    )
    subprocess.run(
        [sys.executable, "-c", asking], cwd=tmp_path, env={**os.environ, MARK: str(tmp_path)}, check=True, timeout=60
    )


def test_parts_are_found_by_their_mark_when_their_supervisor_knows_nothing_of_them(supervisor, tmp_path):
    supervisor.start(program("parent", HAS_CHILD))
    wait_for(lambda: len(marked(tmp_path)) == 2, what="parent and child")
    assert not marked(tmp_path / "elsewhere")
    end_all(marked(tmp_path))
    assert not marked(tmp_path)


def test_a_part_that_dies_before_it_answers_is_named_with_the_end_of_its_log(supervisor):
    part = Part(
        name="Prefect server",
        command=(sys.executable, "-c", "raise SystemExit('the database is locked')"),
        answers=lambda: False,
    )
    supervisor.start(part)
    with pytest.raises(
        LocalStackError, match=r"the Prefect server ended by itself \(status 1\)[^$]*database is locked"
    ):
        supervisor.wait_for(part)


def test_a_part_hears_an_interrupt_though_a_script_has_started_the_system_in_the_background(supervisor):
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        part = program("worker", "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(600)")
        supervisor.start(part)
        with pytest.raises(LocalStackError, match=r"(?s)the worker ended by itself.*KeyboardInterrupt"):
            supervisor.wait_for(Part(name="other", command=(), answers=lambda: False))
    finally:
        signal.signal(signal.SIGINT, heard)


def test_a_part_that_never_answers_is_named(supervisor, monkeypatch):
    monkeypatch.setattr(infra.local.processes, "PARTS_START_TIMEOUT", 0.3)
    part = Part(name="mute", command=(sys.executable, "-c", SLEEPS), answers=lambda: False)
    supervisor.start(part)
    with pytest.raises(LocalStackError, match="the mute does not answer"):
        supervisor.wait_for(part)


def test_a_part_that_died_is_started_again_and_said(supervisor, told, tmp_path):
    part = program("restless", SLEEPS)
    supervisor.start(part)
    [first] = marked(tmp_path)
    watcher = threading.Thread(target=ends_with_an_error, args=(supervisor, part.name))
    watcher.start()
    first.kill()
    wait_for(lambda: told and marked(tmp_path), what="its restart")
    assert "the restless ended by itself (status -9)" in told[0]
    for _ in range(infra.local.processes.MOST_DEATHS):
        [current] = wait_for_one(tmp_path)
        current.kill()
        current.wait()
    watcher.join(timeout=30)
    assert not watcher.is_alive(), "after more than three deaths the watch ends"
    assert len(told) == infra.local.processes.MOST_DEATHS


def test_a_part_is_started_again_though_its_log_was_deleted(supervisor, told, tmp_path):
    part = program("restless", SLEEPS, state_in_memory=False)
    supervisor.start(part)
    [first] = marked(tmp_path)
    supervisor.log(part).unlink()
    supervisor.log(part).parent.rmdir()
    watcher = threading.Thread(target=ends_with_an_error, args=(supervisor, part.name), daemon=True)
    watcher.start()
    first.kill()
    wait_for(lambda: told and marked(tmp_path), what="its restart")
    assert f"{supervisor.log(part)} cannot be read (No such file or directory)" in told[0]
    for _ in range(infra.local.processes.MOST_DEATHS):
        [current] = wait_for_one(tmp_path)
        current.kill()
        current.wait()
    watcher.join(timeout=30)
    assert not watcher.is_alive()


def test_parts_that_die_together_again_and_again_are_counted_one_by_one(supervisor, told, tmp_path, monkeypatch):
    monkeypatch.setattr(infra.local.processes, "MOST_DEATHS", 1)
    both = [program("scheduler", SLEEPS), program("workers", SLEEPS)]
    for part in both:
        supervisor.start(part)
    watcher = threading.Thread(target=ends_with_an_error, args=(supervisor, "(scheduler|workers)"), daemon=True)
    watcher.start()
    for deaths in (2, 3):
        wait_for(lambda: len(marked(tmp_path)) == 2, what="both")
        for process in marked(tmp_path):
            process.kill()
            process.wait()
        wait_for(lambda deaths=deaths: len(told) == deaths or not watcher.is_alive(), what="what came of it")
        assert watcher.is_alive() == (deaths == 2)
    assert not watcher.is_alive()


def test_a_log_goes_on_after_a_death_and_the_one_before_the_start_is_kept(supervisor):
    part = program("restless", "print('up', flush=True)")
    log = supervisor.log(part)
    for starts in (1, 2):
        supervisor.start(part)
        wait_for(lambda starts=starts: log.read_text() == starts * "up\n", what="its output")
    supervisor.end()
    supervisor.start(part)
    wait_for(lambda: log.read_text() == "up\n", what="its output")
    assert log.with_suffix(".log.1").read_text() == 2 * "up\n"


def test_a_log_that_cannot_be_written_is_told_with_its_part(supervisor, tmp_path):
    (tmp_path / "logs").write_text("no folder")
    with pytest.raises(LocalStackError, match=r"cannot write .*/logs/part\.log, the log of the part: "):
        supervisor.start(program("part", SLEEPS))


def test_deaths_of_long_ago_do_not_end_the_watch(supervisor, told, tmp_path, monkeypatch):
    monkeypatch.setattr(infra.local.processes, "MOST_DEATHS", 1)
    monkeypatch.setattr(infra.local.processes, "DEATHS_COUNT_FOR", 0.0)
    part = program("restless", SLEEPS)
    supervisor.start(part)
    watcher = threading.Thread(target=ends_with_an_error, args=(supervisor, part.name), daemon=True)
    watcher.start()
    for deaths in (1, 2, 3):
        [current] = wait_for_one(tmp_path)
        current.kill()
        wait_for(lambda deaths=deaths: len(told) == deaths or not watcher.is_alive(), what="its restart")
        assert watcher.is_alive()
    monkeypatch.setattr(infra.local.processes, "DEATHS_COUNT_FOR", 600.0)
    [current] = wait_for_one(tmp_path)
    current.kill()
    watcher.join(timeout=30)
    assert not watcher.is_alive()


def ends_with_an_error(supervisor: Supervisor, name: str) -> None:
    with pytest.raises(LocalStackError, match=name):
        supervisor.watch()


def wait_for_one(home: Path) -> list[psutil.Process]:
    wait_for(lambda: len(marked(home)) == 1, what="the process")
    return marked(home)


def test_a_part_whose_memory_others_rely_on_is_not_started_again(supervisor, told, tmp_path):
    part = program("S3 server", SLEEPS, state_in_memory=True)
    supervisor.start(part)
    [process] = marked(tmp_path)
    assert supervisor.runs(part)
    process.send_signal(signal.SIGKILL)
    with pytest.raises(LocalStackError, match="the S3 server ended by itself"):
        supervisor.watch()
    assert not supervisor.runs(part), "there is nothing left to save"
    assert told == ["the S3 server ended by itself: stopping all of it ..."]


def test_a_command_that_fails_is_reported_with_what_it_wrote(supervisor):
    with pytest.raises(LocalStackError, match=r"registering failed:\nno such pool"):
        supervisor.run("registering", sys.executable, "-c", "raise SystemExit('no such pool')")


WRITES = "import time\nprint('first', flush=True)\nwhile True: print('x' * 1000, flush=True); time.sleep(0.01)"


def test_a_log_that_grows_is_cut_while_its_part_goes_on_writing_to_it(supervisor, tmp_path, monkeypatch):
    monkeypatch.setattr(infra.local.processes, "LONGEST_LOG", 20_000)
    part = program("talkative", WRITES, state_in_memory=True)
    supervisor.start(part)
    log, older = supervisor.log(part), supervisor.log(part).with_suffix(".log.1")
    watcher = threading.Thread(target=ends_with_an_error, args=(supervisor, part.name))
    watcher.start()
    wait_for(lambda: older.exists() and older.stat().st_size > 20_000, what="the older log")
    wait_for(lambda: log.stat().st_size > 2_000, what="what is written on")
    # Written at its new end, not where it ended before: that would leave a hole, read as zeros.
    assert b"\0" not in log.read_bytes()
    [process] = marked(tmp_path)
    process.kill()
    watcher.join(timeout=30)
    assert not watcher.is_alive()


def test_a_log_that_cannot_be_kept_is_cut_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(infra.local.processes, "LONGEST_LOG", 10)
    log = tmp_path / "part.log"
    log.write_text("as on a full disk")
    log.with_suffix(".log.1").mkdir()
    cut(log)
    assert not log.read_text()


def test_a_log_that_is_short_or_that_somebody_deleted_is_left_alone(tmp_path):
    log = tmp_path / "part.log"
    cut(log)
    log.write_text("short")
    cut(log)
    assert [path.name for path in tmp_path.iterdir()] == ["part.log"]


def test_of_a_log_only_the_end_is_read_to_tell_of_a_death(supervisor, monkeypatch):
    part = program("Prefect server", "print('é' * 200_000, 'the last word'); raise SystemExit(1)")
    supervisor.start(part)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("read whole"))
    with pytest.raises(LocalStackError, match="the last word") as death:
        supervisor.wait_for(Part(name=part.name, command=part.command, answers=lambda: False))
    assert len(str(death.value)) < 70_000
