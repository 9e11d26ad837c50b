"""The address of the Dask scheduler that is to take the fits: given, named by the environment, or none."""

import os
from urllib.parse import urlsplit

from ssdnet_core.errors import InvalidConfigError

PROTOCOLS = ("tcp", "tls", "ucx", "ws", "wss")
"""Of a scheduler's address."""

SCHEDULER_VARIABLE = "SSDNET_SCHEDULER"
"""Environment variable with the address of the scheduler to use where none is given."""


def scheduler_to_use(scheduler: str | None, *, workers: int | None = None) -> str | None:
    """Return the scheduler's address: the one given, or that of the environment; None for a cluster on this machine.

    Parameters
    ----------
    workers
        Number asked for on this machine, which a scheduler's own workers leave no use for.

    Raises
    ------
    InvalidConfigError
        If it is no address of a scheduler, or a number of workers is given besides.
    """
    address = scheduler or os.environ.get(SCHEDULER_VARIABLE) or None
    if address is None:
        return None
    if workers is not None:
        source = "which was given" if scheduler else f"which {SCHEDULER_VARIABLE} names"
        raise InvalidConfigError(
            f"workers = {workers} are started on this machine, but the scheduler {address!r}, {source}, has its own: "
            "leave out one of the two"
        )
    if wrong := _wrong_with(address):
        source = "" if scheduler else f", which {SCHEDULER_VARIABLE} names"
        raise InvalidConfigError(f"scheduler {address!r}{source}: {wrong}: give tcp://host:8786 or tls://host:8786")
    return address


def _wrong_with(address: str) -> str:
    """Return why there can be no scheduler at an address, for which Dask would wait a minute; empty if there can be."""
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        if parts.scheme not in PROTOCOLS:
            return f"{parts.scheme}:// is no protocol of Dask's"
        if not parts.hostname:
            return "it names no host"
        port = parts.port
    except ValueError as error:
        return str(error)
    return "it names no port" if port is None else "" if port else "0 is no port to connect to"
