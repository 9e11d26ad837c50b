"""The main job on images whose truth is known: inspect, then measure."""

from dataclasses import dataclass

from distributed import as_completed
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.inspection import Outcome, run_batch
from flows.monitoring import tell_of_metrics
from flows.progress import observer
from ssdnet_core.config import Config
from tasks.cluster import Workers
from tasks.discovery import NothingToInspectError, split_input
from tasks.evaluation import (
    IMAGES_PATTERN,
    Evaluation,
    MeasuredImage,
    TruthSource,
    UnmeasuredImage,
    evaluate_image,
    summarise_metrics,
    write_evaluation,
)
from tasks.inspection import Inspection
from tasks.storage import Storage


@dataclass(frozen=True)
class MeasuredOutcome:
    """A run of a batch, and its metrics."""

    outcome: Outcome
    evaluation: Evaluation


@flow(name="evaluate", flow_run_name="evaluate {input}", persist_result=False)
def evaluate(
    input: str,
    results: str,
    batch: str | None = None,
    config: Config = Config(),  # noqa: B008 - frozen, and the UI shows it as the form's defaults
    scheduler: str | None = None,
    workers: int | None = None,
    retry_failed: bool = False,
) -> MeasuredOutcome:
    """Inspect labelled images in MVTec-AD layout, and measure maps and verdicts against the truth.

    An image whose truth is missing or does not fit is listed as unmeasured, with the reason.

    Args:
        input: Folder with test/DEFECT/* and ground_truth/DEFECT/*_mask.png, or with several such categories.
        results: Folder or s3://bucket/prefix; the batch gets a folder of its own below it.
        batch: Name of the batch; by default after the input.
        config: Settings of the method.
        scheduler: Address of a Dask scheduler, tcp://host:8786; by default $SSDNET_SCHEDULER, or else workers here.
        workers: Number of workers started here; by default one for each GPU, else for each core.
        retry_failed: Try images again that cannot be inspected for a reason of their own, too.
    """
    source, pattern = split_input(input)
    if pattern:
        raise NothingToInspectError(f"{input}: evaluate takes the folder of a category or of several, not a pattern")
    with Workers(scheduler, workers=workers, device=config.device) as crew:
        outcome = run_batch(
            source,
            Storage(results),
            pattern=IMAGES_PATTERN,
            batch=batch,
            config=config,
            crew=crew,
            retry_failed=retry_failed,
        )
        observer().stage("measuring")
        return MeasuredOutcome(outcome=outcome, evaluation=measure(crew, outcome, source=source))


@task(name="measure", cache_policy=NO_CACHE, persist_result=False)
def measure(crew: Workers, outcome: Outcome, *, source: Storage, truth: TruthSource | None = None) -> Evaluation:
    """Compare the maps with the truth masks on the workers, and write the metrics beside the maps.

    The truth lies in MVTec-AD layout, unless ``truth`` finds it elsewhere.
    """
    folder, manifest = Storage(outcome.folder), outcome.manifest
    inspection = Inspection(
        source=source,
        folder=folder,
        config=manifest.config,
        fingerprint=manifest.fingerprint,
        masks=Storage(manifest.masks) if manifest.masks else None,
    )
    futures = [
        crew.client.submit(
            evaluate_image, outcome.records[entry.index], inspection, mask=entry.mask, truth=truth, pure=False
        )
        for entry in manifest.entries
        if entry.present
    ]
    results = [future.result() for future in as_completed(futures)]
    evaluation = summarise_metrics(
        sorted((image for image in results if isinstance(image, MeasuredImage)), key=lambda image: image.metrics.key),
        sorted((image for image in results if isinstance(image, UnmeasuredImage)), key=lambda image: image.key),
    )
    write_evaluation(folder, manifest, evaluation)
    tell_of_metrics(manifest.batch, evaluation)
    return evaluation
