"""The Dask workers that fit: a cluster that is there, or one made on this machine for the length of a run.

A worker that owns or shares a GPU declares the resource ``GPU=1`` and has one thread: it does one fit at a time.
"""

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Event

import dask
from distributed import Client

from ssdnet_core.errors import InvalidConfigError, SsdnetError
from tasks.certificates import RENEW, CertificateError, check_certificates, has_expired
from tasks.first_worker import worker_joins
from tasks.local_workers import DASK_SETTINGS, GPU, WITHOUT_MONITORING, LocalWorker, local_cluster, local_workers
from tasks.lost_connections import is_no_lost_connection
from tasks.scheduler_address import scheduler_to_use
from tasks.worker_template import start_method

GPU_GROUP = 128
"""Images that a GPU fits together where nothing else is asked for."""


class ClusterError(SsdnetError, OSError):
    """The Dask scheduler cannot be reached, or has no worker."""


class Cluster:
    """The cluster of a run, connected to when first needed: a batch that is done already needs none.

    Leaving the block ends a wait for a scheduler or its workers, so that a run can be stopped at once.

    Parameters
    ----------
    scheduler, workers, device
        As for :func:`dask_client`; where no address is given, that of ``SSDNET_SCHEDULER`` counts.
    group
        Images that a worker fits together; None as :func:`fit_group` says.

    Raises
    ------
    InvalidConfigError
        If the scheduler's address is invalid, workers are given too, or the device is ``cuda:1`` or higher.
    """

    def __init__(
        self,
        scheduler: str | None = None,
        *,
        workers: int | None = None,
        device: str = "auto",
        group: int | None = None,
    ) -> None:
        address = scheduler_to_use(scheduler, workers=workers)
        check_device(device)
        self.group = group
        self._left = Event()
        self._connect = partial(dask_client, address, workers=workers, device=device, unwanted=self._left)
        self._stack = ExitStack()
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="workers")
        self._client: Future[Client] | None = None

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *failure: object) -> None:
        # First: the thread that is to close may be waiting for the scheduler.
        self._left.set()
        # In the thread that opened it: a Dask client is closed in the context that it was made in.
        self._starter.submit(self._stack.close).result()
        self._starter.shutdown()

    def start(self, *, images: int | None = None) -> "Future[Client]":
        """Begin to connect, in a thread beside the caller: processes take seconds to come up.

        Parameters
        ----------
        images
            Of the run; no more workers than that are made on this machine.
        """
        if self._client is None:
            self._client = self._starter.submit(self._stack.enter_context, self._connect(images=images))
        return self._client

    @property
    def client(self) -> Client:
        """The connection; waits for it, and raises what kept it from coming about."""
        return self.start().result()


@contextmanager
def dask_client(
    scheduler: str | None = None,
    *,
    workers: int | None = None,
    device: str = "auto",
    images: int | None = None,
    timeout: float = 60.0,
    unwanted: Event | None = None,
) -> Iterator[Client]:
    """Connect to the workers.

    Parameters
    ----------
    scheduler
        Address as ``tcp://host:8786``, or ``tls://host:8786`` with Dask's settings for certificates; None makes a
        cluster of processes on this machine and takes it down again.
    workers, device, images
        For the cluster on this machine, as for :func:`tasks.local_workers.local_workers`.
    timeout
        Seconds to wait for the scheduler, and as many again for its first worker.
    unwanted
        Once set, it ends the wait for a scheduler and its worker; making workers on this machine goes on.

    Raises
    ------
    ClusterError
        If the scheduler does not answer or gets no worker, ``unwanted`` is set first, or no worker starts here.
    CertificateError
        If the scheduler's address and Dask's settings for encryption do not fit each other, or a certificate expired.
    DeviceUnavailableError
        If the workers are to be made on this machine, which has no such device.
    """
    connection = (
        _connected(scheduler, timeout=timeout, unwanted=unwanted or Event())
        if scheduler
        else _made_here(local_workers(workers, device=device, images=images))
    )
    with _no_traces_of_lost_connections(), connection as client:
        yield client


@contextmanager
def _made_here(workers: tuple[LocalWorker, ...]) -> Iterator[Client]:
    settings = {**DASK_SETTINGS, **WITHOUT_MONITORING, "distributed.worker.multiprocessing-method": start_method()}
    with dask.config.set(settings), ExitStack() as stack:
        try:
            client = stack.enter_context(Client(stack.enter_context(local_cluster(workers))))
        # From a setting of the user's that Dask cannot use it raises any of these.
        except (ImportError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ClusterError(
                f"Dask's workers on this machine did not start: {error}. If that names a setting, correct it in the "
                "environment (DASK_...) or in Dask's configuration files"
            ) from error
        yield client


@contextmanager
def _connected(scheduler: str, *, timeout: float, unwanted: Event) -> Iterator[Client]:
    check_certificates(scheduler)
    try:
        joined = worker_joins(scheduler, timeout=timeout, unwanted=unwanted)
        client = Client(scheduler, timeout=timeout) if joined else None
    except OSError as error:
        if has_expired(error):
            raise CertificateError(
                f"the certificate of the Dask scheduler at {scheduler} has expired: {RENEW}"
            ) from error
        raise ClusterError(
            f"no Dask scheduler answers at {scheduler} within {timeout:.0f} s (is it tcp:// or tls://?): {error}"
        ) from error
    if client is None:
        if unwanted.is_set():
            raise ClusterError(f"the run ended before the Dask scheduler at {scheduler} had a worker")
        raise ClusterError(
            f"the Dask scheduler at {scheduler} has no worker after {timeout:.0f} s: start one with "
            f"`dask worker {scheduler} --nthreads 1`"
        )
    with client:
        yield client


@contextmanager
def _no_traces_of_lost_connections() -> Iterator[None]:
    # The error of the run says that the connection broke; Dask's client and tornado would also print tracebacks.
    logs = [logging.getLogger(name) for name in ("tornado.application", "distributed.client")]
    for log in logs:
        log.addFilter(is_no_lost_connection)
    try:
        yield
    finally:
        for log in logs:
            log.removeFilter(is_no_lost_connection)


def check_device(device: str) -> None:
    """Raise :class:`InvalidConfigError` if the settings' device is ``cuda:1`` or higher, which no worker has."""
    kind, _, number = device.partition(":")
    if kind == "cuda" and number not in ("", "0"):
        raise InvalidConfigError(
            f"device {device!r}: a worker owns one GPU, which is its first; set device to cuda, and choose among a "
            "machine's GPUs with CUDA_VISIBLE_DEVICES where its workers start"
        )


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
        If the device is ``cuda`` and no worker declares a GPU, or the scheduler went away.
    """
    kind = device.partition(":")[0]
    if kind not in ("auto", "cuda"):
        return {}
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
    """Return how many images a fit takes together: ``asked``, or else `GPU_GROUP` if it asks for a GPU, and 1 if not.

    One image keeps a processor busy, and is far from keeping a GPU busy.
    """
    return asked or (GPU_GROUP if GPU in resources else 1)


def able_workers(client: Client, resources: Mapping[str, float]) -> frozenset[str]:
    """Return the addresses of the workers that run tasks now and declare these resources, free or not.

    Raises
    ------
    ClusterError
        If the scheduler went away.
    """
    # A client that has lost its scheduler says nothing: it gives what it knew last, or after a while nothing at all.
    known = client.scheduler_info().get("workers") if client.status == "running" else None
    if known is None or client.status != "running":
        raise scheduler_lost(client)
    return frozenset(
        address
        for address, worker in known.items()
        if worker["status"] == "running"
        and all(worker["resources"].get(name, 0) >= need for name, need in resources.items())
    )


def scheduler_lost(client: Client) -> ClusterError:
    """Return the error that ends a run whose scheduler went away."""
    return ClusterError(
        f"the Dask scheduler at {scheduler_address(client)} went away: start it, and run again to go on"
    )


def scheduler_address(client: Client) -> str:
    """Return the address of a client's scheduler, as error messages name it."""
    return str(client.scheduler.address) if client.scheduler else "its address"
