"""The whole system on one machine: what ``ssdnet up`` starts, in which order, and with which environment."""

import os
import shlex
import signal
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.local.endpoints import LOOPBACK, Endpoints
from infra.local.errors import LocalStackError
from infra.local.home import held
from infra.local.processes import Part, Supervisor, end_all, marked, python
from infra.local.registration import WORK_POOL, ask, crash_lost_runs, last_night, nightly_parameters, register
from infra.local.trial_storage import ENVIRONMENT as TRIAL_CREDENTIALS
from infra.local.trial_storage import create_buckets, provide_night, restore_buckets, save_buckets
from tasks.cluster import PRELOAD, SCHEDULER_VARIABLE, SETTINGS, WORKER_ENVIRONMENT, LocalWorker, local_workers
from tasks.report import PAGE
from tasks.storage import Storage

PROJECT = Path(__file__).parent.parent.parent
MOTO_SERVER = PROJECT / ".venv-moto" / "bin" / "moto_server"
ALLOWED_FAILURES = 2
ARCHIVE = "buckets.zip"
SHELL_ENVIRONMENT = "environment.sh"


@dataclass(frozen=True)
class StackSettings:
    """What the user chose.

    Attributes
    ----------
    home
        Folder of all state.
    endpoints
        Where the parts listen.
    workers
        Number of Dask workers; None takes one for each GPU, else one for each core.
    trial_storage
        Whether to start an S3 server for trying things, with a night to inspect in it.
    """

    home: Path
    endpoints: Endpoints
    workers: int | None = None
    trial_storage: bool = True


@dataclass(frozen=True)
class Stack:
    """The parts, in the order in which they start.

    Attributes
    ----------
    storage
        The S3 server for trying things, if it is wanted.
    server
        Prefect's.
    cluster
        Dask's scheduler and workers.
    gallery
        Serves the galleries.
    runner
        Prefect's worker, which starts flow runs; last, since it needs all others.
    """

    storage: Part | None
    server: Part
    cluster: tuple[Part, ...]
    gallery: Part
    runner: Part


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
    with held(home), interruptible():
        left = marked(home)
        if left:
            tell(f"an earlier run left {len(left)} processes behind: ending them")
            end_all(left)
        endpoints = settings.endpoints.resolved()
        nightly = nightly_parameters(PROJECT)
        own = stack_environment(home, endpoints, nightly["results"], trial_storage=settings.trial_storage)
        write_shell_environment(home / SHELL_ENVIRONMENT, own)
        # For the objects that this process itself reads and writes.
        os.environ.update({name: value for name, value in own.items() if name.startswith("AWS_")})
        stack = parts(home, endpoints, nightly["results"], own, settings=settings)
        supervisor = Supervisor(home, folder=PROJECT, environment={**clean_environment(), **own}, tell=tell)
        restored = False
        try:
            tell(f"starting, with all state in {home} ...")
            for part in (stack.storage, stack.server, *stack.cluster, stack.gallery):
                if part:
                    supervisor.start(part)
            if stack.storage:
                supervisor.wait_for(stack.storage)
                restore_buckets(home / ARCHIVE)
                restored = True
                provide_trial(nightly)
            supervisor.wait_for(stack.server)
            register(own["PREFECT_API_URL"], supervisor)
            crash_lost_runs(own["PREFECT_API_URL"])
            supervisor.start(stack.runner)
            supervisor.wait_for(*stack.cluster, stack.gallery, stack.runner)
            show(console, endpoints, home, nightly, settings=settings)
            supervisor.watch()
        except KeyboardInterrupt:
            tell("stopping ...")
        finally:
            with uninterrupted():
                supervisor.end(stack.runner, stack.gallery, *reversed(stack.cluster))
                if stack.storage and restored and supervisor.runs(stack.storage):
                    save_buckets(home / ARCHIVE)
                supervisor.end()
                end_all(marked(home))
        tell("stopped")


def stack_environment(home: Path, endpoints: Endpoints, results: str, *, trial_storage: bool) -> dict[str, str]:
    """Return what the parts, and a user's shell, need to find each other."""
    environment = {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": f"{endpoints.prefect_url}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # Tells a run whose machine went away from one that is at work.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "SSDNET_HOME": str(PROJECT),
        "SSDNET_GALLERY_URL": endpoints.gallery_url,
        SCHEDULER_VARIABLE: endpoints.scheduler_url,
        "NO_PROXY": ",".join(filter(None, (os.environ.get("NO_PROXY", ""), endpoints.name, LOOPBACK, "localhost"))),
    }
    if trial_storage:
        environment |= {"AWS_ENDPOINT_URL": endpoints.s3_url, **TRIAL_CREDENTIALS}
    return environment


def clean_environment() -> dict[str, str]:
    """Return this process' environment without what would lead the stack elsewhere: the user's own Prefect."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DASK_"))}


def write_shell_environment(path: Path, environment: Mapping[str, str]) -> None:
    """Write a file for a shell to source, so that its commands use this stack."""
    path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()))


def parts(
    home: Path, endpoints: Endpoints, results: str, environment: Mapping[str, str], *, settings: StackSettings
) -> Stack:
    """Return the parts of the stack."""
    host, api = endpoints.host, environment["PREFECT_API_URL"]
    workers = local_workers(settings.workers)
    count = partial(_field, f"{endpoints.dashboard_url}/json/counts.json", "workers")
    return Stack(
        storage=_storage(endpoints) if settings.trial_storage else None,
        server=Part(
            name="Prefect server",
            command=python("prefect", "server", "start", "--host", host, "--port", str(endpoints.prefect)),
            answers=partial(_answers, f"{api}/health"),
            environment={"PREFECT_SERVER_UI_API_URL": api},
        ),
        cluster=(
            Part(
                name="Dask scheduler",
                command=python(
                    "distributed.cli.dask_scheduler",
                    *("--host", host, "--port", str(endpoints.scheduler)),
                    *("--dashboard-address", f"{host}:{endpoints.dashboard}"),
                ),
                answers=partial(_answers, f"{endpoints.dashboard_url}/health"),
                environment=_dask_settings({**SETTINGS, "distributed.scheduler.allowed-failures": ALLOWED_FAILURES}),
            ),
            *_dask_workers(home, endpoints, workers, all_there=lambda: (count() or 0) >= len(workers)),
        ),
        gallery=Part(
            name="gallery server",
            command=python("infra.gallery_server", results, "--host", host, "--port", str(endpoints.gallery)),
            answers=partial(_answers, endpoints.gallery_url),
        ),
        runner=Part(
            name="Prefect worker",
            command=python(
                "prefect", "worker", "start", *("--pool", WORK_POOL), *("--name", "local"), *("--type", "process")
            ),
            answers=partial(_is_online, api),
            # Flow runs tell the server that they were stopped.
            ends_children=True,
        ),
    )


def provide_trial(nightly: Mapping[str, Any]) -> None:
    """Create the buckets of the nightly deployment, with last night's images."""
    create_buckets(Storage(nightly[name]).root.split("/", 1)[0] for name in ("images", "results"))
    provide_night(nightly["images"], nightly["line"], last_night(nightly["timezone"]))


def show(
    console: Console, endpoints: Endpoints, home: Path, nightly: Mapping[str, Any], *, settings: StackSettings
) -> None:
    """Print the addresses, and how to start a first night."""
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
    if endpoints.host not in (LOOPBACK, "localhost", "::1"):
        console.print("Everybody who reaches this machine can use all of it: there is no authentication.", style="red")
    day = last_night(nightly["timezone"])
    console.print(
        f"A first night: in the Prefect UI, Deployments > {nightly['deployment']} > Run > Custom run, day {day}.\n"
        "Or in another shell:\n"
        f"    . {shlex.quote(str(home / SHELL_ENVIRONMENT))}\n"
        f"    prefect deployment run nightly/{nightly['deployment']} --param day={day} --watch\n"
        f"Its gallery, worst image first: {endpoints.gallery_url}/{nightly['line']}-{day}/{PAGE}\n"
        "Ctrl-C here, or `ssdnet down` elsewhere, stops all of it.",
        markup=False,
        soft_wrap=True,
    )


@contextmanager
def interruptible() -> Iterator[None]:
    """Make a request to end, from whomever, what Ctrl-C is: KeyboardInterrupt."""
    with _handling(signal.default_int_handler):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Keep further requests to end from disturbing the first; what runs inside ends by itself."""
    with _handling(signal.SIG_IGN):
        yield


@contextmanager
def _handling(handler: Any) -> Iterator[None]:
    earlier = {name: signal.signal(name, handler) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for name, former in earlier.items():
            signal.signal(name, former)


def _storage(endpoints: Endpoints) -> Part:
    if not MOTO_SERVER.exists():
        raise LocalStackError(
            f"the S3 server for trying things is not installed ({MOTO_SERVER}): `make up` installs it, --no-s3 does "
            "without; the storage is then the one that your AWS environment variables name"
        )
    return Part(
        name="S3 server",
        command=(str(MOTO_SERVER), "--host", endpoints.host, "--port", str(endpoints.s3)),
        answers=partial(_answers, endpoints.s3_url),
        state_in_memory=True,
    )


def _dask_workers(
    home: Path, endpoints: Endpoints, workers: tuple[LocalWorker, ...], *, all_there: Callable[[], bool]
) -> Iterator[Part]:
    command = python(
        "distributed.cli.dask_worker",
        endpoints.scheduler_url,
        *("--host", endpoints.host, "--nthreads", "1", "--memory-limit", str(workers[0].memory_limit)),
        *("--local-directory", str(home / "dask"), "--preload", PRELOAD, "--no-dashboard"),
    )
    environment = {**_dask_settings(SETTINGS), **WORKER_ENVIRONMENT}
    if workers[0].gpu is None:
        counted = (*command, "--nworkers", str(len(workers)))
        yield Part(name="Dask workers", command=counted, answers=all_there, environment=environment)
        return
    for worker in workers:
        resources = ",".join(f"{name}={amount:g}" for name, amount in worker.resources.items())
        yield Part(
            name=f"Dask worker of GPU {worker.gpu}",
            command=(*command, "--resources", resources),
            answers=all_there,
            environment=environment | worker.environment,
        )


def _dask_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": str(value)
        for name, value in settings.items()
        if not isinstance(value, Mapping)
    }


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def _field(url: str, name: str) -> Any:
    try:
        return ask(url)[name]
    except OSError:
        return None


def _is_online(api: str) -> bool:
    try:
        found = ask(f"{api}/work_pools/{WORK_POOL}/workers/filter", {})
    except OSError:
        return False
    return any(worker["status"] == "ONLINE" for worker in found)
