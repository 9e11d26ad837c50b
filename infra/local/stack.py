"""The whole system on one machine: ``ssdnet up``."""

import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.local.endpoints import LOOPBACK
from infra.local.home import held
from infra.local.parts import (
    PROJECT,
    StackSettings,
    foreign_environment,
    parts,
    stack_environment,
    write_shell_environment,
)
from infra.local.processes import Supervisor, end_all, marked
from infra.local.registration import Project, crash_lost_runs, read_project, register
from infra.local.trial_storage import create_buckets, provide_nights, restore_buckets, save_buckets
from tasks.batch import GALLERY
from tasks.nights import Night
from tasks.storage import Storage
from tasks.storage_answers import StorageError

ARCHIVE = "buckets.zip"
SHELL_ENVIRONMENT = "environment.sh"


def up(settings: StackSettings) -> None:
    """Start the stack, and stay until a signal or a fault ends it; then stop all of it.

    Raises
    ------
    LocalStackError
        If it cannot start or go on.
    """
    console = Console(stderr=True, highlight=False)
    tell = partial(console.print, markup=False, soft_wrap=True)
    home = settings.home.resolve()
    # Whatever asks it to end is taken for Ctrl-C, a KeyboardInterrupt.
    with held(home), when_asked_to_end(signal.default_int_handler):
        left = marked(home)
        if left:
            tell(f"an earlier run left {len(left)} processes behind: ending them")
            end_all(left)
        project = read_project(PROJECT)
        endpoints = settings.endpoints.resolved(trial_storage=settings.trial_storage)
        settings = replace(settings, home=home, endpoints=endpoints)
        own = stack_environment(settings)
        write_shell_environment(home / SHELL_ENVIRONMENT, settings)
        environment = {**foreign_environment(settings), **own}
        # This process reads and writes objects, too.
        os.environ.clear()
        os.environ.update(environment)
        stack = parts(settings, project)
        supervisor = Supervisor(home, folder=PROJECT, environment=environment, tell=tell)
        restored = False

        def save() -> None:
            if stack.storage and restored and supervisor.runs(stack.storage):
                save_buckets(home / ARCHIVE)

        at_work = (*stack.runners, stack.gallery, *reversed(stack.cluster))
        ends = [partial(supervisor.end, part) for part in at_work]
        with always_then(*ends, save, supervisor.end, lambda: end_all(marked(home)), tell=tell):
            try:
                tell(f"starting, with all state in {home} ...")
                for part in (stack.storage, stack.server, *stack.cluster, stack.gallery):
                    if part:
                        supervisor.start(part)
                if stack.storage:
                    supervisor.wait_for(stack.storage)
                    restore_buckets(home / ARCHIVE)
                    restored = True
                    create_buckets((settings.images, settings.results))
                    provide_nights(settings.images, project.lines, day=project.last_night)
                supervisor.wait_for(stack.server)
                register(project, own["PREFECT_API_URL"], supervisor=supervisor, tell=tell)
                crash_lost_runs(own["PREFECT_API_URL"])
                for runner in stack.runners:
                    supervisor.start(runner)
                supervisor.wait_for(*stack.cluster, stack.gallery, *stack.runners)
                show(console, settings, project=project)
                supervisor.watch()
            except KeyboardInterrupt:
                tell("stopping ...")
        tell("stopped")


def show(console: Console, settings: StackSettings, *, project: Project) -> None:
    """Print the addresses, and how to start a first night."""
    home, endpoints = settings.home, settings.endpoints
    table = Table(title="SSDnet Inspect is up", show_header=False)
    for name, value in (
        ("Prefect UI", endpoints.prefect_url),
        ("Dask UI", f"{endpoints.dashboard_url}/status"),
        ("galleries", endpoints.gallery_url),
        *((("S3, for trying", endpoints.s3_url),) if settings.trial_storage else ()),
        ("Dask scheduler", endpoints.scheduler_url),
        ("state and logs", str(home)),
    ):
        table.add_row(name, Text(value, overflow="fold"))
    console.print(table)
    if endpoints.host not in (LOOPBACK, "localhost"):
        console.print("Everybody who reaches this machine can use all of it: there is no authentication.", style="red")
    day = project.last_night
    if not settings.trial_storage and (warning := _no_images(Night(project.lines[0], day).below(settings.images))):
        console.print(warning, style="yellow", markup=False, soft_wrap=True)
    console.print(
        f"A first night: in the Prefect UI, Deployments > {project.nightly} > Run > Custom run, day {day}.\n"
        "Or in another shell:\n"
        f"    . {shlex.quote(str(home / SHELL_ENVIRONMENT))}\n"
        f"    prefect deployment run nightly/{project.nightly} --param day={day} --watch\n"
        f"Its gallery, worst image first: {endpoints.gallery_url}/{project.lines[0]}-{day}/{GALLERY}\n"
        "Ctrl-C here, or `ssdnet down` elsewhere, stops all of it.",
        markup=False,
        soft_wrap=True,
    )


def _no_images(night: Storage) -> str:
    """Return what is wrong with the folder of the night to start with; empty if it is there."""
    try:
        found = night.exists()
    except StorageError as error:
        return str(error)
    return "" if found else f"There is no {night.address} yet: put images there first, or give the right --images."


@contextmanager
def always_then(*steps: Callable[[], object], tell: Callable[[str], object]) -> Iterator[None]:
    """Take the steps after the block, in turn and uninterrupted, even if the block or one of them fails.

    The first error is raised at the end; those after it are only printed, since they may follow from it.
    """
    first: BaseException | None = None
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - raised at the end
        first = error
    with when_asked_to_end(signal.SIG_IGN):
        for step in steps:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - told or raised at the end
                if first:
                    tell(str(error))
                first = first or error
    if first:
        raise first


@contextmanager
def when_asked_to_end(handler: Any) -> Iterator[None]:
    """Handle every signal to end inside the block; what is ignored stays so, as the end of the session under nohup."""
    signals = [
        name for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(name) is not signal.SIG_IGN
    ]
    earlier = {name: signal.signal(name, handler) for name in signals}
    try:
        yield
    finally:
        for name, former in earlier.items():
            signal.signal(name, former)
