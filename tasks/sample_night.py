"""A small night of made images whose defects are known, to try the system on: MVTec-AD layout."""

import io

from PIL import Image

from ssdnet_core.synthetic import DEFECT_KINDS, TEXTURE_KINDS, DefectKind, SyntheticImage, sample
from tasks.storage import Storage

GOOD_SHARE = 3
"""One image in so many has no defect."""


def write_sample_night(folder: Storage, *, images: int, seed: int = 0) -> int:
    """Write images of all textures, most with a defect, and their truth masks; return how many are defective.

    Parameters
    ----------
    images
        Number of images, each 256 x 256 pixels.
    seed
        The same seed makes the same night.
    """
    defective = 0
    for number in range(images):
        made = sample(TEXTURE_KINDS[number % len(TEXTURE_KINDS)], _defect(number), seed=seed + number)
        defective += _write(folder, made, name=f"{number:03d}")
    return defective


def write_line_night(folder: Storage, *, images: int, seed: int = 0) -> None:
    """Write what one line's camera takes in a night: images of one texture side by side, named after their defects.

    Parameters
    ----------
    images, seed
        As for :func:`write_sample_night`.
    """
    for number in range(images):
        made = sample("weave", _defect(number), seed=seed + number)
        folder.write(f"{number:03d}-{_kind(made)}.png", _png(Image.fromarray(made.pixels)))


def _defect(number: int) -> DefectKind:
    defects = [kind for kind in DEFECT_KINDS if kind != "none"]
    # Walks through all pairs of texture and defect.
    return "none" if number % GOOD_SHARE == 0 else defects[(number * 5 // 3) % len(defects)]


def _kind(made: SyntheticImage) -> str:
    return "good" if made.defect == "none" else made.defect


def _write(folder: Storage, made: SyntheticImage, *, name: str) -> bool:
    kind = _kind(made)
    folder.write(f"{made.kind}/test/{kind}/{name}.png", _png(Image.fromarray(made.pixels)))
    if kind == "good":
        return False
    folder.write(f"{made.kind}/ground_truth/{kind}/{name}_mask.png", _png(Image.fromarray(made.truth)))
    return True


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
