"""The main job: from a folder of images to anomaly maps and verdicts.

discover, open the batch, inspect chunk by chunk, aggregate, report, seal.

A flow's parameters are described as "Args:", the one form that Prefect shows in its forms.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.monitoring import tell_of_batch, watched
from flows.parameters import GroupSize, whole
from flows.progress import observer
from ssdnet_core.config import Config
from tasks.aggregation import Summary, summarise, write_region_table
from tasks.batch import (
    MANIFEST,
    REGIONS,
    ImageEntry,
    Manifest,
    batch_name,
    check_batch_name,
    open_batch,
    read_manifest,
)
from tasks.cluster import Workers, able_workers, fit_group, fit_resources
from tasks.discovery import FoundMasks, count_by_suffix, discover, find_masks, list_input, split_input
from tasks.dispatch import (
    CollectedChunk,
    Dispatch,
    SubmittedChunk,
    chunks,
    collect_chunk,
    submit_chunk,
    task_size,
    try_suspects,
)
from tasks.image_figures import has_figures, write_figures
from tasks.inspection import Inspection
from tasks.lease import Lease, hold_batch
from tasks.maps import clear_maps, prepare_maps, written_maps
from tasks.records import ImageRecord, present_records, read_records
from tasks.report import PAGE, report_address, write_report
from tasks.seal import Seal, break_seal, make_seal, read_seal, set_seal
from tasks.storage import Storage, StoredObject

Records = dict[int, ImageRecord]

MASKS_NAMED = 5
"""Of those that are of no image."""


@dataclass(frozen=True)
class Outcome:
    """What a run of a batch came to.

    Attributes
    ----------
    folder
        Address of the batch's results.
    report
        Address of the gallery's page.
    manifest, records, summary, seal
        Of the finished batch.
    fitted
        Number of images that this run inspected; the others were done before.
    others
        How many files of the input are no images, by suffix.
    """

    folder: str
    report: str
    manifest: Manifest
    records: Records
    summary: Summary
    seal: Seal
    fitted: int
    others: Mapping[str, int]


@flow(name="inspect", flow_run_name="inspect {input}", persist_result=False)
def inspect(  # noqa: PLR0917 - Prefect calls by name
    input: str,
    results: str,
    batch: str | None = None,
    masks: str | None = None,
    config: Config = Config(),  # noqa: B008 - frozen, and the UI shows it as the form's defaults
    scheduler: str | None = None,
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
    with Workers(scheduler, workers=workers, device=config.device) as crew:
        return run_batch(
            source,
            Storage(results),
            pattern=pattern,
            batch=batch,
            masks=Storage(masks) if masks is not None else None,
            config=config,
            crew=crew,
            group=group,
            retry_failed=retry_failed,
            refit=refit,
        )


def run_batch(
    source: Storage,
    results: Storage,
    *,
    pattern: str,
    batch: str | None,
    config: Config,
    crew: Workers,
    retry_failed: bool,
    group: int | None = None,
    refit: bool = False,
    masks: Storage | None = None,
) -> Outcome:
    """Bring one batch to its seal, inspecting only what is not inspected yet."""
    observer().stage("listing images")
    name = check_batch_name(batch) if batch is not None else batch_name(source.address, pattern)
    wanted = Manifest(
        batch=name,
        input=source.address,
        pattern=pattern,
        config=config,
        masks=masks.address if masks else "",
    )
    listing = list_input(source, pattern, outside=[results.address, *([masks.address] if masks else [])])
    images = listing.images
    if listing.others:
        get_run_logger().info("other files, left out: %s", count_by_suffix(listing.others))
    masked = find_masks(images, masks) if masks else FoundMasks({}, ())
    if masks:
        tell_of_masks(masked, masks, images=len(images), pattern=pattern)
    folder = open_batch(results, wanted)
    with hold_batch(folder) as lease, watched(folder.name):
        stored, seal = read_manifest(folder), read_seal(folder) if _is_complete(folder) else None
        if seal is None:
            # There is work for them: they come up while headers and records are read.
            crew.start(images=len(images))
        discovered = discover_images(source, whole(images), stored=whole(stored), masks=whole(masked.of_images))
        manifest = replace(stored.merged(discovered), config=config, masks=wanted.masks)
        records = read_records(folder, manifest.entries)
        mapped = written_maps(folder)
        records = {i: record for i, record in records.items() if record.failed or i in mapped}
        todo = _unsettled(manifest, {} if refit else records, retry_failed=retry_failed)
        present = len(manifest.present)
        observer().begin(images=present, settled=present - len(todo))
        if manifest.entries == stored.entries and not todo and seal is not None:
            outcome = _outcome(folder, manifest, records=records, seal=seal, fitted=0, others=listing.others)
            tell_of_batch(outcome, sealed=False)
            return outcome
        lease.check()
        break_seal(folder)
        lease.check()
        folder.write(MANIFEST, manifest.to_json())
        prepare_maps(folder, manifest)
        if todo:
            records |= inspect_all(source, folder, manifest=manifest, todo=todo, crew=crew, lease=lease, group=group)
        lease.check()
        # Those of the images that they had before.
        clear_maps(folder, [index for index, record in records.items() if record.failed and index in mapped])
        observer().stage("drawing the report")
        lease.check()
        write_figures_and_regions(folder, whole(manifest), records=whole(records))
        lease.check()
        draw_report(folder, whole(manifest), records=whole(records))
        seal = seal_batch(folder, whole(manifest), records=whole(records), lease=lease)
        outcome = _outcome(folder, manifest, records=records, seal=seal, fitted=len(todo), others=listing.others)
        tell_of_batch(outcome, sealed=True)
        return outcome


def inspect_all(
    source: Storage,
    folder: Storage,
    *,
    manifest: Manifest,
    todo: list[ImageEntry],
    crew: Workers,
    lease: Lease,
    group: int | None = None,
) -> Records:
    """Inspect the images that need it: a Prefect task run a chunk, a Dask future an image or a few groups.

    What may have killed a worker is tried at the end, when no other image is on its way.
    """
    observer().stage("waiting for workers")
    resources = fit_resources(crew.client, manifest.config.device)
    inspection = Inspection.of(manifest, source=source, folder=folder, group=fit_group(resources, group))
    fitting = "the workers that own a GPU fit" if resources else "all workers fit, on what each of them has"
    together = f"{inspection.group} images together" if inspection.group > 1 else "one image at a time"
    get_run_logger().info("device %s: %s, %s", manifest.config.device, fitting, together)
    workers = len(able_workers(crew.client, resources))
    task = task_size(len(todo), group=inspection.group, workers=workers)
    dispatch = Dispatch(crew.client, inspection, resources)
    parts = list(chunks(todo, task=task, workers=workers))
    records: Records = {}
    suspects: list[tuple[ImageEntry, ...]] = []
    ahead = submit_chunk(dispatch, parts[0], task=task)
    observer().stage("inspecting")
    for part, following in pairwise([*parts, ()]):
        current = ahead
        # The next chunk is queued before this one is waited for, so that no worker idles between chunks.
        ahead = submit_chunk(dispatch, following, task=task)
        lease.check()
        collected = inspect_chunk(whole(current), first=part[0].key, last=part[-1].key)
        records |= {record.index: record for record in collected.records}
        suspects += collected.suspects
    if suspects:
        lease.check()
        records |= {record.index: record for record in inspect_suspects(whole(dispatch), whole(suspects))}
    return records


@task(name="discover", cache_policy=NO_CACHE, persist_result=False)
def discover_images(
    source: Storage, images: Sequence[StoredObject], *, stored: Manifest, masks: Mapping[str, StoredObject]
) -> tuple[ImageEntry, ...]:
    """Read the headers of the images that are new, or changed since they came into the manifest."""
    return discover(source, images, masks=masks, known=stored.entries)


@task(name="inspect-images", task_run_name="{first} to {last}", cache_policy=NO_CACHE, persist_result=False)
def inspect_chunk(chunk: SubmittedChunk, *, first: str, last: str) -> CollectedChunk:
    """Wait for a chunk of images; the Dask workers inspect them."""
    return collect_chunk(chunk, announce=observer().inspected)


@task(name="inspect-suspects", cache_policy=NO_CACHE, persist_result=False)
def inspect_suspects(dispatch: Dispatch, suspects: Sequence[tuple[ImageEntry, ...]]) -> list[ImageRecord]:
    """Inspect the images whose workers died, one by one."""
    return try_suspects(dispatch, suspects, announce=observer().inspected)


@task(name="aggregate", cache_policy=NO_CACHE, persist_result=False)
def write_figures_and_regions(folder: Storage, manifest: Manifest, *, records: Records) -> None:
    """Write the per-image figures and the table of regions."""
    write_figures(folder, manifest, records=records)
    write_region_table(folder, present_records(manifest, records))


@task(name="report", cache_policy=NO_CACHE, persist_result=False)
def draw_report(folder: Storage, manifest: Manifest, *, records: Records) -> str:
    """Draw the gallery."""
    return write_report(folder, manifest, records=records, summary=summarise(manifest, records))


@task(name="seal", cache_policy=NO_CACHE, persist_result=False)
def seal_batch(folder: Storage, manifest: Manifest, *, records: Records, lease: Lease) -> Seal:
    """Declare the batch finished, unless another run took it over."""
    seal = make_seal(manifest, records)
    if folder.is_local:
        # Zarr leaves its chunks to the system to write: after a power cut there would be a seal over empty maps.
        os.sync()
    lease.check()
    set_seal(folder, seal)
    return seal


def tell_of_masks(found: FoundMasks, masks: Storage, *, images: int, pattern: str) -> None:
    """Tell in the run's log how many images have a mask, and which masks are of no image."""
    log = get_run_logger()
    log.info("%d of %d images have a mask in %s", len(found.of_images), images, masks.address)
    # A pattern leaves out images, and their masks are none of its business.
    if found.others and not pattern:
        named = ", ".join(found.others[:MASKS_NAMED]) + (", ..." if len(found.others) > MASKS_NAMED else "")
        log.warning("%d masks in %s are of no image: %s", len(found.others), masks.address, named)


def _is_complete(folder: Storage) -> bool:
    """Whether what the flow itself writes is there: somebody may have made room, or copied a part."""
    return has_figures(folder) and all(folder.exists(key) for key in (REGIONS, PAGE))


def _unsettled(manifest: Manifest, records: Records, *, retry_failed: bool) -> list[ImageEntry]:
    def settled(entry: ImageEntry) -> bool:
        record = records.get(entry.index)
        return record is not None and record.settles(entry, fingerprint=manifest.fingerprint, retry_failed=retry_failed)

    return [entry for entry in manifest.present if not settled(entry)]


def _outcome(
    folder: Storage, manifest: Manifest, *, records: Records, seal: Seal, fitted: int, others: Mapping[str, int]
) -> Outcome:
    return Outcome(
        folder=folder.address,
        report=report_address(folder),
        manifest=manifest,
        records=records,
        summary=summarise(manifest, records),
        seal=seal,
        fitted=fitted,
        others=others,
    )
