"""Images whose defects are known, to try the system on: made ones, or good photographs with planted defects."""

import io
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from ssdnet_core.errors import InvalidImageError
from ssdnet_core.flaws import DEFECT_KINDS, DefectKind, plant
from ssdnet_core.synthetic import TEXTURE_KINDS, sample
from tasks.decoding import DecodeError, decode
from tasks.discovery import list_images, split_input
from tasks.storage import Storage

GOOD_SHARE = 3
"""One image in so many has no defect."""

OF_EACH_PHOTOGRAPH = 4
"""As it is, and with three defects."""

DEFECTS: tuple[DefectKind, ...] = tuple(kind for kind in DEFECT_KINDS if kind != "none")


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
        defective += _write(
            folder,
            Image.fromarray(made.pixels),
            made.truth,
            category=made.kind,
            defect=made.defect,
            name=f"{number:03d}",
        )
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
        folder.write(f"{number:03d}-{_kind(made.defect)}.png", _png(Image.fromarray(made.pixels)))


def write_planted_night(
    folder: Storage,
    photographs: str,
    *,
    images: int | None = None,
    seed: int = 0,
    track: Callable[[list[str]], Iterable[str]] = iter,
) -> tuple[int, int]:
    """Write good photographs as they are and with defects planted into them, in MVTec-AD layout with their truth.

    Parameters
    ----------
    photographs
        Folder, glob, file or ``s3://`` prefix of photographs of a good surface, 8 or 16 bits (written as 8). Each
        folder of them becomes a category. What is transparent stays so.
    images
        How many to write: first each photograph as it is, then each with one defect, with another, and so on; by
        default four of each.
    seed
        The same seed plants the same defects.
    track
        Passes the photographs' keys on one by one: for a progress bar.

    Returns
    -------
    written, defective
        Numbers of images.

    Raises
    ------
    InvalidImageError
        If a photograph cannot be read, or no defect can be planted into it.
    StorageError
        If there are none, or a folder cannot be read or written.
    """
    source, pattern = split_input(photographs)
    listed = [entry.key for entry in list_images(source, pattern, outside=[folder.address])]
    count = OF_EACH_PHOTOGRAPH * len(listed) if images is None else images
    defective = 0
    for place, key in enumerate(track(listed[:count])):
        try:
            good = decode(source.read(key))
            surface = _eight_bits(good.pixels)
            for number in range(place, count, len(listed)):
                defect = "none" if number == place else DEFECTS[(place + number // len(listed)) % len(DEFECTS)]
                pixels, truth = plant(surface, defect, seed=seed + number)
                picture = Image.fromarray(pixels)
                if good.mask is not None:
                    picture.putalpha(Image.fromarray(np.where(good.mask, np.uint8(0), np.uint8(255))))
                category = PurePosixPath(source.name, key).parent.name
                name = f"{place:04d}_{PurePosixPath(key).stem}_{number // len(listed)}"
                defective += _write(folder, picture, truth, category=category, defect=defect, name=name)
        except (DecodeError, InvalidImageError) as error:
            raise InvalidImageError(f"no defect can be planted into {source.path(key)}: {error}") from error
    return count, defective


def _eight_bits(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    if pixels.dtype == np.uint16:
        return np.rint(pixels.astype(np.float64) / 257).astype(np.uint8)
    raise InvalidImageError(f"its pixels are {pixels.dtype}, of no known white: save it with 8 or 16 bits")


def _defect(number: int) -> DefectKind:
    # Walks through all pairs of texture and defect.
    return "none" if number % GOOD_SHARE == 0 else DEFECTS[(number * 5 // 3) % len(DEFECTS)]


def _kind(defect: DefectKind) -> str:
    return "good" if defect == "none" else defect


def _write(
    folder: Storage,
    picture: Image.Image,
    truth: npt.NDArray[np.bool_],
    *,
    category: str,
    defect: DefectKind,
    name: str,
) -> bool:
    """Write an image, and its mask if it has a defect; return whether it has."""
    kind = _kind(defect)
    folder.write(f"{category}/test/{kind}/{name}.png", _png(picture))
    if defect == "none":
        return False
    folder.write(f"{category}/ground_truth/{kind}/{name}_mask.png", _png(Image.fromarray(truth)))
    return True


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
