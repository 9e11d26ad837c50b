"""The progress of a run on its page in the Prefect UI."""

import threading
from contextvars import copy_context
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_logger

from flows.progress import Observer
from tasks.records import ImageRecord

UPDATE_SECONDS = 2.0
"""Seconds between updates, at least; each is a request and an event."""

UPDATE_PERCENT = 0.5
"""Percent between updates, at least: a run has at most 200 of them, however long it takes."""


class ProgressArtifact(Observer):
    """An observer that moves a bar on the run's page, from a thread of its own: a slow server slows no batch.

    Parameters
    ----------
    description
        Shown above the bar.
    """

    def __init__(self, description: str) -> None:
        self._description = description
        self._images = self._done = 0
        self._finished = threading.Event()
        # The thread's artifact belongs to the run whose context it is given.
        self._thread = threading.Thread(target=copy_context().run, args=(self._keep_moving,), daemon=True)

    def __enter__(self) -> "ProgressArtifact":
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._finished.set()
        self._thread.join(timeout=10)

    def begin(self, *, images: int, settled: int) -> None:
        """Set how much there is to do."""
        self._images, self._done = images, settled

    def inspected(self, record: ImageRecord) -> None:
        """Count one more image."""
        self._done += 1

    def _keep_moving(self) -> None:
        try:
            shown = 0.0
            # Its type allows for an awaitable, which it is only inside a running event loop.
            artifact = cast(UUID, create_progress_artifact(progress=shown, description=self._description))
            while not self._finished.wait(UPDATE_SECONDS):
                if self._percent() >= shown + UPDATE_PERCENT:
                    shown = self._percent()
                    update_progress_artifact(artifact, progress=shown)
            if self._percent() > shown:
                update_progress_artifact(artifact, progress=self._percent())
        except Exception:  # noqa: BLE001 - whatever ails the server, the batch goes on
            get_logger("ssdnet").warning("the run's page shows no progress", exc_info=True)

    def _percent(self) -> float:
        return 100.0 * self._done / self._images if self._images else 0.0
