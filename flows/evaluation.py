"""The main job on images whose truth is known: inspect, then measure."""

import glob
from dataclasses import dataclass

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.batch_run import run_batch
from flows.monitoring import tell_of_metrics
from flows.outcome import Outcome
from flows.parameters import GroupSize, OptionalText, quoted
from flows.progress import observer
from ssdnet_core.config import Config
from tasks.category_metrics import Evaluation, summarise_metrics
from tasks.cluster import Cluster
from tasks.discovery import NothingToInspectError
from tasks.evaluation_file import evaluation_basis, read_evaluation, write_evaluation
from tasks.input_address import split_input
from tasks.inspection import Inspection
from tasks.measuring import JudgedImage, Measurement, measure_batch
from tasks.storage import Storage
from tasks.truth import IMAGES_PATTERN, MvtecTruth, Truth


@dataclass(frozen=True)
class MeasuredOutcome:
    """A run of a batch, and its metrics."""

    outcome: Outcome
    evaluation: Evaluation


@flow(name="evaluate", flow_run_name="evaluate {input}", persist_result=False)
def evaluate(  # noqa: PLR0917 - Prefect calls by name
    input: str,
    results: str,
    batch: OptionalText = None,
    masks: OptionalText = None,
    config: Config = Config(),  # noqa: B008 - frozen, and the UI shows it as the form's defaults
    scheduler: OptionalText = None,
    workers: int | None = None,
    group: GroupSize = None,
    retry_failed: bool = False,
) -> MeasuredOutcome:
    """Inspect labelled images in MVTec-AD layout, and measure maps and verdicts against the truth.

    An image whose truth is missing or does not fit is listed as unmeasured, with the reason.

    Args:
        input: Folder with test/DEFECT/* and ground_truth/DEFECT/*_mask.png, or with several such categories.
        results: Folder or s3://bucket/prefix; the batch gets a folder of its own below it.
        batch: Name of the batch; by default after the input.
        masks: Folder or s3://bucket/prefix of masks, named as their images: black is neither inspected nor measured.
        config: Settings of the method.
        scheduler: Address of a Dask scheduler, tcp://host:8786; by default $SSDNET_SCHEDULER, or else workers here.
        workers: Number of workers started here; by default three for each GPU, else one for each core.
        group: Images fitted together, at most 256; by default 128 on a GPU, 1 on a processor. A GPU whose memory does
            not hold as many takes fewer.
        retry_failed: Try images again that cannot be inspected for a reason of their own, too.
    """
    source, pattern = split_input(input)
    if pattern:
        given = "a file" if pattern == glob.escape(Storage(input).name) else "a pattern"
        raise NothingToInspectError(f"{input} is {given}: evaluate takes the folder of a category or of several")
    with Cluster(scheduler, workers=workers, device=config.device, group=group) as cluster:
        try:
            outcome = run_batch(
                source,
                Storage(results),
                pattern=IMAGES_PATTERN,
                batch=batch,
                masks=Storage(masks) if masks is not None else None,
                config=config,
                cluster=cluster,
                retry_failed=retry_failed,
            )
        except NothingToInspectError as error:
            raise NothingToInspectError(
                f"no test/DEFECT/IMAGE in {source.address}, nor in a folder of it: give a category's folder, which "
                "has test/ and ground_truth/, or that of several categories"
            ) from error
        observer().stage("measuring")
        evaluation = measure(cluster, quoted(outcome), source=source, truth=MvtecTruth(source))
    measured = MeasuredOutcome(outcome=outcome, evaluation=evaluation)
    observer().ended(measured)
    return measured


@task(name="measure", cache_policy=NO_CACHE, persist_result=False)
def measure(cluster: Cluster, outcome: Outcome, *, source: Storage, truth: Truth) -> Evaluation:
    """Compare the maps with the truth masks on the workers, and write the metrics beside the maps.

    Where images, results and truth are those of an earlier evaluation, that one stands.
    """
    folder, manifest = outcome.folder, outcome.results.manifest
    inspection = Inspection.of(manifest, source=source, folder=folder)
    basis = evaluation_basis(outcome.seal, manifest.entries, truth=truth.objects())
    evaluation = read_evaluation(folder, basis=basis)
    if evaluation is None:
        images = [JudgedImage(outcome.results.records[entry.index], entry.mask) for entry in manifest.present]
        client = cluster.start(images=len(images)).result()
        evaluation = summarise_metrics(measure_batch(client, images, measurement=Measurement(inspection, truth)))
        write_evaluation(folder, outcome.seal, evaluation=evaluation, basis=basis)
    tell_of_metrics(manifest.batch, evaluation)
    return evaluation
