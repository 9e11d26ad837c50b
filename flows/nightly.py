"""The scheduled job: last night's images of one line."""

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta

from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.batch_run import run_batch
from flows.evaluation import measure
from flows.events import NO_IMAGES
from flows.monitoring import tell_of_night, tell_of_standstill
from flows.outcome import Outcome
from flows.parameters import GroupSize, OptionalText, quoted, require_address
from flows.progress import observer
from ssdnet_core.config import Config
from ssdnet_core.errors import InvalidConfigError, SsdnetError
from tasks.cluster import Cluster
from tasks.nights import DEFAULT_ZONE, Night, count_images, day_before, days_on_storage
from tasks.storage import Storage
from tasks.trend_page import write_trends
from tasks.trends import Trends
from tasks.truth import find_truth


def _run_name() -> str:
    parameters = runtime.flow_run.parameters
    try:
        day = parameters.get("day") or day_before(runtime.flow_run.scheduled_start_time, parameters["timezone"])
    except InvalidConfigError:
        return f"nightly {parameters['line']}"  # Raised here, Prefect would lose it; the flow itself raises it again.
    return f"nightly {Night(parameters['line'], date.fromisoformat(str(day)))}"


@flow(name="nightly", flow_run_name=_run_name, persist_result=False)
def nightly(  # noqa: PLR0917 - Prefect calls by name
    line: str,
    images: str,
    results: str,
    timezone: OptionalText = DEFAULT_ZONE,
    day: date | None = None,
    masks: OptionalText = None,
    truth: OptionalText = None,
    config: Config = Config(),  # noqa: B008 - frozen, and the UI shows it as the form's defaults
    scheduler: OptionalText = None,
    workers: int | None = None,
    group: GroupSize = None,
    refit: bool = False,
) -> Outcome | State[None]:
    """Inspect the images that a line took in one day: `IMAGES/LINE/YYYY-MM-DD`.

    A day without images ends as completed, in a state named NoImages, and leaves no batch; a line without a folder
    below the images fails. A night that cannot be measured, as with a wrong address of the truth, fails only once it
    is sealed and compared with the nights before it.

    Args:
        line: Name of the line (camera): the folder below images.
        images: Folder or s3://bucket/prefix of all lines.
        results: Folder or s3://bucket/prefix; the batch is named LINE-YYYY-MM-DD.
        timezone: The site's time zone, as Europe/Madrid.
        day: The day to inspect; by default the one before this run's scheduled start, in the site's time zone.
        masks: Folder or s3://bucket/prefix of all lines' masks, MASKS/LINE/YYYY-MM-DD/NAME: black is not inspected.
        truth: Folder or s3://bucket/prefix of all lines' truth, TRUTH/LINE/YYYY-MM-DD/NAME.png, white where defective.
            Images that have one are measured; those without are inspected as ever.
        config: Settings of the method.
        scheduler: Address of a Dask scheduler, tcp://host:8786; by default $SSDNET_SCHEDULER, or else workers here.
        workers: Number of workers started here; by default three for each GPU, else one for each core.
        group: Images fitted together, at most 256; by default 128 on a GPU, 1 on a processor. A GPU whose memory does
            not hold as many takes fewer.
        refit: Inspect every image again, those that are done as well.
    """
    require_address("images", images)
    require_address("results", results)
    now = datetime.now(UTC)
    due = runtime.flow_run.scheduled_start_time or now
    night = Night(line, day or day_before(due, timezone))
    newest = is_last_night(night.day, due=due, now=now, timezone=timezone)
    source = night.below(images)
    if not count_images(images, night, days=days_on_storage(images, line)):
        message = f"no images at {source.address}: the line stood still"
        get_run_logger().warning(message)
        if newest:
            tell_of_standstill(night)
        return Completed(name=NO_IMAGES, message=message)
    batches = Storage(results)
    unmeasured: SsdnetError | None = None
    with Cluster(scheduler, workers=workers, device=config.device, group=group) as cluster:
        outcome = run_batch(
            source,
            batches,
            pattern="",
            batch=night.batch,
            masks=night.below(masks) if masks is not None else None,
            config=config,
            cluster=cluster,
            retry_failed=False,
            refit=refit,
        )
        if truth is not None:
            # Before the trends, which have its metrics.
            try:
                measure_night(cluster, outcome, source=source, night=night, truth=truth)
            except SsdnetError as error:
                unmeasured = error
    batch = outcome.results.manifest.batch
    trends = update_trends(batches, line, anew={batch})
    tell_of_night(night, batch, results=batches, trends=trends, newest=newest)
    if unmeasured:
        # Only now, since the night itself is sound: otherwise it would be in no table and raise no alarm, and its line
        # would count as idle.
        raise unmeasured
    return outcome


@task(name="trends", task_run_name="trends of {line}", cache_policy=NO_CACHE, persist_result=False)
def update_trends(results: Storage, line: str, *, anew: Collection[str]) -> Trends:
    """Write the table and the page of a line's nights, with the figures of those batches made anew."""
    return write_trends(results, line, anew=anew)


def measure_night(cluster: Cluster, outcome: Outcome, *, source: Storage, night: Night, truth: str) -> None:
    """Compare a sealed night with its truth, if somebody has looked at it.

    Raises
    ------
    NoTruthError
        If there is no truth of any line: the address may be misspelt.
    """
    known = find_truth(truth, night)
    if known is None:
        get_run_logger().warning("no truth at %s: this night is not measured", night.below(truth).address)
        return
    observer().stage("measuring")
    measure(cluster, quoted(outcome), source=source, truth=known)


def is_last_night(day: date, *, due: datetime, now: datetime, timezone: str | None) -> bool:
    """Return whether a night is the last one of its line: sealed, it makes the line up to date.

    An earlier night must not hide that the last one is missing, nor may a part of today; and a run that was ``due``
    more than a day ago, or is tried again so late, has been overtaken by the next one.
    """
    return day == day_before(due, timezone) and now - due <= timedelta(days=1)
