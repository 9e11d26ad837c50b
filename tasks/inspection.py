"""The walk of one image through a worker: fetch, decode, localize, write the map, write the record."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssdnet_core.config import Config
from ssdnet_core.errors import DeviceUnavailableError, InvalidImageError, SsdnetError
from tasks.batch import ImageEntry
from tasks.decoding import DecodedImage, DecodeError, decode
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
    masks
        Where the masks lie, if there are any.
    """

    source: Storage
    folder: Storage
    config: Config
    fingerprint: str
    masks: Storage | None = None


class MaskError(SsdnetError):
    """An image's mask is no mask for this image."""


def inspect_image(entry: ImageEntry, inspection: Inspection) -> ImageRecord:
    """Inspect one image on this worker.

    The map is written before the record, so that a record always has its map. What is wrong with the image is
    recorded, never raised: the batch goes on.
    """
    try:
        record = _inspected(entry, inspection)
    except (DecodeError, InvalidImageError, MaskError) as error:
        record = failure(entry, str(error), fingerprint=inspection.fingerprint, lasting=True)
    except (StorageError, DeviceUnavailableError, MemoryError) as error:
        reason = str(error) or "not enough memory: give the workers more, or set a smaller working_size"
        record = failure(entry, reason, fingerprint=inspection.fingerprint, lasting=False)
    write_record(inspection.folder, record)
    return record


def _inspected(entry: ImageEntry, inspection: Inspection) -> ImageRecord:
    # torch takes seconds to import: the flow's process, which only hands images out, does without.
    from ssdnet_core.devices import resolve_device
    from ssdnet_core.localization import localize

    image = decode(inspection.source.read(entry.key))
    result = localize(image.pixels, left_out(image, entry.mask, inspection), inspection.config)
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


def left_out(image: DecodedImage, mask_key: str, inspection: Inspection) -> npt.NDArray[np.bool_] | None:
    """Return where pixels do not count: transparent ones, and those that the mask beside the image leaves black.

    Parameters
    ----------
    mask_key
        Of the image's mask, empty if it has none.

    Raises
    ------
    MaskError
        If the mask is not of the image's size.
    """
    if not mask_key or inspection.masks is None:
        return image.mask
    mask = decode(inspection.masks.read(mask_key)).pixels
    if mask.shape[:2] != image.pixels.shape[:2]:
        raise MaskError(
            f"its mask {mask_key} has {mask.shape[0]} x {mask.shape[1]} pixels, the image {image.pixels.shape[0]} x "
            f"{image.pixels.shape[1]}: make the mask of the image's own size, white where it is to be inspected"
        )
    grey = mask if mask.ndim == 2 else mask.max(axis=2)
    black = grey.astype(np.float32) <= 0.5 * float(grey.max())
    return black if image.mask is None else black | image.mask
