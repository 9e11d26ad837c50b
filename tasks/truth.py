"""The truth of a night: masks beside its images, for as many of them as somebody has looked at."""

from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from tasks.evaluation import TruthError, truth_pixels
from tasks.storage import Storage, StoredObject

SUFFIX = ".png"


@dataclass(frozen=True)
class NightTruth:
    """Truth masks of one line, named as their images: ``003.png`` for ``003.jpg``; white is defect.

    A black mask says that the image is good. An image without a mask is not measured.

    Attributes
    ----------
    folder
        Of the masks of one night.
    line
        The category of all its images.
    """

    folder: Storage
    line: str

    def exists(self) -> bool:
        """Whether there is any mask for this night."""
        return self.folder.exists()

    def objects(self) -> list[StoredObject]:
        """List the masks of the night."""
        return self.folder.list()

    def category(self, key: str) -> str:
        """Return the line."""
        return self.line

    def read(self, key: str, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Read the truth of an image: (H, W) bool as ``valid``, True at defective pixels that count.

        Raises
        ------
        TruthError
            If there is no mask, or it is not of the image's size.
        """
        where = str(PurePosixPath(key).with_suffix(SUFFIX))
        if not self.folder.exists(where):
            raise TruthError(f"there is no truth {where} in {self.folder.address}")
        return truth_pixels(self.folder.read(where), valid, where=where)
