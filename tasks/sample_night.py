"""Images whose defects are known, to try the system on: made ones, or good photographs with planted defects."""

import io
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from ssdnet_core.errors import InvalidImageError, UsageError
from ssdnet_core.flaws import DEFECT_KINDS, DefectKind, InvisibleDefectError, check_photograph, plant
from ssdnet_core.synthetic import TEXTURE_KINDS, sample
from tasks.address import lies_in
from tasks.decoding import DecodeError, decode
from tasks.discovery import NothingToInspectError, list_images
from tasks.input_address import split_input
from tasks.storage import Storage, StoredObject
from tasks.storage_answers import StorageError
from tasks.truth import IMAGES_PATTERN, TruthError, truth_key
from tasks.words import counted

GOOD_SHARE = 3
"""One image in so many has no defect."""

OF_EACH_PHOTOGRAPH = 4
"""One as it is, 3 with a defect."""

LEAST_OF_EACH_PHOTOGRAPH = 2
"""One as it is, 1 with a defect: for fewer images, fewer photographs are used."""

PLACES_TRIED, SEED_STEP = 8, 2**20
"""How many places are tried for a defect to show, and what is added to the seed for each."""

WHITE_OF_16_BITS = 2**16 - 1

FOLDERS_OF_GOOD = ("good", "test", "train")
"""Names, in MVTec-AD layout, of the folders that good photographs lie in below that of their surface."""

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
        return f"{self.category}/test/{_kind(self.defect)}/{self.name}.png"

    def write(self, folder: Storage, picture: Image.Image, *, truth: npt.NDArray[np.bool_]) -> None:
        """Write the image, and its mask if it has a defect; over no other image."""
        if folder.exists(self.key) and not _shows(folder.read(self.key), picture):
            raise OtherImagesError(
                f"{folder.path(self.key)} is another image than this sample's, as of another seed, and is not written "
                "over: take another folder, or remove it"
            )
        folder.write(self.key, _png(picture))
        if mask := truth_key(self.key):
            folder.write(mask, _png(Image.fromarray(truth)))


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
    _refuse_others(folder, labelled)
    for number, (kind, image) in enumerate(zip(kinds, labelled, strict=True)):
        made = sample(kind, image.defect, seed=seed + number)
        image.write(folder, Image.fromarray(made.pixels), truth=made.truth)
    return _defective(labelled)


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
    _refuse_others(folder, everything)
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
    return count, _defective(everything)


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


def _refuse_others(folder: Storage, labelled: Sequence[LabelledImage]) -> None:
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


def _defective(labelled: Sequence[LabelledImage]) -> int:
    return sum(image.defect != "none" for image in labelled)


def _eight_bits(pixels: npt.NDArray[np.generic], *, white: int) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    if pixels.dtype == np.uint16:
        return np.rint(pixels.astype(np.float64) * (255 / white)).astype(np.uint8)
    raise InvalidImageError(f"its pixels are {pixels.dtype}, of no known white: save it with 8 or 16 bits")


def _defect(number: int) -> DefectKind:
    # Walks through all pairs of texture and defect.
    return "none" if number % GOOD_SHARE == 0 else DEFECTS[(number * 5 // 3) % len(DEFECTS)]


def _kind(defect: DefectKind) -> str:
    return "good" if defect == "none" else defect


def _shows(content: bytes, picture: Image.Image) -> bool:
    # Not by the bytes: another version of the library packs the same pixels otherwise.
    with suppress(OSError, SyntaxError):
        shown = Image.open(io.BytesIO(content))
        return shown.mode == picture.mode and np.array_equal(np.asarray(shown), np.asarray(picture))
    return False


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
