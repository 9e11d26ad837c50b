"""The process that a command's workers are forked from: it loads Dask and the method while the rest comes up.

A worker that starts from nothing imports torch for seconds, and so does the next one, and each that takes the place of
a lost one. Forked from a process that has done so, it is there at once.
"""

import os
import signal
import sys
from multiprocessing import forkserver, resource_tracker

from tasks.local_workers import WORKER_ENVIRONMENT, may_have_gpus

MODULES = ("distributed", "ssdnet_core.groups", "tasks.inspection")

NOT_OF_LEAKS = "ignore::UserWarning:multiprocessing.resource_tracker"
"""Python would warn of the semaphores of a worker that was killed, on the terminal and long after it was dealt with."""

_started = False


def start_worker_template() -> None:
    """Start the process that this one's workers are forked from; returns at once. It ends with them and this one.

    Only on Linux, since the libraries of other systems do not bear a fork, and not where there may be a GPU: whether
    CUDA comes up in a forked worker has not been tried.
    """
    global _started
    if sys.platform != "linux" or may_have_gpus():
        return
    forkserver.set_forkserver_preload(list(MODULES))
    before = dict(os.environ)
    warnings = ",".join(filter(None, (before.get("PYTHONWARNINGS"), NOT_OF_LEAKS)))
    settings = {**WORKER_ENVIRONMENT, "PYTHONWARNINGS": warnings}
    os.environ.update(settings)
    # Before Ctrl-C is blocked: `forkserver` starts it otherwise, which unblocks Ctrl-C.
    resource_tracker.ensure_running()
    # Ctrl-C is for the command, which takes its workers down itself; a process that still imports would end with a
    # traceback. A blocked signal stays blocked in what is started and forked.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name in settings.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
    _started = True


def start_method() -> str:
    """Return how this process should start workers, as ``distributed.worker.multiprocessing-method`` names it."""
    return "forkserver" if _started else "spawn"
