"""A run's log, as an operator reads it at three in the morning: a few lines a batch, not one for each image."""

import logging

from flows import events
from flows.progress import Observer
from tasks.nights import night_of
from tasks.records import ImageRecord
from tasks.words import counted

MOST_LOGGED = 50
"""Failures of a batch that are written down, and as many warnings; the others are counted."""

MOST_FAILURE_EVENTS = 20
"""Of a batch; a summary follows. The server's queue drops events beyond some ten thousand."""

PARTS, LEAST_STEP = 10, 25
"""Counts are written after each tenth of the images, but not for fewer than 25."""


class RunLog(Observer):
    """An observer that writes to a run's log, and tells failed images as events.

    At the end of its block, whether the run succeeds or fails, it tells how many failed, if not each was told.

    Parameters
    ----------
    batch
        Name of the batch.
    logger
        Of the run.
    """

    def __init__(self, batch: str, logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]") -> None:
        night = night_of(batch)
        self._batch = batch
        self._name = f"line {night.line}, batch {batch}" if night else f"batch {batch}"
        self._logger = logger
        self._todo = self._done = self._defective = self._failed = self._warned = 0

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *failure: object) -> None:
        if self._failed > MOST_FAILURE_EVENTS:
            events.images_failed(self._batch, failed=self._failed, told=MOST_FAILURE_EVENTS)

    def stage(self, name: str) -> None:
        """Write down that another stage begins."""
        self._logger.info("%s: %s", self._name, name)

    def begin(self, *, images: int, settled: int) -> None:
        """Write down how much there is to do."""
        self._todo = images - settled
        self._logger.info("%s: %s, %d done before", self._name, counted(images, "image"), settled)

    def inspected(self, record: ImageRecord) -> None:
        """Count an image; write down what is wrong with it, and the counts now and then."""
        self._done += 1
        self._defective += record.defective
        if record.failed:
            self._failed += 1
            self._bounded(logging.ERROR, self._failed, key=record.key, text=f"not inspected: {record.error}")
            if self._failed <= MOST_FAILURE_EVENTS:
                events.image_failed(self._batch, record)
        elif record.warnings:
            self._warned += 1
            self._bounded(logging.WARNING, self._warned, key=record.key, text="; ".join(record.warnings))
        step = max(LEAST_STEP, self._todo // PARTS)
        if self._done % step == 0 or self._done == self._todo:
            self._logger.info(
                "%s: %d of %d inspected, %d defective, %d failed",
                *(self._name, self._done, self._todo, self._defective, self._failed),
            )

    def _bounded(self, level: int, count: int, *, key: str, text: str) -> None:
        if count <= MOST_LOGGED:
            self._logger.log(level, "%s, image %s: %s", self._name, key, text)
        elif count == MOST_LOGGED + 1:
            self._logger.log(level, "%s: further images of this kind are counted and not listed here", self._name)
