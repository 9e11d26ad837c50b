"""The Dask workers of this machine: how many, what each of them owns, and the settings that they run under."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask.system import CPU_COUNT
from distributed import Nanny, Scheduler, SpecCluster
from distributed.system import MEMORY_LIMIT

from ssdnet_core.errors import DeviceUnavailableError

GPU = "GPU"
"""Dask resource of the workers that own a GPU."""

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

DASK_SETTINGS: dict[str, Any] = {
    # It listens on this machine alone, whatever the user's settings ask of a cluster.
    "distributed.comm.require-encryption": False,
    # A nanny starts its worker anew however often it dies. Dask ends the nanny of a worker that is away this long after
    # a loss, even if it came back and was lost once more: two deadly images in turn cost all workers.
    "distributed.deploy.lost-worker-timeout": "365 days",
    # An image that kills its worker is tried once more by the scheduler, then alone by us (tasks/dispatch.py).
    "distributed.scheduler.allowed-failures": 1,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.worker.daemon": True,
    # The allocator keeps a large fit's memory for the next one: a worker paused for it stays paused, with nothing to
    # spill.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    # Not a nanny's ``env``, which is set when the process runs already: the allocator reads these before.
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
}

# Nobody looks at the dashboard of a cluster that lives for one run. What Dask measures for it, its event loops awake 50
# times a second to see how late they are, took 6 % of two cores.
WITHOUT_MONITORING: dict[str, Any] = {
    "distributed.admin.system-monitor.interval": "60s",
    "distributed.admin.tick.interval": "1s",
    "distributed.worker.profile.enabled": False,
}

# No dashboard, since nobody is told its address; the server that it is part of would listen everywhere.
LOOPBACK_ONLY = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}

WORKERS_A_GPU = 3
"""Workers that share a GPU by default: it idles while a single one reads, judges and writes (docs/PERFORMANCE.md)."""

CORES_A_GPU_WORKER, MEMORY_A_GPU_WORKER = 4, 4 * 2**30
"""Least for each worker; with less, fewer share a GPU. A worker's peak with groups of 128 was 2.6 GiB."""

MEMORY_SHARE = 0.8
"""Share of the memory of this machine, or its container, that all workers together may take."""


def dask_variable(setting: str) -> str:
    """Return the environment variable that sets one of Dask's settings."""
    return "DASK_" + setting.upper().replace(".", "__").replace("-", "_")


def dask_environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return settings of Dask as environment variables; Dask reads each as a Python literal, else as text."""
    return {dask_variable(name): str(value) for name, value in settings.items()}


@dataclass(frozen=True)
class LocalWorker:
    """One worker process of this machine, with one thread.

    Attributes
    ----------
    memory_limit
        In bytes; a worker that comes near it is ended before the machine swaps.
    gpu
        The GPU it owns or shares, as ``CUDA_VISIBLE_DEVICES`` names it; None for a core.
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


def local_workers(
    count: int | None = None, *, device: str = "auto", images: int | None = None
) -> tuple[LocalWorker, ...]:
    """Return the workers that this machine should have: a few for each GPU if the device may be one, else one a core.

    Parameters
    ----------
    count
        Number of workers, which get the GPUs in turn. None makes up to three a GPU, each with four cores and 4 GiB,
        but at least one; without a GPU, one a core.
    device
        The settings' device.
    images
        To inspect, if that is known: there are no more workers than images.

    Raises
    ------
    DeviceUnavailableError
        If the device is ``cuda`` or ``mps``, and this machine has none.
    """
    kind = device.partition(":")[0]
    gpus = visible_gpus() if kind in ("auto", "cuda") else ()
    if (kind == "cuda" and not gpus) or (kind == "mps" and sys.platform != "darwin"):
        raise DeviceUnavailableError(
            f"device {device!r}: torch finds none on this machine; set device to auto or cpu, or name the Dask "
            "scheduler of machines that have one"
        )
    number = count or _workers_on(len(gpus)) or CPU_COUNT
    if images is not None:
        number = max(1, min(number, images))
    owned = [gpus[worker % len(gpus)] if gpus else None for worker in range(number)]
    memory_limit = int(MEMORY_SHARE * MEMORY_LIMIT / len(owned))
    return tuple(LocalWorker(memory_limit=memory_limit, gpu=gpu) for gpu in owned)


def _workers_on(gpus: int) -> int:
    if not gpus:
        return 0
    fed = min(CPU_COUNT // CORES_A_GPU_WORKER, int(MEMORY_SHARE * MEMORY_LIMIT) // MEMORY_A_GPU_WORKER)
    return gpus * max(1, min(WORKERS_A_GPU, fed // gpus))


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that torch can use here, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if not may_have_gpus():
        return ()
    # In a process of its own: torch takes seconds, and this one does without it.
    count = "import torch; print(torch.cuda.device_count())"
    asked = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True)
    found = int(asked.stdout)
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(chosen.split(",") if chosen else map(str, range(found)))[:found]


def may_have_gpus() -> bool:
    """Whether there is a sign of a GPU; torch, which takes seconds, is not asked."""
    return bool(shutil.which("nvidia-smi")) or Path("/dev/nvidiactl").exists()


def local_cluster(workers: tuple[LocalWorker, ...]) -> SpecCluster:
    """Start these workers, and a scheduler for them that listens to this machine alone."""
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
        # The whole environment: the process that workers are forked from was started with an earlier one.
        "env": {**os.environ, **worker.environment},
        "preload": [PRELOAD],
        "silence_logs": logging.WARN,
        **LOOPBACK_ONLY,
    }
