"""An image whose defect is known, in MVTec-AD layout, and a folder of such images that is not mixed with others."""

import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from ssdnet_core.errors import UsageError
from ssdnet_core.flaws import DEFECT_KINDS, DefectKind
from tasks.discovery import NothingToInspectError, list_images
from tasks.storage import Storage
from tasks.storage_answers import StorageError
from tasks.truth import IMAGES_PATTERN, truth_key
from tasks.words import counted

DEFECTS: tuple[DefectKind, ...] = tuple(kind for kind in DEFECT_KINDS if kind != "none")


class OtherImagesError(StorageError, UsageError):
    """The folder holds labelled images that are not of this sample: mixed with it, or where it would write."""


@dataclass(frozen=True)
class LabelledImage:
    """An image's place in MVTec-AD layout.

    Attributes
    ----------
    category
        Folder of its surface.
    defect
        What is planted into it.
    name
        Of its file, without suffix.
    """

    category: str
    defect: DefectKind
    name: str

    @property
    def key(self) -> str:
        """Key of the image."""
        return f"{self.category}/test/{kind_of(self.defect)}/{self.name}.png"

    def write(self, folder: Storage, picture: Image.Image, *, truth: npt.NDArray[np.bool_]) -> None:
        """Write the image, and its mask if it has a defect; over no other image."""
        if folder.exists(self.key) and not _shows(folder.read(self.key), picture):
            raise OtherImagesError(
                f"{folder.path(self.key)} is another image than this sample's, as of another seed, and is not written "
                "over: take another folder, or remove it"
            )
        folder.write(self.key, png(picture))
        if mask := truth_key(self.key):
            folder.write(mask, png(Image.fromarray(truth)))


def refuse_others(folder: Storage, labelled: Sequence[LabelledImage]) -> None:
    """Raise an :class:`OtherImagesError` if a folder holds labelled images beside those of a sample."""
    # Where a defect would not show, another kind is planted.
    known = {replace(image, defect=kind).key for image in labelled for kind in _may_become(image.defect)}
    try:
        present = list_images(folder, IMAGES_PATTERN) if folder.exists() else []
    except NothingToInspectError:
        return
    if others := [entry.key for entry in present if entry.key not in known]:
        raise OtherImagesError(
            f"{folder.address} holds {counted(len(others), 'labelled image')} beside this sample, {others[0]} for one, "
            "and all would be measured together: take another folder, or remove what is not of it"
        )


def _may_become(wanted: DefectKind) -> tuple[DefectKind, ...]:
    return ("none",) if wanted == "none" else DEFECTS


def count_defective(labelled: Sequence[LabelledImage]) -> int:
    """Return how many images have a defect."""
    return sum(image.defect != "none" for image in labelled)


def kind_of(defect: DefectKind) -> str:
    """Return the folder of images with such a defect, or with none."""
    return "good" if defect == "none" else defect


def png(picture: Image.Image) -> bytes:
    """Return the content of a picture's PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _shows(content: bytes, picture: Image.Image) -> bool:
    # Not by the bytes: another version of the library packs the same pixels otherwise.
    with suppress(OSError, SyntaxError):
        shown = Image.open(io.BytesIO(content))
        return shown.mode == picture.mode and np.array_equal(np.asarray(shown), np.asarray(picture))
    return False
