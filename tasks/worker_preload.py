"""What a worker process of the local cluster does first (a Dask preload module)."""

import signal
import threading
from importlib import import_module
from typing import Any


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C to the command, and load the method while the first images are on their way.

    A terminal sends the interrupt to all processes; the command takes its workers down itself.
    """
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=import_module, args=("ssdnet_core.groups",), daemon=True).start()
