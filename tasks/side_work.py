"""Jobs beside the fit: while a group is fitted, the next one is read and the one before is written."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class SideWork:
    """A few threads for the length of a task; leaving the block waits for all jobs.

    Reading, decoding and compressing release the interpreter's lock.

    Parameters
    ----------
    threads
        Their number; with none, each job is done at once by who starts it.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="side-work") if threads else None
        self._lock = Lock()
        self._seconds = 0.0

    def __enter__(self) -> "SideWork":
        return self

    def __exit__(self, *failure: object) -> None:
        if self._pool:
            self._pool.shutdown()

    @property
    def seconds(self) -> float:
        """CPU seconds of the jobs done so far."""
        with self._lock:
            return self._seconds

    def start(
        self, job: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> "Future[Result]":
        """Begin a job; its error is raised by the future's ``result()``, or here without threads."""

        def timed() -> Result:
            started = time.thread_time()
            try:
                return job(*arguments, **options)
            finally:
                with self._lock:
                    self._seconds += time.thread_time() - started

        if self._pool:
            return self._pool.submit(timed)
        done: Future[Result] = Future()
        done.set_result(timed())
        return done
