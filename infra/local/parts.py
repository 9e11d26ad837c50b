"""The parts of the local stack: their commands, their environment, and how they show that they work."""

import os
import shlex
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from infra.gallery_server import HEALTH
from infra.local.endpoints import LOOPBACK, Endpoints
from infra.local.errors import LocalStackError
from infra.local.processes import Part, python
from infra.local.registration import Project, ask
from infra.local.trial_storage import ENVIRONMENT as TRIAL_CREDENTIALS
from tasks.local_workers import DASK_SETTINGS, PRELOAD, WORKER_ENVIRONMENT, LocalWorker, dask_environment, local_workers
from tasks.proxies import reached_directly
from tasks.scheduler_address import SCHEDULER_VARIABLE
from tasks.storage import Storage

PROJECT = Path(__file__).parent.parent.parent
MOTO_SERVER = PROJECT / ".venv-moto" / "bin" / "moto_server"


@dataclass(frozen=True, kw_only=True)
class StackSettings:
    """What the user chose.

    Attributes
    ----------
    home
        Folder of all state.
    endpoints
        Where the parts listen.
    images, results
        Folder or s3://bucket/prefix of the images of all lines, and of the batches.
    workers
        Number of Dask workers; None takes three for each GPU, else one for each core.
    trial_storage
        Whether to start an S3 server for trying things, with a night to inspect in it.
    """

    home: Path
    endpoints: Endpoints
    images: str
    results: str
    workers: int | None = None
    trial_storage: bool = True


@dataclass(frozen=True, kw_only=True)
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
    runners
        Prefect's workers, one for each work pool, which start flow runs; last, since these need all others.
    """

    storage: Part | None
    server: Part
    cluster: tuple[Part, ...]
    gallery: Part
    runners: tuple[Part, ...]


def stack_environment(settings: StackSettings) -> dict[str, str]:
    """Return what the parts, and a user's shell, need to find each other."""
    endpoints = settings.endpoints
    environment = {
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_API_URL": f"{endpoints.prefect_url}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # Tells a run whose machine went away from one that is at work.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "SSDNET_HOME": str(PROJECT),
        "SSDNET_IMAGES": Storage(settings.images).address,
        "SSDNET_RESULTS": Storage(settings.results).address,
        "SSDNET_GALLERY_URL": endpoints.gallery_url,
        SCHEDULER_VARIABLE: endpoints.scheduler_url,
        **reached_directly(endpoints.name, LOOPBACK, "localhost"),
    }
    if settings.trial_storage:
        environment |= {"AWS_ENDPOINT_URL": endpoints.s3_url, **TRIAL_CREDENTIALS}
    return environment


def foreign_environment(settings: StackSettings) -> dict[str, str]:
    """Return this process' environment without what would lead the stack elsewhere: the user's own servers."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_elsewhere(settings))}


def write_shell_environment(path: Path, settings: StackSettings) -> None:
    """Write a file for a shell to source, so that its commands are this environment's and use this stack alone.

    Raises
    ------
    LocalStackError
        If it cannot be written.
    """
    foreign = f"unset $(env | sed -nE 's/^(({'|'.join(_elsewhere(settings))})[A-Za-z0-9_]*)=.*/\\1/p')\n"
    commands = f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"\n'
    own = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in stack_environment(settings).items())
    try:
        path.write_text(foreign + commands + own)
    except OSError as error:
        raise LocalStackError(f"cannot write {path}, the settings of this stack's shells: {error.strerror}") from error


def _elsewhere(settings: StackSettings) -> tuple[str, ...]:
    """Return how variables begin that would lead to servers, settings or rights of the user's own."""
    return ("PREFECT_", "DASK_", *(("AWS_",) if settings.trial_storage else ()))


def parts(settings: StackSettings, project: Project) -> Stack:
    """Return the parts of the stack."""
    endpoints, results = settings.endpoints, Storage(settings.results).address
    host, api = endpoints.host, f"{endpoints.prefect_url}/api"
    workers = local_workers(settings.workers)
    count = partial(_field, f"{endpoints.dashboard_url}/json/counts.json", "workers")
    return Stack(
        storage=_storage(endpoints) if settings.trial_storage else None,
        server=Part(
            name="Prefect server",
            command=python("prefect", "server", "start", "--host", host, "--port", str(endpoints.prefect)),
            answers=partial(_answers, f"{api}/health"),
            environment={
                "PREFECT_SERVER_UI_API_URL": api,
                # By default any page that a browser has open here may start runs, and so run code on this machine.
                "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(endpoints.prefect_origins),
                # Leases in memory are lost with a server that dies, which ends runs whose deployment has a limit.
                "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
                # Who switches a schedule on looks for its next run; by default it stands there up to a minute later.
                "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
                # By default runs stay for ever.
                "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
                "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "P365D",
            },
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
                environment=dask_environment(DASK_SETTINGS),
            ),
            *_dask_workers(settings.home, endpoints, workers=workers, all_there=lambda: (count() or 0) >= len(workers)),
        ),
        gallery=Part(
            name="gallery server",
            command=python("infra.gallery_server", results, "--host", host, "--port", str(endpoints.gallery)),
            answers=partial(_answers, f"{endpoints.gallery_url}{HEALTH}"),
        ),
        runners=tuple(_runner(pool, api) for pool in project.pools),
    )


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


def _runner(pool: str, api: str) -> Part:
    start = python("prefect", "worker", "start", "--pool", pool, "--name", "local", "--type", "process")
    return Part(
        name=f"Prefect worker of {pool}",
        command=start,
        answers=partial(_is_online, f"{api}/work_pools/{pool}"),
        # Flow runs tell the server that they were stopped.
        ends_children=True,
    )


def _dask_workers(
    home: Path, endpoints: Endpoints, *, workers: tuple[LocalWorker, ...], all_there: Callable[[], bool]
) -> Iterator[Part]:
    command = python(
        "distributed.cli.dask_worker",
        endpoints.scheduler_url,
        *("--host", endpoints.host, "--nthreads", "1", "--memory-limit", str(workers[0].memory_limit)),
        *("--local-directory", str(home / "dask"), "--preload", PRELOAD),
        # Without an address of its own, the server of a worker's figures listens everywhere.
        *("--no-dashboard", "--dashboard-address", f"{endpoints.host}:0"),
    )
    environment = {**dask_environment(DASK_SETTINGS), **WORKER_ENVIRONMENT}
    if workers[0].gpu is None:
        counted = (*command, "--nworkers", str(len(workers)))
        yield Part(name="Dask workers", command=counted, answers=all_there, environment=environment)
        return
    for number, worker in enumerate(workers, start=1):
        resources = ",".join(f"{name}={amount:g}" for name, amount in worker.resources.items())
        yield Part(
            name=f"Dask worker {number} on GPU {worker.gpu}",
            command=(*command, "--resources", resources),
            answers=all_there,
            environment=environment | worker.environment,
        )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def _field(url: str, name: str) -> Any:
    try:
        return ask(url)[name]
    except (OSError, LocalStackError):
        return None


def _is_online(pool: str) -> bool:
    try:
        found = ask(f"{pool}/workers/filter", {})
    except (OSError, LocalStackError):
        return False
    return any(worker["status"] == "ONLINE" for worker in found)
