"""What a worker process of the local cluster does first (a Dask preload module)."""

import logging
import signal
import threading
from importlib import import_module
from typing import Any

from tasks.local_workers import GPU
from tasks.lost_connections import is_no_lost_connection


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C to the command, and load the method while the first images are on their way.

    A terminal sends the interrupt to all processes; the command takes its workers down itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A heartbeat under way when the run ends fails: every third run would close with a page of traceback.
    logging.getLogger("distributed.worker").addFilter(is_no_lost_connection)
    owns_gpu = GPU in worker.state.total_resources
    threading.Thread(target=_load_method, kwargs={"open_gpu": owns_gpu}, daemon=True).start()


def _load_method(*, open_gpu: bool) -> None:
    import_module("ssdnet_core.groups")
    if open_gpu:
        # Its first use takes seconds.
        import torch

        torch.zeros(1, device="cuda")
