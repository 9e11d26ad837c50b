"""The scheduled job: last night's images of one line."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect import flow, runtime

from flows.inspection import Outcome, run_batch
from flows.monitoring import tell_of_night
from flows.trends import update_trends
from ssdnet_core.config import Config
from ssdnet_core.errors import InvalidConfigError
from tasks.cluster import Workers
from tasks.discovery import split_input
from tasks.storage import Storage


@flow(name="nightly", flow_run_name="nightly {line}", persist_result=False)
def nightly(
    line: str,
    images: str,
    results: str,
    timezone: str = "UTC",
    day: date | None = None,
    config: Config = Config(),  # noqa: B008 - frozen, and the UI shows it as the form's defaults
    scheduler: str | None = None,
    workers: int | None = None,
) -> Outcome:
    """Inspect the images that a line took in one day: ``IMAGES/LINE/YYYY-MM-DD``.

    Args:
        line: Name of the line (camera): the folder below images.
        images: Folder or s3://bucket/prefix of all lines.
        results: Folder or s3://bucket/prefix; the batch is named LINE-YYYY-MM-DD.
        timezone: The site's time zone, as Europe/Madrid.
        day: The day to inspect; by default the one before this run's scheduled start, in the site's time zone.
        config: Settings of the method.
        scheduler: Address of a Dask scheduler, tcp://host:8786; by default workers are started on this machine.
        workers: Number of workers started on this machine; by default one for each core.
    """
    night = day or day_before(runtime.flow_run.scheduled_start_time or datetime.now(UTC), timezone)
    source, pattern = split_input(f"{images.rstrip('/')}/{line}/{night.isoformat()}")
    # Not the inspect flow: one run a night, with everything on its page.
    with Workers(scheduler, workers=workers) as crew:
        outcome = run_batch(
            source,
            Storage(results),
            pattern=pattern,
            batch=f"{line}-{night.isoformat()}",
            config=config,
            crew=crew,
            retry_failed=False,
        )
    tell_of_night(line, outcome.manifest.batch, update_trends(Storage(results), line))
    return outcome


def day_before(start: datetime, timezone: str) -> date:
    """Return the calendar day before a moment, both in the site's time zone, whatever its clocks did that night.

    Raises
    ------
    InvalidConfigError
        If there is no such time zone.
    """
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidConfigError(f"there is no time zone {timezone!r}: use a name as Europe/Madrid") from error
    return start.astimezone(zone).date() - timedelta(days=1)
