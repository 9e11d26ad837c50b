"""The workers that take the fits of a run: handing futures to them, and waiting as long as somebody can do them."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from distributed import CancelledError, Client, Future, as_completed
from distributed.client import ClosedClientError

from tasks.cluster import ClusterError, able_workers, scheduler_address, scheduler_lost
from tasks.local_workers import GPU

Value = TypeVar("Value")
Work = TypeVar("Work")

WORKERLESS_SECONDS = 300.0
"""Seconds that images wait for a worker that can take them: as long as a machine takes to be replaced."""

LOOKED_AFTER = 5.0
"""Seconds without a finished image after which the workers are counted."""

POLLED_EVERY = 0.02


@dataclass(frozen=True)
class FitWorkers:
    """Those workers of a cluster that have what a fit asks for.

    Attributes
    ----------
    client
        Of the cluster.
    resources
        What a worker must declare to take a fit, as :func:`tasks.cluster.fit_resources` says; by default nothing.
    """

    client: Client
    resources: Mapping[str, float] = field(default_factory=dict)

    def submitted(
        self, function: Callable[..., Value], *arguments: Any, workers: Collection[str] = ()
    ) -> "Future[Value]":
        """Have a worker call a function, without Dask's retries: the caller deals with failures.

        Parameters
        ----------
        workers
            Addresses of those that alone may take it, if not all may.

        Raises
        ------
        ClusterError
            If the scheduler went away.
        """
        try:
            return self.client.submit(
                function,
                *arguments,
                pure=False,
                retries=0,
                resources=dict(self.resources) or None,
                workers=list(workers) or None,
            )
        except ClosedClientError as error:
            raise scheduler_lost(self.client) from error

    def outcomes(
        self, waiting: "dict[Future[Value], Work]", *, workers: Collection[str] = ()
    ) -> "Iterator[tuple[Work, Value | BaseException]]":
        """Give the work of each future as it is done, with its result, or the error that it came to.

        Dask itself would wait for a worker for ever, and for a scheduler that went away.

        Parameters
        ----------
        waiting
            What each future is to do. It is taken out as it is given: as long as somebody holds a future, a worker
            keeps its result, and Dask repeats it if that worker dies.
        workers
            Addresses of the only workers to take the futures, by default all; once they are gone, no more is given.

        Raises
        ------
        ClusterError
            If the scheduler went away, or no worker that is able has been there for `WORKERLESS_SECONDS`.
        """
        # Results come along with their futures: asking each for its own takes several changes of thread, 3 ms.
        arrivals = as_completed(waiting, loop=self.client.loop, with_results=True, raise_errors=False)
        seen = looked = time.monotonic()
        while arrivals.count():
            batch = arrivals.next_batch(block=False)
            for future, result in batch:
                # Not by the future's status: it is lost again if the worker has died since its result arrived.
                match result:
                    case CancelledError():
                        raise scheduler_lost(self.client)
                    case (type(), BaseException() as error, _):
                        yield waiting.pop(future), error
                    case _:
                        yield waiting.pop(future), result
            now = time.monotonic()
            if batch:
                seen = looked = now
            elif now - looked > LOOKED_AFTER:
                looked = now
                # Dask tells nothing of a future whose result was on its way when the scheduler went away.
                if any(future.status == "cancelled" for future in waiting):
                    raise scheduler_lost(self.client)
                able = self.able()
                if workers and able.isdisjoint(workers):
                    return
                seen = now if able else seen
                if now - seen > WORKERLESS_SECONDS:
                    raise ClusterError(self._deserted())
            else:
                time.sleep(POLLED_EVERY)

    def able(self) -> frozenset[str]:
        """Return the addresses of those that are there now, busy or not.

        Raises
        ------
        ClusterError
            If the scheduler went away.
        """
        return able_workers(self.client, self.resources)

    def _deserted(self) -> str:
        if self.client.cluster is not None:
            return "this machine's own workers are gone for good: run again to go on"
        on_gpu = GPU in self.resources
        kind, option = ("running worker with a GPU", " --resources GPU=1") if on_gpu else ("running worker", "")
        return (
            f"there has been no {kind} for {WORKERLESS_SECONDS:.0f} s: start one with "
            f"`dask worker {scheduler_address(self.client)} --nthreads 1{option}`"
            + (", or set device to cpu" if option else "")
            + ", and run again to go on"
        )
