"""The truth of images: where their masks lie, and reading them. White is defect."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ssdnet_core.errors import SsdnetError, UsageError
from tasks.decoding import DecodeError
from tasks.discovery import TRUTH_FOLDER
from tasks.drawn_masks import white_pixels
from tasks.nights import Night
from tasks.storage import Storage, StoredObject
from tasks.storage_answers import MissingObjectError, StorageError

IMAGES_FOLDER = "test"
"""The folder of a category's images: they lie in a folder of it for each kind of defect, or deeper."""

IMAGES_PATTERN = f"**/{IMAGES_FOLDER}/*/**"
"""The images of a folder in MVTec-AD layout."""

GOOD = "good"
MASK_SUFFIX = ".png"


class TruthError(SsdnetError, ValueError):
    """An image's truth is of no use: it is not of the layout, or does not fit the image."""


class NoTruthError(StorageError, UsageError):
    """There is no truth of any night: a misspelt address must not look like a night that nobody has looked at."""


class Truth(Protocol):
    """What is known of the images of a batch."""

    def category(self, key: str) -> str:
        """Return what the image's metrics are averaged with."""

    def read(self, key: str, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Read the truth of an image: (H, W) bool as ``valid``, True at defective pixels that count.

        Raises
        ------
        TruthError
            If the image has none, or one that cannot be decoded or does not fit it.
        StorageError
            If the mask cannot be read.
        """

    def objects(self) -> list[StoredObject]:
        """List the masks: what changes when the truth does."""


@dataclass(frozen=True)
class MvtecTruth:
    """Truth masks of an input in MVTec-AD layout: one category, or several."""

    source: Storage

    def category(self, key: str) -> str:
        """Return the folder above ``test``; for keys that begin with it, the name of the input itself."""
        return "/".join(_in_layout(key)[0]) or self.source.name or "/"

    def read(self, key: str, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Read the truth of an image, as :meth:`Truth.read`; nothing is defective in a good one.

        A mask that marks nothing is a `TruthError`, too.
        """
        where = truth_key(key)
        if where is None:
            return np.zeros_like(valid)
        truth = _read(self.source, where, valid=valid)
        if not truth.any():
            raise TruthError(f"the truth {where} marks no pixel that counts: mark defects in white (255)")
        return truth

    def objects(self) -> list[StoredObject]:
        """List the masks of all categories."""
        return [stored for stored in self.source.list() if TRUTH_FOLDER in PurePosixPath(stored.key).parts[:-1]]


@dataclass(frozen=True)
class NightTruth:
    """Truth masks of one line, named as their images: ``003.png`` for ``003.jpg``.

    Images that somebody has looked at have a mask: a black one says that the image is good, and an image without one is
    not measured.

    Attributes
    ----------
    folder
        Folder of the masks of one night.
    line
        The category of all its images.
    """

    folder: Storage
    line: str

    def category(self, key: str) -> str:
        """Return the line."""
        return self.line

    def read(self, key: str, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Read the truth of an image, as :meth:`Truth.read`."""
        where = str(PurePosixPath(key).with_suffix(MASK_SUFFIX))
        return _read(self.folder, where, valid=valid)

    def objects(self) -> list[StoredObject]:
        """List the masks of the night."""
        return self.folder.list()


def find_truth(root: str, night: Night) -> NightTruth | None:
    """Return the truth of a night below that of all lines; None if nobody has looked at that night.

    Raises
    ------
    NoTruthError
        If there is nothing at the root either.
    StorageError
        If the store does not answer, or will not tell.
    """
    truth = NightTruth(night.below(root), night.line)
    if truth.folder.exists():
        return truth
    if not Storage(root).exists():
        raise NoTruthError(
            f"no truth at {Storage(root).address}: there is no such folder or bucket, or nothing under such a prefix: "
            f"correct the parameter truth of line {night.line!r}, or take it away; if nobody has drawn a mask yet, "
            "make the folder, or put an empty object .keep there"
        )
    return None


def truth_key(key: str) -> str | None:
    """Return where the truth mask of an image lies in the MVTec-AD layout, None for a good image.

    ``carpet/test/hole/000.png`` has ``carpet/ground_truth/hole/000_mask.png``, and folders below ``hole`` are kept; any
    other form is a `TruthError`.
    """
    category, below = _in_layout(key)
    if below[0] == GOOD:
        return None
    name = PurePosixPath(key).stem
    return str(PurePosixPath(*category, TRUTH_FOLDER, *below[:-1], f"{name}_mask{MASK_SUFFIX}"))


def _in_layout(key: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the folders above the last ``test`` that an image may lie below, and what follows it."""
    parts = PurePosixPath(key).parts
    for place in range(len(parts) - 3, -1, -1):
        if parts[place] == IMAGES_FOLDER:
            return parts[:place], parts[place + 1 :]
    raise TruthError(f"{key} is not of the form CATEGORY/test/DEFECT/NAME: is this a folder in MVTec-AD layout?")


def _read(folder: Storage, where: str, *, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    try:
        # Labels would leave it open which of them are defects.
        return white_pixels(folder.read(where), shape=valid.shape, labels=False) & valid
    except StorageError as error:
        # S3 denies access to a missing object to those who may not list the whole bucket.
        if not isinstance(error, MissingObjectError) and folder.exists(where):
            raise
        raise TruthError(f"there is no truth {where} in {folder.address}") from error
    except DecodeError as error:
        raise TruthError(f"the truth {where}: {error}") from error
