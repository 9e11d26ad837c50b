"""The batch's anomaly maps: one array of its Zarr store.

``anomaly_map (image, y, x)`` is float16 with one chunk an image. The worker that fitted the image writes it; the flow
clears it if the image has failed since. No chunk ever has two writers at once: they would lose data silently.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec

from ssdnet_core.errors import SsdnetError
from ssdnet_core.working_size import MIN_SIDE
from tasks.batch import MAPS
from tasks.manifest import Manifest
from tasks.records import ImageRecord, record_key
from tasks.storage import Storage
from tasks.storage_answers import FAILURES, MissingObjectError, StorageError, reason_of
from tasks.zarr_store import MAPS_METADATA, METADATA, open_store, understood, writing

ANOMALY_MAP = "anomaly_map"
CHUNK = r"c/(\d+)/\d+/\d+"
"""Keys of the array's chunks, by image; what else lies there, as a Mac's ``._0``, is none."""

LEAST_CHUNK = 256
"""Side of a chunk at least, in working pixels, unless the working size is smaller."""

READERS = 8
"""Threads that look whether maps are what their records say: with an object store they mostly wait."""

COMPRESSOR = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
MAP_ATTRIBUTES: dict[str, Any] = {
    "long_name": "anomaly map at working size",
    "units": "robust standard deviations of the image itself",
    "description": "NaN beyond an image's working_height and working_width, and where there is no map. Pixels that do "
    "not count (masked, in a frame or blank ground) have what lies around them: mask them before statistics.",
}


class LostMapError(SsdnetError):
    """The map of an inspected image is missing, or is not the one that the image's record is of."""


def prepare_maps(folder: Storage, manifest: Manifest) -> None:
    """Create the store's map array, or fit it to the manifest's images; maps already written of these stay.

    The canvas is as large as the largest map. So is a chunk, but at least `LEAST_CHUNK`: a tiny first image must not
    set its size for ever. If the canvas grows once there are maps, the chunk size stays: a larger image then has
    several chunks, each still of one image.

    Raises
    ------
    DamagedBatchError
        If the metadata of the store or of its map array cannot be understood.
    StorageError
        If the store cannot be written.
    """
    canvas = _canvas(manifest)
    shape = (len(manifest.entries), *canvas)
    chunks = (1, *(max(side, _least_side(manifest)) for side in canvas))
    with writing(folder, "the array of maps"):
        for metadata in (MAPS_METADATA, f"{MAPS}/{ANOMALY_MAP}/{METADATA}"):
            if not folder.holds_all([metadata]):
                folder.delete(metadata)  # A power cut may have emptied it.
        group = open_store(folder, "a")
        try:
            array = open_maps(folder, "r+")
        except FileNotFoundError:
            array = None
        if array is None or _outgrown(array, chunks):
            group.create_array(
                ANOMALY_MAP,
                shape=shape,
                chunks=chunks,
                dtype="float16",
                fill_value=np.nan,
                compressors=COMPRESSOR,
                dimension_names=("image", "y", "x"),
                attributes=MAP_ATTRIBUTES,
                overwrite=True,
            )
            return
        # Of more images, if a manifest was lost and made anew of fewer: xarray would not open the figures beside them.
        fitting = (shape[0], *(max(old, new) for old, new in zip(array.shape[1:], canvas, strict=True)))
        if fitting != array.shape:
            array.resize(fitting)


def write_map(folder: Storage, index: int, *, anomaly_map: npt.NDArray[np.float32]) -> str:
    """Write one image's map, (h, w), into its own chunk and return the SHA-256 of the stored bytes.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    stored = np.clip(anomaly_map, 0, np.finfo(np.float16).max).astype(np.float16)
    with writing(folder, f"the map of image {index}"):
        array = open_maps(folder, "r+")
        canvas = np.full(array.shape[1:], np.nan, dtype=np.float16)
        canvas[: stored.shape[0], : stored.shape[1]] = stored
        array[index] = canvas
    return _digest(stored)


def clear_maps(folder: Storage, indices: Sequence[int]) -> None:
    """Leave no map of these images: NaN, and no chunk.

    Raises
    ------
    StorageError
        If they cannot be cleared.
    """
    if not indices:
        return
    with writing(folder, "which images have no map"):
        array = open_maps(folder, "r+")
        for index in indices:
            array[index] = np.nan


def read_map(folder: Storage, record: ImageRecord, *, original_size: bool = False) -> npt.NDArray[np.float32]:
    """Read one image's map: (h, w) float32 at working size, or (H, W) at the image's own size.

    Raises
    ------
    LostMapError
        If it is not there, is another one than the record's, or cannot be understood.
    DamagedBatchError
        If the metadata of all maps cannot be understood.
    StorageError
        If the store does not give it, though it has it.
    """
    try:
        array = open_maps(folder, "r")
        stored = np.asarray(array[record.index, : record.working_height, : record.working_width])
    # An array shorter than its records, as a partial copy leaves it, raises an IndexError.
    except (RuntimeError, ValueError, IndexError, FileNotFoundError) as error:
        raise LostMapError(_lost(folder, record, reason=f"cannot be read: {error}")) from error
    except FAILURES as error:
        told = f"cannot read the map of {record.key} in {folder.address}/{MAPS}: {reason_of(error)}"
        raise StorageError(told) from error
    if np.isnan(stored).any():
        raise LostMapError(_lost(folder, record, reason="is gone"))
    if _digest(stored) != record.map_digest:
        raise LostMapError(_lost(folder, record, reason="is not the one that its record is of"))
    working = stored.astype(np.float32)
    if not original_size:
        return working
    from ssdnet_core.localization import enlarge_map

    return enlarge_map(working, (record.height, record.width))


def damaged_maps(folder: Storage, records: Iterable[ImageRecord]) -> set[int]:
    """Return which of the inspected images have no map, or another one than their record's, by index.

    Raises
    ------
    DamagedBatchError
        If the metadata of all maps cannot be understood.
    StorageError
        If the store does not give a map that it has: taken for damaged, its image would be inspected again.
    """

    def is_damaged(record: ImageRecord) -> bool:
        try:
            read_map(folder, record)
        except LostMapError:
            return True
        return False

    inspected = [record for record in records if record.inspected]
    with ThreadPoolExecutor(READERS) as readers:
        lost = list(readers.map(is_damaged, inspected))
    return {record.index for record, is_lost in zip(inspected, lost, strict=True) if is_lost}


def _digest(stored: npt.NDArray[np.float16]) -> str:
    return hashlib.sha256(stored.tobytes()).hexdigest()


def _lost(folder: Storage, record: ImageRecord, *, reason: str) -> str:
    return (
        f"the map of {record.key} in {folder.address}/{MAPS} {reason}. Delete "
        f"{folder.address}/{record_key(record.index)} and run the batch's `ssdnet inspect` again, which inspects that "
        "image once more"
    )


def written_maps(folder: Storage) -> set[int]:
    """Return the indices of the images that have a map; one that a power cut emptied is none.

    Without the array's metadata none counts, since :func:`prepare_maps` begins anew then.
    """
    try:
        listed = {stored.key for stored in folder.below(f"{MAPS}/{ANOMALY_MAP}").list() if stored.size}
    except MissingObjectError:
        return set()
    chunks = {int(name[1]) for name in (re.fullmatch(CHUNK, key) for key in listed) if name}
    return chunks if METADATA in listed else set()


def open_maps(folder: Storage, mode: Literal["r", "r+"]) -> "zarr.Array[Any]":
    """Open the array of all anomaly maps.

    Raises
    ------
    DamagedBatchError
        If its metadata cannot be understood.
    FileNotFoundError
        If there is none.
    """
    # Directly, with its format given, which reads one object; through the group it would be four.
    maps = folder.below(f"{MAPS}/{ANOMALY_MAP}")
    with understood(maps, advice=f"delete {folder.address}/{MAPS}, and inspect again: its images are inspected anew"):
        return zarr.open_array(maps.address, mode=mode, zarr_format=3, storage_options=maps.options or None)


def _canvas(manifest: Manifest) -> tuple[int, int]:
    size, least = manifest.config.working_size, _least_side(manifest)
    # One that is refused for its size has no map: a line of pixels would make the canvas of all others huge.
    mapped = [entry for entry in manifest.entries if not entry.problem and min(entry.height, entry.width) >= MIN_SIDE]
    shapes = [entry.working_shape(size) for entry in mapped] or [(least, least)]
    return max(height for height, _ in shapes), max(width for _, width in shapes)


def _least_side(manifest: Manifest) -> int:
    return min(manifest.config.working_size, LEAST_CHUNK)


def _outgrown(array: "zarr.Array[Any]", chunks: tuple[int, ...]) -> bool:
    """Whether larger chunks are wanted and no map is lost by them."""
    larger = any(new > old for new, old in zip(chunks, array.chunks, strict=True))
    return larger and array.nchunks_initialized == 0
