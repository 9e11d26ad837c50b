import io
import os
import signal
import sys
from dataclasses import replace

import pytest
from rich.console import Console

import infra.local.stack
from infra.local.endpoints import Endpoints
from infra.local.errors import LocalStackError
from infra.local.parts import Stack, StackSettings
from infra.local.processes import Part, Supervisor, end_all, marked
from infra.local.registration import Project
from infra.local.stack import always_then, show, up, when_asked_to_end
from tests.conftest import wait_for


@pytest.fixture
def hung_up():
    """The shell's nohup: the end of the session is ignored."""
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, earlier)


def test_a_request_to_end_is_ctrl_c_but_what_nohup_ignores_stays_ignored(hung_up):
    with when_asked_to_end(signal.default_int_handler):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        with when_asked_to_end(signal.SIG_IGN):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def program(name: str) -> Part:
    return Part(name=name, command=(sys.executable, "-c", "import time; time.sleep(600)"), answers=lambda: True)


@pytest.fixture
def settings(tmp_path):
    """Of a stack whose state is the test's own, as is the environment that it takes over."""
    before = dict(os.environ)
    free = Endpoints(prefect=0, scheduler=0, dashboard=0, s3=0, gallery=0)
    yield StackSettings(home=tmp_path, endpoints=free, images="s3://images", results="s3://results")
    end_all(marked(tmp_path))
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def stack(monkeypatch):
    """Programs in place of servers, which have nothing to be told."""
    stack = Stack(
        storage=program("S3 server"),
        server=program("Prefect server"),
        cluster=(program("Dask scheduler"), program("Dask workers")),
        gallery=program("gallery server"),
        runners=(program("Prefect worker"),),
    )
    monkeypatch.setattr(infra.local.stack, "parts", lambda settings, project: stack)
    for name in ("restore_buckets", "create_buckets", "provide_nights", "register", "crash_lost_runs"):
        monkeypatch.setattr(infra.local.stack, name, lambda *arguments, **options: None)
    return stack


@pytest.mark.parametrize("ended_by", [KeyboardInterrupt(), LocalStackError("the S3 server ended by itself")])
def test_whatever_cannot_be_ended_the_objects_are_saved_all_else_ends_and_the_first_error_is_raised(
    settings, stack, monkeypatch, capsys, ended_by
):
    plain, saved = Supervisor.end, []

    def save(archive):
        saved.append((archive, len(marked(settings.home))))

    def watch(supervisor):
        raise ended_by

    def end(supervisor, *parts):
        if stack.runners[0] in parts:
            raise LocalStackError("processes 7 cannot be ended")
        plain(supervisor, *parts)

    monkeypatch.setattr(infra.local.stack, "save_buckets", save)
    monkeypatch.setattr(Supervisor, "watch", watch)
    monkeypatch.setattr(Supervisor, "end", end)
    with pytest.raises(LocalStackError) as raised:
        up(settings)
    told = f"{capsys.readouterr().err}{raised.value}"
    assert "processes 7 cannot be ended" in told
    assert str(raised.value) == (str(ended_by) or "processes 7 cannot be ended")
    # The storage and the server, which the others rely on, and the worker that stays.
    assert saved == [(settings.home / "buckets.zip", 3)]
    assert not marked(settings.home)


@pytest.mark.parametrize("lost", ["not put back", "gone with their server"])
def test_what_is_not_there_is_not_saved_over_what_the_stop_before_saved(settings, stack, monkeypatch, lost):
    saved = []

    def damaged(archive):
        raise LocalStackError(lost)

    def watch(supervisor):
        wait_for(lambda: not supervisor.runs(ended.storage), what="its end")
        raise LocalStackError(lost)

    ended = replace(stack, storage=replace(stack.storage, command=(sys.executable, "-c", "")))
    if lost == "not put back":
        monkeypatch.setattr(infra.local.stack, "restore_buckets", damaged)
    else:
        monkeypatch.setattr(infra.local.stack, "parts", lambda settings, project: ended)
    monkeypatch.setattr(infra.local.stack, "save_buckets", saved.append)
    monkeypatch.setattr(Supervisor, "watch", watch)
    with pytest.raises(LocalStackError, match=lost):
        up(settings)
    assert not saved


def test_its_own_process_has_the_systems_environment_and_not_the_users(settings, stack, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "plant")
    monkeypatch.setenv("SSDNET_IMAGES", "s3://plant")
    monkeypatch.setattr(infra.local.stack, "save_buckets", lambda archive: None)
    monkeypatch.setattr(Supervisor, "watch", lambda supervisor: None)
    up(settings)
    assert "AWS_PROFILE" not in os.environ
    assert os.environ["SSDNET_IMAGES"] == "s3://images"


def test_what_comes_after_is_done_though_it_is_asked_to_end_once_more():
    done = []
    with (
        when_asked_to_end(signal.default_int_handler),
        always_then(lambda: signal.raise_signal(signal.SIGTERM), lambda: done.append("end"), tell=print),
    ):
        pass
    assert done == ["end"]


def test_a_night_to_start_with_that_is_not_there_is_warned_of(tmp_path):
    project = Project(pools=("nights",), nights=("line-1",), lines=("line-1",), timezone="UTC")
    settings = StackSettings(
        home=tmp_path, endpoints=Endpoints(), images=str(tmp_path / "images"), results="/out", trial_storage=False
    )
    night = tmp_path / "images" / "line-1" / str(project.last_night)

    def shown() -> str:
        console = Console(file=io.StringIO(), width=200)
        show(console, settings, project=project)
        return console.file.getvalue()

    assert f"There is no {night} yet" in shown()
    night.mkdir(parents=True)
    assert "There is no" not in shown()
