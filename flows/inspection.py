"""The flow that inspects a folder of images.

A flow's parameters are described as "Args:", the one form that Prefect shows in its forms.
"""

from prefect import flow

from flows.batch_run import run_batch
from flows.outcome import Outcome
from flows.parameters import GroupSize, OptionalText
from flows.progress import observer
from ssdnet_core.config import Config
from tasks.cluster import Cluster
from tasks.input_address import split_input
from tasks.storage import Storage


@flow(name="inspect", flow_run_name="inspect {input}", persist_result=False)
def inspect(  # noqa: PLR0917 - Prefect calls by name
    input: str,
    results: str,
    batch: OptionalText = None,
    masks: OptionalText = None,
    config: Config = Config(),  # noqa: B008 - frozen, and the UI shows it as the form's defaults
    scheduler: OptionalText = None,
    workers: int | None = None,
    group: GroupSize = None,
    retry_failed: bool = False,
    refit: bool = False,
) -> Outcome:
    """Inspect a folder of images, or go on with a batch that was interrupted.

    Args:
        input: Folder, file, glob or s3://bucket/prefix of images.
        results: Folder or s3://bucket/prefix; the batch gets a folder of its own below it.
        batch: Name of the batch; by default after the input.
        masks: Folder or s3://bucket/prefix of masks, named as their images: white where to inspect, black where not.
        config: Settings of the method.
        scheduler: Address of a Dask scheduler, tcp://host:8786; by default $SSDNET_SCHEDULER, or else workers here.
        workers: Number of workers started here; by default three for each GPU, else one for each core.
        group: Images fitted together, at most 256; by default 128 on a GPU, 1 on a processor. A GPU whose memory does
            not hold as many takes fewer.
        retry_failed: Try images again that cannot be inspected for a reason of their own, too.
        refit: Inspect every image again, those that are done as well: the results are equal, unless what is stored was
            damaged or the program has changed.
    """
    source, pattern = split_input(input)
    with Cluster(scheduler, workers=workers, device=config.device, group=group) as cluster:
        outcome = run_batch(
            source,
            Storage(results),
            pattern=pattern,
            batch=batch,
            masks=Storage(masks) if masks is not None else None,
            config=config,
            cluster=cluster,
            retry_failed=retry_failed,
            refit=refit,
        )
    observer().ended(outcome)
    return outcome
