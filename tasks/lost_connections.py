"""A logging filter that drops Dask's tracebacks of connections which the other side closed as it ended."""

import logging
from asyncio import CancelledError

from distributed.comm.core import CommClosedError


def is_no_lost_connection(record: logging.LogRecord) -> bool:
    """Return whether a record is worth showing; a filter for the loggers of :mod:`logging`."""
    # Cancelled is a client's attempt to connect again.
    return record.exc_info is None or not isinstance(record.exc_info[1], CommClosedError | CancelledError)
