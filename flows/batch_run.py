"""The main job: from a folder of images to anomaly maps and verdicts.

discover, open the batch, inspect chunk by chunk (:mod:`flows.batch_fits`), aggregate, report, seal.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.batch_fits import inspect_all
from flows.monitoring import tell_of_batch, watched
from flows.outcome import Outcome
from flows.parameters import quoted
from flows.progress import observer
from ssdnet_core.config import Config
from tasks.batch import GALLERY, IMAGE_TABLE, MANIFEST, REGIONS, batch_name, check_batch_name, open_batch, read_manifest
from tasks.batch_results import BatchResults
from tasks.cluster import Cluster
from tasks.discovery import Listing, discover, list_input
from tasks.finished_batch import check_records
from tasks.found_masks import count_and_name, masks_changed
from tasks.image_figures import has_figures, write_figures
from tasks.image_table import write_image_table
from tasks.keys import count_by_suffix
from tasks.lease import Lease, hold_batch
from tasks.manifest import ImageEntry, Manifest
from tasks.maps import clear_maps, damaged_maps, prepare_maps, written_maps
from tasks.records import ImageRecord, read_records, unsettled
from tasks.region_table import write_region_table
from tasks.report import write_report
from tasks.seal import Seal, break_seal, make_seal, read_seal, set_seal
from tasks.storage import Storage
from tasks.words import counted


def run_batch(
    source: Storage,
    results: Storage,
    *,
    pattern: str,
    batch: str | None,
    config: Config,
    cluster: Cluster,
    retry_failed: bool,
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
    look = partial(list_input, source, pattern, outside=[results.address], masks=masks)
    listing = look()
    folder = open_batch(results, wanted)
    with hold_batch(folder) as lease, watched(folder.name):
        stored = read_manifest(folder)
        # A sealed batch has images: without entries, its manifest was lost.
        seal = read_seal(folder) if stored.entries and _is_complete(folder) else None
        if not listing.shows(stored.present):
            # Something has gone, or another run had the batch meanwhile, and has seen more.
            listing = look()
        _tell_of_listing(listing, masks)
        former_masks = stored.masks if stored.masks != wanted.masks else None
        if former_masks is not None:
            get_run_logger().warning("other masks: %s", masks_changed(former_masks, wanted.masks))
        outcome_of = partial(Outcome, folder=folder, listing=listing, former_masks=former_masks)
        if seal is None:
            # There is work for the workers: they come up while headers and records are read.
            cluster.start(images=len(listing.images))
        discovered = discover_images(source, quoted(listing), stored=quoted(stored))
        manifest = replace(stored.merged(discovered), config=config, masks=wanted.masks)
        _tell_of_unreadable(manifest, discovered)
        plan = _planned(folder, manifest, stored=stored, seal=seal, retry_failed=retry_failed, refit=refit)
        present = len(manifest.present)
        observer().begin(images=present, settled=present - len(plan.todo))
        if seal is not None and not plan.news:
            outcome = outcome_of(results=plan.results, seal=seal, fitted=0)
            tell_of_batch(outcome, sealed=False)
            return outcome
        done = _carried_out(plan, source, folder=folder, cluster=cluster, lease=lease)
        seal = _conclude(folder, done, lease=lease)
        outcome = outcome_of(results=done, seal=seal, fitted=len(plan.todo))
        tell_of_batch(outcome, sealed=True)
        return outcome


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is left to do of a batch.

    Attributes
    ----------
    results
        What is there already: the records that have their map, or need none.
    known
        All records that are stored, by index.
    todo
        The images to inspect.
    news
        Whether an image, or the manifest, is not as it was when the batch was last sealed.
    """

    results: BatchResults
    known: Mapping[int, ImageRecord]
    todo: Sequence[ImageEntry]
    news: bool


def _planned(
    folder: Storage, manifest: Manifest, *, stored: Manifest, seal: Seal | None, retry_failed: bool, refit: bool
) -> _Plan:
    """Compare the manifest with what is stored; a sealed batch whose records were changed by hand is refused."""
    known, mapped = read_records(folder, manifest.entries), written_maps(folder)
    if seal is not None and not refit and all(entry.index in known for entry in stored.present):
        check_records(folder, BatchResults(stored, known), seal=seal)
    records = {i: record for i, record in known.items() if record.failed or i in mapped}
    todo = unsettled(
        manifest.present,
        {} if refit else records,
        fingerprint=manifest.fingerprint,
        retry_failed=retry_failed,
    )
    news = bool(todo) or (manifest.entries, manifest.masks) != (stored.entries, stored.masks)
    if news or seal is None:
        todo = _with_damaged(folder, manifest, records=records, todo=todo)
    return _Plan(results=BatchResults(manifest, records), known=known, todo=todo, news=news)


def _carried_out(plan: _Plan, source: Storage, *, folder: Storage, cluster: Cluster, lease: Lease) -> BatchResults:
    """Inspect what is left to inspect, and return what there is then."""
    manifest, records = plan.results.manifest, dict(plan.results.records)
    if plan.todo:
        observer().stage("waiting for workers")
        # Before the seal is broken: without workers the batch stays as it is.
        cluster.start().result()
    lease.check()
    break_seal(folder)
    lease.check()
    folder.write(MANIFEST, manifest.to_json())
    lease.check()
    prepare_maps(folder, manifest)
    if plan.todo:
        records |= inspect_all(
            source, folder, manifest=manifest, todo=plan.todo, known=plan.known, cluster=cluster, lease=lease
        )
    lease.check()
    return BatchResults(manifest, records)


def _conclude(folder: Storage, results: BatchResults, *, lease: Lease) -> Seal:
    """Do what comes after the last image: figures, tables, gallery, seal."""
    failed = {index for index, record in results.records.items() if record.failed}
    if failed:
        # Their maps are of an earlier inspection, or of one whose record could not be written.
        clear_maps(folder, sorted(failed & written_maps(folder)))
    observer().stage("drawing the report")
    lease.check()
    write_figures_and_tables(folder, quoted(results))
    lease.check()
    draw_report(folder, quoted(results))
    return seal_batch(folder, quoted(results), lease=lease)


@task(name="discover", cache_policy=NO_CACHE, persist_result=False)
def discover_images(source: Storage, listing: Listing, *, stored: Manifest) -> tuple[ImageEntry, ...]:
    """Read the headers of the images that are new, or changed since they came into the manifest."""
    return discover(source, listing.images, masks=listing.masks.of_images, known=stored.entries)


@task(name="aggregate", cache_policy=NO_CACHE, persist_result=False)
def write_figures_and_tables(folder: Storage, results: BatchResults) -> None:
    """Write the per-image figures, and the tables of regions and images."""
    write_figures(folder, results)
    write_region_table(folder, results.present)
    write_image_table(folder, results.present)


@task(name="report", cache_policy=NO_CACHE, persist_result=False)
def draw_report(folder: Storage, results: BatchResults) -> str:
    """Draw the gallery."""
    return write_report(folder, results)


@task(name="seal", cache_policy=NO_CACHE, persist_result=False)
def seal_batch(folder: Storage, results: BatchResults, *, lease: Lease) -> Seal:
    """Declare the batch finished, unless another run took it over."""
    seal = make_seal(results)
    if folder.is_local:
        # Zarr leaves its chunks to the system to write: after a power cut there would be a seal over empty maps.
        os.sync()
    lease.check()
    set_seal(folder, seal)
    return seal


def _tell_of_listing(listing: Listing, masks: Storage | None) -> None:
    if listing.others:
        get_run_logger().info("other files, left out: %s", count_by_suffix(listing.others))
    if masks:
        masked, images = len(listing.masks.of_images), len(listing.images)
        get_run_logger().info("%d of %d images have a mask in %s", masked, images, masks.address)
    if listing.masks.others:
        get_run_logger().info("masks of no image: %s", count_and_name(listing.masks.others))


def _tell_of_unreadable(manifest: Manifest, discovered: Sequence[ImageEntry]) -> None:
    unreadable = {entry.key: entry for entry in discovered if not entry.readable}
    if kept := [entry.key for entry in manifest.entries if entry.readable and entry.key in unreadable]:
        first, lost = kept[0], "whose mask" if unreadable[kept[0]].image_etag else "which"
        observer().hint(
            f"{counted(len(kept), 'image')} cannot be read any more, as {first}, {lost} leads nowhere: what was found "
            "before is kept"
        )


def _is_complete(folder: Storage) -> bool:
    """Whether all that the flow itself writes is there: somebody may have deleted some, or copied only a part."""
    return has_figures(folder) and folder.holds_all((REGIONS, IMAGE_TABLE, GALLERY))


def _with_damaged(
    folder: Storage, manifest: Manifest, *, records: Mapping[int, ImageRecord], todo: list[ImageEntry]
) -> list[ImageEntry]:
    """Add the images whose map does not match their record: the gallery could not be drawn from it."""
    wanted = {entry.index for entry in todo}
    settled = [records[entry.index] for entry in manifest.present if entry.index not in wanted]
    if settled:
        observer().stage("reading the maps that are there")
    if damaged := damaged_maps(folder, settled):
        first = manifest.entries[min(damaged)].key
        observer().hint(f"{counted(len(damaged), 'map')} damaged, as that of {first}: inspected again")
    return [entry for entry in manifest.present if entry.index in wanted | damaged]
