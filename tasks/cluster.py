"""The Dask workers that fit: a cluster that is there, or one made on this machine for the length of a run.

A worker that owns a GPU declares the resource ``GPU=1`` and has one thread, so that one fit at a time has the GPU.
"""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
from dask.system import CPU_COUNT
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.comm.addressing import get_address_host_port
from distributed.system import MEMORY_LIMIT

from ssdnet_core.errors import InvalidConfigError, SsdnetError
from tasks.certificates import RENEW, CertificateError, check_certificates, has_expired

SCHEDULER_VARIABLE = "SSDNET_SCHEDULER"
"""Environment variable with the address of the scheduler to use where none is given."""

GPU = "GPU"
"""Dask resource of the workers that own a GPU."""

GPU_GROUP = 64
"""Images that a GPU fits together where nothing else is asked for."""

PRELOAD = "tasks.worker_preload"

# Dask's own MALLOC_TRIM_THRESHOLD_ of 64 KiB gives every tensor's memory back to the system at once: a fit faults a
# million pages in and takes 5.5 CPU-seconds where 3.1 would do.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_MMAP_MAX_": "0",
}

# An image that kills its worker is tried once more by the scheduler, then alone by us (tasks/dispatch.py).
# The allocator keeps a large fit's memory for the next one: a worker paused for it stays paused, with nothing to spill.
SETTINGS: dict[str, Any] = {
    "distributed.scheduler.allowed-failures": 1,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.worker.daemon": True,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    # Not a nanny's ``env``, which is set when the process runs already: the allocator reads these before.
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
}

# No dashboard, since nobody is told its address; the server that it is part of would listen everywhere.
LOOPBACK_ONLY = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}

MEMORY_SHARE = 0.8
"""Of the memory that this machine, or its container, has for all workers together."""


class ClusterError(SsdnetError, OSError):
    """The Dask scheduler cannot be reached, or has no worker."""


class Workers:
    """The workers of a run, connected to when first needed: a batch that is done already needs none.

    Parameters
    ----------
    scheduler, workers, device
        As for :func:`dask_client`.
    """

    def __init__(self, scheduler: str | None = None, *, workers: int | None = None, device: str = "auto") -> None:
        self._connection = dask_client(scheduler_to_use(scheduler), workers=workers, device=device)
        self._stack = ExitStack()
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="workers")
        self._client: Future[Client] | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *failure: object) -> None:
        # In the thread that opened it: a Dask client is closed in the context that it was made in.
        self._starter.submit(self._stack.close).result()
        self._starter.shutdown()

    def start(self) -> "Future[Client]":
        """Begin to connect, in a thread beside the caller: processes take seconds to come up."""
        if self._client is None:
            self._client = self._starter.submit(self._stack.enter_context, self._connection)
        return self._client

    @property
    def client(self) -> Client:
        """The connection; waits for it, and raises what kept it from coming about."""
        return self.start().result()


@contextmanager
def dask_client(
    scheduler: str | None = None, *, workers: int | None = None, device: str = "auto", timeout: float = 60.0
) -> Iterator[Client]:
    """Connect to the workers.

    Parameters
    ----------
    scheduler
        Address as ``tcp://host:8786``, or ``tls://host:8786`` with Dask's settings for certificates; None takes the one
        that ``SSDNET_SCHEDULER`` names, or else makes a cluster of processes on this machine and takes it down again.
    workers, device
        For the cluster on this machine, as for :func:`local_workers`.
    timeout
        Seconds to wait for the scheduler and its first worker.

    Raises
    ------
    ClusterError
        If the scheduler does not answer, or no worker joins it.
    CertificateError
        If the scheduler's address and Dask's settings for encryption do not fit each other, or a certificate expired.
    InvalidConfigError
        If the scheduler's address is none.
    """
    scheduler = scheduler_to_use(scheduler)
    if scheduler is None:
        with (
            dask.config.set(SETTINGS),
            _local_cluster(local_workers(workers, device=device)) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    check_certificates(scheduler)
    try:
        client = Client(scheduler, timeout=timeout)
    except OSError as error:
        if has_expired(error):
            raise CertificateError(
                f"the certificate of the Dask scheduler at {scheduler} has expired: {RENEW}"
            ) from error
        raise ClusterError(
            f"no Dask scheduler answers at {scheduler} within {timeout:.0f} s (is it tcp:// or tls://?): {error}"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=timeout)
        except TimeoutError as error:
            raise ClusterError(
                f"the Dask scheduler at {scheduler} has no worker after {timeout:.0f} s: start one with "
                f"`dask worker {scheduler} --nthreads 1`"
            ) from error
        yield client


def scheduler_to_use(scheduler: str | None) -> str | None:
    """Return the scheduler's address: the one given, or that of the environment; None for a cluster on this machine.

    Raises
    ------
    InvalidConfigError
        If it is no address of a scheduler.
    """
    address = scheduler or os.environ.get(SCHEDULER_VARIABLE) or None
    if address is None:
        return None
    try:
        get_address_host_port(address)
    except ValueError as error:
        raise InvalidConfigError(f"scheduler {address!r}: {error}: give tcp://host:8786 or tls://host:8786") from error
    return address


def fit_resources(client: Client, device: str) -> dict[str, float]:
    """Return the Dask resources that a fit asks for: a GPU, or none.

    Parameters
    ----------
    device
        The settings' device. ``cuda`` wants workers that own a GPU; ``auto`` takes them if there are any now, and
        otherwise all workers.

    Raises
    ------
    ClusterError
        If the device is ``cuda`` and no worker declares a GPU.
    InvalidConfigError
        If the device is ``cuda:1`` or higher, which no worker has.
    """
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cuda"):
        return {}
    if number not in ("", "0"):
        raise InvalidConfigError(
            f"device {device!r}: a worker owns one GPU, which is its first; set device to cuda, and choose among a "
            "machine's GPUs with CUDA_VISIBLE_DEVICES where its workers start"
        )
    wanted = {GPU: 1.0}
    if able_workers(client, wanted):
        return wanted
    if kind == "auto":
        return {}
    without = len(able_workers(client, {}))
    raise ClusterError(
        f"device {device!r}: none of the {without} Dask workers declares a GPU; start one for each "
        f"GPU, as `dask worker {scheduler_address(client)} --nthreads 1 --resources GPU=1`, or set device=auto or cpu"
    )


def fit_group(resources: Mapping[str, float], asked: int | None = None) -> int:
    """Return how many images a fit that asks for these Dask resources takes together: as asked, else by what it is on.

    One image keeps a processor busy, and is far from keeping a GPU busy.
    """
    return asked or (GPU_GROUP if GPU in resources else 1)


def able_workers(client: Client, resources: Mapping[str, float]) -> frozenset[str]:
    """Return the addresses of the workers that run tasks now and declare these resources, free or not."""
    return frozenset(
        address
        for address, worker in client.scheduler_info()["workers"].items()
        if worker["status"] == "running"
        and all(worker["resources"].get(name, 0) >= need for name, need in resources.items())
    )


def scheduler_address(client: Client) -> str:
    """Return the address of a client's scheduler, as error messages name it."""
    return str(client.scheduler.address) if client.scheduler else "its address"


@dataclass(frozen=True)
class LocalWorker:
    """One worker process of this machine, with one thread.

    Attributes
    ----------
    memory_limit
        In bytes; a worker that comes near it is ended before the machine swaps.
    gpu
        The GPU it owns, as ``CUDA_VISIBLE_DEVICES`` names it; None for a core.
    """

    memory_limit: int
    gpu: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What the process finds in its environment."""
        return {} if self.gpu is None else {"CUDA_VISIBLE_DEVICES": self.gpu}

    @property
    def resources(self) -> dict[str, float]:
        """The Dask resources it declares."""
        return {} if self.gpu is None else {GPU: 1.0}


def local_workers(count: int | None = None, *, device: str = "auto") -> tuple[LocalWorker, ...]:
    """Return the workers that this machine should have: one for each GPU if the device may be one, else for each core.

    Parameters
    ----------
    count
        Of workers, at most one for each GPU; None makes as many as there are GPUs or cores.
    device
        The settings' device.
    """
    gpus = visible_gpus() if device.partition(":")[0] in ("auto", "cuda") else ()
    owned: tuple[str | None, ...] = gpus[:count] if gpus else (None,) * (count or CPU_COUNT)
    memory_limit = int(MEMORY_SHARE * MEMORY_LIMIT / len(owned))
    return tuple(LocalWorker(memory_limit=memory_limit, gpu=gpu) for gpu in owned)


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that torch can use here, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if not (shutil.which("nvidia-smi") or Path("/dev/nvidiactl").exists()):
        return ()
    # In a process of its own: torch takes seconds, and this one does without it.
    count = "import torch; print(torch.cuda.device_count())"
    asked = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True)
    found = int(asked.stdout)
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(chosen.split(",") if chosen else map(str, range(found)))[:found]


def _local_cluster(workers: tuple[LocalWorker, ...]) -> SpecCluster:
    # LocalCluster's workers are all alike; these own different GPUs.
    scheduler = {"cls": Scheduler, "options": {"port": 0, **LOOPBACK_ONLY}}
    return SpecCluster(
        scheduler=scheduler,
        workers={number: {"cls": Nanny, "options": _nanny_options(worker)} for number, worker in enumerate(workers)},
        silence_logs=logging.WARN,
    )


def _nanny_options(worker: LocalWorker) -> dict[str, Any]:
    return {
        "nthreads": 1,
        "memory_limit": worker.memory_limit,
        "resources": worker.resources,
        "env": worker.environment,
        "preload": [PRELOAD],
        "silence_logs": logging.WARN,
        **LOOPBACK_ONLY,
    }
