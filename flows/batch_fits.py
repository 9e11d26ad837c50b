"""The fits of a batch on the Dask workers, a Prefect task run for each chunk; what kills workers comes last."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.parameters import quoted
from flows.progress import observer
from tasks.cluster import Cluster, fit_group, fit_resources
from tasks.dispatch import (
    CollectedChunk,
    Dispatch,
    SubmittedChunk,
    chunks,
    future_size,
    submit_chunk,
    try_suspects,
)
from tasks.fit_workers import FitWorkers
from tasks.inspection import Inspection
from tasks.lease import Lease
from tasks.manifest import ImageEntry, Manifest
from tasks.records import ImageRecord, withdraw_records
from tasks.storage import Storage


def inspect_all(
    source: Storage,
    folder: Storage,
    *,
    manifest: Manifest,
    todo: Sequence[ImageEntry],
    known: Mapping[int, ImageRecord],
    cluster: Cluster,
    lease: Lease,
) -> dict[int, ImageRecord]:
    """Inspect the images that need it: a Prefect task run a chunk, a Dask future an image or a few groups.

    What may have killed a worker is tried at the end, when no other image is on its way. The earlier record of an
    image, in ``known``, is withdrawn as its chunk is queued.
    """
    resources = fit_resources(cluster.client, manifest.config.device)
    inspection = Inspection.of(manifest, source=source, folder=folder, group=fit_group(resources, cluster.group))
    fitting = "the workers that own a GPU fit" if resources else "all workers fit, on what each of them has"
    together = f"{inspection.group} images together" if inspection.group > 1 else "one image at a time"
    get_run_logger().info("device %s: %s, %s", manifest.config.device, fitting, together)
    dispatch = Dispatch(FitWorkers(cluster.client, resources), inspection, announce=observer().inspected)
    able = len(dispatch.workers.able())
    images_a_future = future_size(len(todo), group=inspection.group, workers=able)
    parts = list(chunks(todo, images_a_future=images_a_future, workers=able))
    records: dict[int, ImageRecord] = {}
    suspects: list[tuple[ImageEntry, ...]] = []

    def queue(part: Sequence[ImageEntry]) -> SubmittedChunk:
        lease.check()
        proven = [entry for entry in part if entry.index in known and known[entry.index].inspected]
        withdraw_records(folder, proven, fingerprint=manifest.fingerprint)
        return submit_chunk(dispatch, part, images_a_future=images_a_future)

    ahead = queue(parts[0])
    observer().stage("inspecting")
    for part, following in pairwise([*parts, ()]):
        current = ahead
        # The next chunk is queued before this one is waited for, so that no worker idles between chunks.
        ahead = queue(following)
        collected = inspect_chunk(quoted(current), first=part[0].key, last=part[-1].key)
        records |= {record.index: record for record in collected.records}
        suspects += collected.suspects
    if suspects:
        lease.check()
        records |= {record.index: record for record in inspect_suspects(quoted(dispatch), quoted(suspects))}
    return records


@task(name="inspect-images", task_run_name="{first} to {last}", cache_policy=NO_CACHE, persist_result=False)
def inspect_chunk(chunk: SubmittedChunk, *, first: str, last: str) -> CollectedChunk:
    """Wait for a chunk of images; the Dask workers inspect them."""
    return chunk.collected()


@task(name="inspect-suspects", cache_policy=NO_CACHE, persist_result=False)
def inspect_suspects(dispatch: Dispatch, suspects: Sequence[tuple[ImageEntry, ...]]) -> list[ImageRecord]:
    """Inspect the images whose workers died, one by one."""
    return try_suspects(dispatch, suspects)
