"""The walk of one image through a worker: fetch, decode, localize, write the map, write the record."""

from dataclasses import dataclass

from ssdnet_core.config import Config
from ssdnet_core.errors import InvalidImageError
from tasks.batch import ImageEntry
from tasks.decoding import DecodeError, decode
from tasks.maps import write_map
from tasks.records import ImageRecord, failure, write_record
from tasks.storage import Storage, StorageError


@dataclass(frozen=True)
class Inspection:
    """What all images of a batch share; travels to the workers with each image.

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
    """

    source: Storage
    folder: Storage
    config: Config
    fingerprint: str


def inspect_image(entry: ImageEntry, inspection: Inspection) -> ImageRecord:
    """Inspect one image on this worker.

    The map is written before the record, so that a record always has its map. What is wrong with the image is
    recorded, never raised: the batch goes on.
    """
    try:
        record = _inspected(entry, inspection)
    except (DecodeError, InvalidImageError) as error:
        record = failure(entry, str(error), fingerprint=inspection.fingerprint, lasting=True)
    except (StorageError, MemoryError) as error:
        reason = str(error) or "not enough memory: give the workers more, or set a smaller working_size"
        record = failure(entry, reason, fingerprint=inspection.fingerprint, lasting=False)
    write_record(inspection.folder, record)
    return record


def _inspected(entry: ImageEntry, inspection: Inspection) -> ImageRecord:
    # torch takes seconds to import: the flow's process, which only hands images out, does without.
    from ssdnet_core.devices import resolve_device
    from ssdnet_core.localization import localize

    image = decode(inspection.source.read(entry.key))
    result = localize(image.pixels, image.mask, inspection.config)
    height, width = result.original_shape
    if (height, width) != (entry.height, entry.width):
        raise StorageError(
            f"{entry.key} was replaced during the run: {entry.height} x {entry.width} pixels when it was listed, "
            f"now {height} x {width}; run again"
        )
    digest = write_map(inspection.folder, entry.index, result.working_map)
    return ImageRecord(
        index=entry.index,
        key=entry.key,
        etag=entry.etag,
        fingerprint=inspection.fingerprint,
        status="inspected",
        score=result.score,
        defective=result.defective,
        regions=result.regions,
        height=height,
        width=width,
        working_height=result.working_map.shape[0],
        working_width=result.working_map.shape[1],
        seconds=result.seconds,
        device=str(resolve_device(inspection.config.device)),
        map_digest=digest,
        warnings=result.warnings,
    )
