"""How a run is watched from outside: its page in the Prefect UI, its log, and the events that automations act on.

None of it may fail a batch: what the Prefect server does not take is missing there, and the run goes on.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.logging import get_run_logger
from prefect.settings import get_current_settings

from flows import events
from flows.embedded import HEARTBEAT
from flows.outcome import Outcome
from flows.progress import observed_by
from flows.progress_artifact import ProgressArtifact
from flows.run_log import RunLog
from flows.run_page import show_batch, show_metrics, show_trends
from ssdnet_core.errors import SsdnetError
from tasks.alarms import FAILED_IMAGES, OUT_OF_THE_ORDINARY, note_raised, was_raised
from tasks.category_metrics import Evaluation
from tasks.nights import Night
from tasks.storage import Storage
from tasks.trends import Trends, remarks


@contextmanager
def watched(batch: str) -> Iterator[None]:
    """Show and tell in its flow run how a batch comes along."""
    logger = get_run_logger()
    heartbeat = get_current_settings().flows.heartbeat_frequency
    if heartbeat is None or heartbeat > HEARTBEAT:
        logger.info(
            "a heartbeat every %s s: infra/automations.py would take this run for dead, set %s=%d",
            *(heartbeat, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY", HEARTBEAT),
        )
    with RunLog(batch, logger) as log, ProgressArtifact(batch) as bar, observed_by(bar), observed_by(log):
        yield


def tell_of_batch(outcome: Outcome, *, sealed: bool) -> None:
    """Put a finished batch on its run's page; if this run ``sealed`` it, tell that too.

    If too many images failed, an alarm is raised once for these results, even if an earlier run sealed them and died
    before this.
    """
    logger, seal = get_run_logger(), outcome.seal
    logger.info(
        "batch %s: sealed with %d images, %d defective, %d not inspected: %s",
        *(seal.batch, seal.images, seal.defective, seal.failed, outcome.report),
    )
    folder = outcome.folder
    alarm = events.has_many_failed(seal) and not was_raised(folder, FAILED_IMAGES, digest=seal.digest)
    with harmless():
        if sealed:
            events.batch_sealed(seal, folder=folder.address, report=outcome.report)
        if alarm:
            events.many_failed(seal)
        show_batch(outcome)
        # Noted only after the page, which fails if the server is away: a queued event is lost without an error.
        if alarm:
            note_raised(folder, FAILED_IMAGES, digest=seal.digest)


def tell_of_metrics(batch: str, evaluation: Evaluation) -> None:
    """Put the metrics of a batch on its run's page."""
    with harmless():
        show_metrics(batch, evaluation)


def tell_of_standstill(night: Night) -> None:
    """Tell that a line has no images of a night."""
    with harmless():
        events.line_stood_still(night)


def tell_of_night(night: Night, batch: str, *, results: Storage, trends: Trends, newest: bool) -> None:
    """Tell what is out of the ordinary about a night and, if it is the ``newest``, that its line is up to date.

    Only the newest raises an alarm, once for its results: not again when it is run again, but even if an earlier run
    sealed it and failed before this.
    """
    row = next((row for row in trends.rows if row.figures.batch == batch), None)
    if row is None:
        return  # Another run broke its seal meanwhile, and will tell.
    for remark in remarks(row):
        get_run_logger().warning("line %s, batch %s: %s", night.line, batch, remark)
    folder, digest = results.below(batch), row.figures.digest
    alarm = newest and (row.jump or row.drift) and not was_raised(folder, OUT_OF_THE_ORDINARY, digest=digest)
    with harmless():
        events.night_compared(row, alarm=alarm)
        if newest:
            events.line_up_to_date(night)
        show_trends(night.line, row, trends=trends)
        if alarm:
            note_raised(folder, OUT_OF_THE_ORDINARY, digest=digest)


@contextmanager
def harmless() -> Iterator[None]:
    """Tell of any error in the block in the run's log, and go on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever ails the server, the batch is sealed
        get_run_logger().warning(
            "not all of this run is shown and told: %s",
            error,
            exc_info=not isinstance(error, httpx.TransportError | SsdnetError),
        )
