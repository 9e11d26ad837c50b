"""Made images whose defects are known, to try the system on."""

from PIL import Image

from ssdnet_core.flaws import DefectKind
from ssdnet_core.synthetic import TEXTURE_KINDS, sample
from tasks.labelled_image import DEFECTS, LabelledImage, count_defective, kind_of, png, refuse_others
from tasks.storage import Storage

GOOD_SHARE = 3
"""One image in so many has no defect."""


def write_sample_night(folder: Storage, *, images: int, seed: int = 0) -> int:
    """Write images of all textures, most with a defect, and their truth masks; return how many are defective.

    Parameters
    ----------
    images
        Number of images, each 256 x 256 pixels. The first is good, the second has a defect.
    seed
        The same seed makes the same night.

    Raises
    ------
    StorageError
        If the folder holds labelled images of another sample, or cannot be written.
    """
    kinds = [TEXTURE_KINDS[number % len(TEXTURE_KINDS)] for number in range(images)]
    labelled = [LabelledImage(kind, _defect(number), f"{number:03d}") for number, kind in enumerate(kinds)]
    refuse_others(folder, labelled)
    for number, (kind, image) in enumerate(zip(kinds, labelled, strict=True)):
        made = sample(kind, image.defect, seed=seed + number)
        image.write(folder, Image.fromarray(made.pixels), truth=made.truth)
    return count_defective(labelled)


def write_line_night(folder: Storage, *, images: int, seed: int = 0) -> None:
    """Write what one line's camera takes in a night: images of one texture side by side, named after their defects.

    Parameters
    ----------
    images, seed
        As for :func:`write_sample_night`.
    """
    for number in range(images):
        made = sample("weave", _defect(number), seed=seed + number)
        folder.write(f"{number:03d}-{kind_of(made.defect)}.png", png(Image.fromarray(made.pixels)))


def _defect(number: int) -> DefectKind:
    # Walks through all pairs of texture and defect.
    return "none" if number % GOOD_SHARE == 0 else DEFECTS[(number * 5 // 3) % len(DEFECTS)]
