"""The walk of images through a worker: fetch, fit in groups, write each map, write each record."""

import socket
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from ssdnet_core.config import METHOD_VERSION, Config
from ssdnet_core.errors import InvalidConfigError, InvalidImageError, SsdnetError
from tasks.decoding import DecodeError
from tasks.fetching import MaskError, fetch
from tasks.manifest import ImageEntry, Manifest
from tasks.maps import write_map
from tasks.records import ImageRecord, failed_record, write_record
from tasks.side_work import SideWork
from tasks.storage import Storage

if TYPE_CHECKING:
    from ssdnet_core.evidence import Evidence
    from ssdnet_core.preparation import WorkingImage

THREADS = 4
"""Threads that read, judge and write beside a group's fit. Twice as many take the interpreter from a fit on a GPU."""

REMOTE_THREADS = 8
"""With an object store they mostly wait."""

PIXELS_TOGETHER = 2**24
"""Most working pixels of a group, 256 images of 256 x 256: the groups that a worker reads, fits and writes at a time
take a gigabyte."""

Problem = SsdnetError | MemoryError
PROBLEMS = (SsdnetError, MemoryError)
"""What may be wrong with an image; any other error is raised, and dealt with by who dispatched the image."""

LASTING = (DecodeError, InvalidImageError, InvalidConfigError, MaskError)
"""Problems that the same bytes with the same settings have again."""


class OtherMethodError(SsdnetError):
    """A worker has another version of the method than the run."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What all images of a batch share; travels to the workers with each task.

    Attributes
    ----------
    source
        Where the images lie.
    folder
        The batch's own folder of results.
    config
        Settings of the method.
    fingerprint
        Of the settings.
    masks
        Where the masks lie, if there are any.
    group
        Images fitted together, at most.
    method_version
        Version of the method that the run has; workers with another one refuse.
    """

    source: Storage
    folder: Storage
    config: Config
    fingerprint: str
    masks: Storage | None = None
    group: int = 1
    method_version: int = METHOD_VERSION

    @classmethod
    def of(cls, manifest: Manifest, *, source: Storage, folder: Storage, group: int = 1) -> "Inspection":
        """Return what the images of a manifest share."""
        return cls(
            source=source,
            folder=folder,
            config=manifest.config,
            fingerprint=manifest.fingerprint,
            masks=Storage(manifest.masks) if manifest.masks else None,
            group=group,
        )


def inspect_images(entries: Sequence[ImageEntry], inspection: Inspection) -> list[ImageRecord]:
    """Inspect images on this worker, and return their records in the order of the entries.

    A map is written before its record, so that a record always has its map. What is wrong with an image is recorded,
    never raised: its group and the batch go on. While a group is fitted, the next one is read and the one before is
    judged and written; a single image takes no thread.
    """
    if problem := other_method(inspection):
        return [_judged_and_written(entry, problem, inspection=inspection) for entry in entries]
    records: list[ImageRecord] = []
    reading: list[Future[WorkingImage | Problem]] = []
    writing: list[Future[ImageRecord]] = []
    threads = THREADS if inspection.source.is_local and inspection.folder.is_local else REMOTE_THREADS
    with SideWork(threads=min(threads, len(entries)) if len(entries) > 1 else 0) as side_work:
        for group, following in pairwise([(), *fitting_groups(entries, inspection), ()]):
            fetched = [image.result() for image in reading]
            reading = [side_work.start(_fetched, entry, inspection) for entry in following]
            found = _fitted(fetched, inspection, side_work=side_work)
            # Where writing is slower than fitting, maps must not pile up in memory.
            records += [record.result() for record in writing]
            writing = [
                side_work.start(_judged_and_written, entry, of_image, inspection=inspection)
                for entry, of_image in zip(group, found, strict=True)
            ]
        records += [record.result() for record in writing]
    place = {entry.index: number for number, entry in enumerate(entries)}
    return sorted(records, key=lambda record: place[record.index])


def fitting_groups(entries: Sequence[ImageEntry], inspection: Inspection) -> Iterator[tuple[ImageEntry, ...]]:
    """Cut images into groups that are fitted together: of one working shape, in even parts."""
    alike: dict[tuple[int, int], list[ImageEntry]] = defaultdict(list)
    for entry in entries:
        readable = entry.height > 0 and entry.width > 0
        alike[entry.working_shape(inspection.config.working_size) if readable else (1, 1)].append(entry)
    for (height, width), images in alike.items():
        most = max(1, min(inspection.group, PIXELS_TOGETHER // (height * width)))
        parts = -(-len(images) // most)
        for part in range(parts):
            yield tuple(images[part * len(images) // parts : (part + 1) * len(images) // parts])


def other_method(inspection: Inspection) -> OtherMethodError | None:
    """Return what is wrong if this worker has another version of the method than the run."""
    if inspection.method_version == METHOD_VERSION:
        return None
    return OtherMethodError(
        f"the worker on {socket.gethostname()} has version {METHOD_VERSION} of the method, the run version "
        f"{inspection.method_version}: install the same on both, and start the older one anew"
    )


def _fetched(entry: ImageEntry, inspection: Inspection) -> "WorkingImage | Problem":
    try:
        return fetch(entry, inspection.source, masks=inspection.masks, config=inspection.config)
    except PROBLEMS as problem:
        return problem


def _fitted(
    images: "Sequence[WorkingImage | Problem]", inspection: Inspection, *, side_work: SideWork
) -> "list[Evidence | Problem]":
    """Fit and score what could be fetched; its seconds leave out the side work meanwhile."""
    ready = [image for image in images if not isinstance(image, PROBLEMS)]
    started, beside = time.process_time(), side_work.seconds
    found = iter(_evidence(ready, inspection))
    elapsed, beside = time.process_time() - started, side_work.seconds - beside
    # The process's time counts what was read and written meanwhile.
    share = max(0.0, 1 - beside / elapsed) if elapsed else 1.0
    return [image if isinstance(image, PROBLEMS) else _own_share(next(found), share) for image in images]


def _own_share(found: "Evidence | Problem", share: float) -> "Evidence | Problem":
    return found if isinstance(found, PROBLEMS) else replace(found, seconds=share * found.seconds)


def _evidence(images: "Sequence[WorkingImage]", inspection: Inspection) -> "list[Evidence | Problem]":
    # torch takes seconds to import: the flow's process, which only hands images out, does without.
    from ssdnet_core.groups import evidence_of_group

    try:
        return [*evidence_of_group(images, inspection.config, size=inspection.group)]
    except PROBLEMS as problem:
        if len(images) == 1:
            return [problem]
    # As a rule one image is at fault: its neighbours are fitted without it.
    half = len(images) // 2
    return [*_evidence(images[:half], inspection), *_evidence(images[half:], inspection)]


def _judged_and_written(entry: ImageEntry, found: "Evidence | Problem", *, inspection: Inspection) -> ImageRecord:
    try:
        if isinstance(found, PROBLEMS):
            raise found
        record = _inspected(entry, found, inspection=inspection)
    except PROBLEMS as problem:
        reason = str(problem) or "not enough memory: give the workers more, or set a smaller working_size"
        lasting = isinstance(problem, LASTING) or not entry.readable
        record = failed_record(entry, reason, fingerprint=inspection.fingerprint, lasting=lasting)
    write_record(inspection.folder, record)
    return record


def _inspected(entry: ImageEntry, evidence: "Evidence", *, inspection: Inspection) -> ImageRecord:
    from ssdnet_core.devices import resolve_device
    from ssdnet_core.localization import judged

    result = judged(evidence, inspection.config)
    height, width = result.original_shape
    digest = write_map(inspection.folder, entry.index, anomaly_map=result.working_map)
    return ImageRecord(
        index=entry.index,
        key=entry.key,
        etag=entry.etag,
        fingerprint=inspection.fingerprint,
        status="inspected",
        score=result.score,
        defective=result.defective,
        regions=result.regions,
        regions_from=result.regions_from,
        height=height,
        width=width,
        working_height=result.working_map.shape[0],
        working_width=result.working_map.shape[1],
        seconds=result.seconds,
        device=str(resolve_device(inspection.config.device)),
        map_digest=digest,
        warnings=result.warnings,
    )
