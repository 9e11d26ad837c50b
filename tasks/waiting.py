"""Dask futures of a run: handing them out, and waiting for them as long as there is somebody who can do them."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from distributed import Client, Future, as_completed
from distributed.client import ClosedClientError

from tasks.cluster import ClusterError, able_workers, scheduler_address, scheduler_lost, tasks_left
from tasks.local_workers import GPU

Value = TypeVar("Value")

WORKERLESS_SECONDS = 300.0
"""Seconds that images wait for a worker that can take them: as long as a machine takes to be replaced."""

LOOKED_AFTER = 5.0
"""Seconds without a finished image after which the workers are counted."""

POLLED_EVERY = 0.02


def submitted(
    client: Client,
    function: Callable[..., Value],
    *arguments: Any,
    resources: Mapping[str, float] | None = None,
    workers: Collection[str] = (),
) -> "Future[Value]":
    """Have a worker call a function, once: what becomes of a failure is the caller's matter.

    Parameters
    ----------
    resources
        What a worker must declare to take it; by default nothing.
    workers
        Addresses of those that alone may take it, if not all may.

    Raises
    ------
    ClusterError
        If the scheduler went away.
    """
    try:
        return client.submit(
            function,
            *arguments,
            pure=False,
            retries=0,
            resources=dict(resources or {}) or None,
            workers=list(workers) or None,
        )
    except ClosedClientError as error:
        raise scheduler_lost(client) from error


def outcomes(
    client: Client,
    futures: "Iterable[Future[Value]]",
    *,
    resources: Mapping[str, float] | None = None,
    workers: Collection[str] = (),
) -> "Iterator[tuple[Future[Value], Value | BaseException]]":
    """Give each future as it is done, with its result, or the error that it came to.

    Dask itself would wait for a worker for ever, and for a scheduler that went away.

    Parameters
    ----------
    resources
        That the futures ask for.
    workers
        Addresses of those that alone may take the futures, if not all may: when these are gone, the rest is not given.

    Raises
    ------
    ClusterError
        If the scheduler went away, or no worker with these resources has been there for `WORKERLESS_SECONDS`.
    """
    # Results come along with their futures: asking each for its own takes several changes of thread, 3 ms.
    arrivals = as_completed(futures, loop=client.loop, with_results=True, raise_errors=False)
    # As long as somebody knows a future, a worker keeps its result.
    del futures
    seen = looked = time.monotonic()
    while left := arrivals.count():
        batch = arrivals.next_batch(block=False)
        for future, result in batch:
            if future.status == "cancelled":
                raise scheduler_lost(client, left=left)
            # Of a failed future come type, error and traceback.
            yield future, result if future.status == "finished" else result[1]
        now = time.monotonic()
        if batch:
            seen = looked = now
        elif now - looked > LOOKED_AFTER:
            looked = now
            able = workers_for(client, left, resources=resources or {})
            if workers and able.isdisjoint(workers):
                return
            seen = now if able else seen
            if now - seen > WORKERLESS_SECONDS:
                raise ClusterError(_deserted(client, left, resources=resources or {}))
        else:
            time.sleep(POLLED_EVERY)


def workers_for(client: Client, left: int, *, resources: Mapping[str, float]) -> frozenset[str]:
    """Return the addresses of the workers that can take the tasks that are left.

    Raises
    ------
    ClusterError
        If the scheduler went away.
    """
    try:
        return able_workers(client, resources)
    except ClusterError as error:
        raise scheduler_lost(client, left=left) from error


def _deserted(client: Client, left: int, *, resources: Mapping[str, float]) -> str:
    kind, option = ("running worker with a GPU", " --resources GPU=1") if GPU in resources else ("running worker", "")
    return (
        f"with {tasks_left(left)}, there has been no {kind} for {WORKERLESS_SECONDS:.0f} s: start one with "
        f"`dask worker {scheduler_address(client)} --nthreads 1{option}`"
        + (", or set device to cpu" if option else "")
        + ", and run again to go on"
    )
