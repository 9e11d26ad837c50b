"""The Dask workers that fit: a cluster that is there, or one made on this machine for the length of a run."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import dask
import psutil
from distributed import Client, LocalCluster

from ssdnet_core.errors import SsdnetError
from tasks.certificates import check_certificates

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
SETTINGS = {
    "distributed.scheduler.allowed-failures": 1,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.worker.daemon": True,
    "distributed.worker.memory.terminate": 0.95,
    # Not a nanny's ``env``, which is set when the process runs already: the allocator reads these before.
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
}

MEMORY_SHARE = 0.8
"""Of the machine's memory, for all workers together."""


class ClusterError(SsdnetError, OSError):
    """The Dask scheduler cannot be reached, or has no worker."""


class Workers:
    """The workers of a run, connected to when first needed: a batch that is done already needs none.

    Parameters
    ----------
    scheduler, workers
        As for :func:`dask_client`.
    """

    def __init__(self, scheduler: str | None = None, *, workers: int | None = None) -> None:
        self._connection = dask_client(scheduler, workers=workers)
        self._stack = ExitStack()
        self._client: Client | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    @property
    def client(self) -> Client:
        """The connection, made at the first use."""
        if self._client is None:
            self._client = self._stack.enter_context(self._connection)
        return self._client


@contextmanager
def dask_client(scheduler: str | None = None, *, workers: int | None = None, timeout: float = 60.0) -> Iterator[Client]:
    """Connect to the workers.

    Parameters
    ----------
    scheduler
        Address as ``tcp://host:8786``, or ``tls://host:8786`` with Dask's settings for certificates; None makes a
        cluster of processes on this machine and takes it down again.
    workers
        Processes of the local cluster, each with one thread and one core; None makes one for each core.
    timeout
        Seconds to wait for the scheduler and its first worker.

    Raises
    ------
    ClusterError
        If the scheduler does not answer, or no worker joins it.
    CertificateError
        If the scheduler's address and Dask's settings for encryption do not fit each other.
    """
    if scheduler is None:
        with (
            dask.config.set(SETTINGS),
            _local_cluster(workers or available_cores()) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    check_certificates(scheduler)
    try:
        client = Client(scheduler, timeout=timeout)
    except OSError as error:
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


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _local_cluster(workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        memory_limit=int(MEMORY_SHARE * psutil.virtual_memory().total / workers),
        # An address of its own choice: two runs on one machine must not fight for the dashboard's port.
        dashboard_address=":0",
        preload=["tasks.worker_preload"],
    )
