"""Waiting for a Dask scheduler and its first worker, in a way that can be broken off.

Dask's client cannot be interrupted: it waits out its timeout, and for ever for a peer that connects and says nothing.
"""

import asyncio
from collections.abc import Coroutine
from threading import Event
from typing import Any

from distributed import Security, Status
from distributed.comm.core import Comm, connect
from distributed.core import send_recv

ASKED_EVERY = 0.1


def worker_joins(scheduler: str, *, timeout: float, unwanted: Event) -> bool:
    """Wait until a scheduler answers and has a running worker; return whether it came to that.

    Parameters
    ----------
    scheduler
        Address as ``tcp://host:8786`` or ``tls://host:8786``.
    timeout
        Seconds to wait for the scheduler, and as many again for the worker.
    unwanted
        Once it is set, the waiting ends within a moment.

    Raises
    ------
    OSError
        If the scheduler does not answer, or goes away.
    """
    return asyncio.run(_unless(unwanted, _worker_joins(scheduler, timeout)))


async def _unless(unwanted: Event, waiting: Coroutine[Any, Any, bool]) -> bool:
    task = asyncio.ensure_future(waiting)
    while not (task.done() or unwanted.is_set()):
        await asyncio.wait([task], timeout=ASKED_EVERY)
    task.cancel()  # Does nothing to a task that is done.
    try:
        return await task
    except asyncio.CancelledError:
        return False


async def _worker_joins(scheduler: str, timeout: float) -> bool:
    comm = await _answering(scheduler, timeout)
    try:
        async with asyncio.timeout(timeout):
            while not await _has_running_worker(comm):
                await asyncio.sleep(ASKED_EVERY)
    except TimeoutError:
        return False
    finally:
        comm.abort()
    return True


async def _answering(scheduler: str, timeout: float) -> Comm:
    arguments = Security().get_connection_args("client")
    try:
        # Dask bounds the connection, and says what kept it from coming about, but not the greeting that follows.
        async with asyncio.timeout(timeout + 1):
            return await connect(scheduler, timeout=timeout, **arguments)
    except TimeoutError as error:
        raise OSError("what listens there takes the connection and says nothing") from error
    except MemoryError as error:
        # Dask takes the first bytes for a length: those of a web server, such as its own dashboard, are 3 EiB.
        raise OSError("what listens there is no Dask scheduler") from error


async def _has_running_worker(comm: Comm) -> bool:
    known = await send_recv(comm, op="identity", n_workers=-1)
    return any(worker["status"] == Status.running.name for worker in known["workers"].values())
