"""Good photographs with planted defects, which are known: to try the system on one's own surface."""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from ssdnet_core.errors import InvalidImageError
from ssdnet_core.flaws import DefectKind, InvisibleDefectError, check_photograph, plant
from tasks.address import lies_in
from tasks.decoding import DecodeError, decode
from tasks.discovery import list_images
from tasks.input_address import split_input
from tasks.labelled_image import DEFECTS, LabelledImage, OtherImagesError, count_defective, refuse_others
from tasks.storage import Storage, StoredObject
from tasks.truth import TruthError, truth_key
from tasks.words import counted

OF_EACH_PHOTOGRAPH = 4
"""One as it is, 3 with a defect."""

LEAST_OF_EACH_PHOTOGRAPH = 2
"""One as it is, 1 with a defect: for fewer images, fewer photographs are used."""

PLACES_TRIED, SEED_STEP = 8, 2**20
"""How many places are tried for a defect to show, and what is added to the seed for each."""

WHITE_OF_16_BITS = 2**16 - 1

FOLDERS_OF_GOOD = ("good", "test", "train")
"""Names, in MVTec-AD layout, of the folders that good photographs lie in below that of their surface."""


def write_planted_night(
    folder: Storage,
    photographs: str,
    *,
    images: int | None = None,
    seed: int = 0,
    track: Callable[[list[str], str], Iterable[str]] = lambda keys, _: keys,
) -> tuple[int, int]:
    """Write good photographs as they are and with defects planted into them, in MVTec-AD layout with their truth.

    Parameters
    ----------
    photographs
        Folder, glob, file or ``s3://`` prefix of photographs of a good surface. Each folder of them becomes a category.
        What is transparent stays so. 16 bits are written as 8: white is the largest number of as many bits as the
        highest value of all photographs has, since cameras of 10 or 12 bits save theirs in 16.
    images
        How many to write: first each photograph as it is, then each with one defect, with another, and so on; by
        default four of each. If that is less than two of each, only half as many photographs are used as there are
        images, so that half of these have a defect; a single image is a photograph as it is.
    seed
        The same seed plants the same defects.
    track
        Passes the photographs' keys on one by one, and is told what is done with them: for a progress bar.

    Returns
    -------
    written, defective
        Numbers of images.

    Raises
    ------
    InvalidImageError
        If photographs cannot be read, or no defect can be planted into them.
    StorageError
        If there are none, some are labelled as defective, a folder cannot be read or written, or that to write to holds
        the photographs, or labelled images of another sample.
    """
    source, pattern = split_input(photographs)
    if lies_in(source.address, folder.address):
        raise OtherImagesError(
            f"the photographs of {source.address} lie in {folder.address}: those with defects would be mixed with "
            "them: take another folder for the sample"
        )
    there = list_images(source, pattern, outside=[folder.address])
    if defective := [entry.key for entry in there if _has_defect(entry.key)]:
        raise OtherImagesError(
            f"of the photographs of {source.address}, {len(defective)} lie in folders of defective images, as of an "
            f"earlier sample, {defective[0]} for one: name the folder of the good ones alone"
        )
    count = OF_EACH_PHOTOGRAPH * len(there) if images is None else images
    listed = _spread(there, most=math.ceil(count / LEAST_OF_EACH_PHOTOGRAPH))
    labelled = {entry.key: _planted(source, place, listed=listed, count=count) for place, entry in enumerate(listed)}
    everything = [image for of_photograph in labelled.values() for image in of_photograph.values()]
    refuse_others(folder, everything)
    keys = [entry.key for entry in listed]
    white = _white_of_fit(source, keys, track=track)
    for key in track(keys, "planting"):
        try:
            good = decode(source.read(key))
            surface = _eight_bits(good.pixels, white=white)
            for number, image in labelled[key].items():
                defect, pixels, truth = _planted_visibly(surface, image.defect, seed=seed + number)
                picture = Image.fromarray(pixels)
                if good.mask is not None:
                    picture.putalpha(Image.fromarray(np.where(good.mask, np.uint8(0), np.uint8(255))))
                replace(image, defect=defect).write(folder, picture, truth=truth)
        except (DecodeError, InvalidImageError) as error:
            raise InvalidImageError(f"no defect can be planted into {source.path(key)}: {error}") from error
    return count, count_defective(everything)


def _has_defect(key: str) -> bool:
    try:
        return truth_key(key) is not None
    except TruthError:
        return False  # Not labelled.


def _white_of_fit(source: Storage, keys: list[str], *, track: Callable[[list[str], str], Iterable[str]]) -> int:
    """Return the white of the photographs that have 16 bits.

    Those into which nothing can be planted are refused before anything is written: half a sample looks whole.
    """
    unfit, highest = [], 0
    for key in track(keys, "checking"):
        try:
            pixels = decode(source.read(key)).pixels
            check_photograph(_eight_bits(pixels, white=WHITE_OF_16_BITS))
        except (DecodeError, InvalidImageError) as error:
            unfit.append(f"{source.path(key)}: {error}")
        else:
            highest = max(highest, int(pixels.max()) if pixels.dtype == np.uint16 else 0)
    if unfit:
        raise InvalidImageError(
            f"no defect can be planted into {len(unfit)} of {counted(len(keys), 'photograph')}, and nothing was "
            f"written: take these out first:\n" + "\n".join(unfit)
        )
    return max(2 ** highest.bit_length() - 1, 255)


def _spread(listed: Sequence[StoredObject], *, most: int) -> Sequence[StoredObject]:
    # The first ones alone may be of one folder, hence of one surface.
    taken = min(most, len(listed))
    return [listed[place * len(listed) // taken] for place in range(taken)]


def _planted_visibly(
    surface: npt.NDArray[np.uint8], wanted: DefectKind, *, seed: int
) -> tuple[DefectKind, npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Return what was planted, the pixels and the truth: what is wanted, or else the next kind that shows anywhere."""
    if wanted == "none":
        return wanted, *plant(surface, wanted, seed=seed)
    # A photograph may be white or black beside the surface, where hardly a defect shows.
    first, places = DEFECTS.index(wanted), range(seed, seed + PLACES_TRIED * SEED_STEP, SEED_STEP)
    for kind in DEFECTS[first:] + DEFECTS[:first]:
        for place in places:
            with suppress(InvisibleDefectError):
                return kind, *plant(surface, kind, seed=place)
    raise InvisibleDefectError("it is black, white or without structure, so that no defect shows on it")


def _planted(source: Storage, place: int, *, listed: Sequence[StoredObject], count: int) -> dict[int, LabelledImage]:
    """Return what is made of one photograph, by number: as it is, then with one defect, with another, and so on."""
    key = PurePosixPath(listed[place].key)
    return {
        number: LabelledImage(
            category=_surface_of(source, key),
            defect="none" if number == place else DEFECTS[(place + number // len(listed)) % len(DEFECTS)],
            name=f"{place:04d}_{key.stem}_{number // len(listed)}",
        )
        for number in range(place, count, len(listed))
    }


def _surface_of(source: Storage, key: PurePosixPath) -> str:
    below, above = (_without_folders_of_good(path) for path in (key.parent, PurePosixPath(source.root)))
    return str(below) if below.name else above.name or source.name


def _without_folders_of_good(path: PurePosixPath) -> PurePosixPath:
    return _without_folders_of_good(path.parent) if path.name in FOLDERS_OF_GOOD else path


def _eight_bits(pixels: npt.NDArray[np.generic], *, white: int) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    if pixels.dtype == np.uint16:
        return np.rint(pixels.astype(np.float64) * (255 / white)).astype(np.uint8)
    raise InvalidImageError(f"its pixels are {pixels.dtype}, of no known white: save it with 8 or 16 bits")
