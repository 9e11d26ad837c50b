"""Many images fitted side by side: a graphics processor is far from busy with one.

Images of one working shape share each step of the fit, their networks stacked in the channels
(:mod:`ssdnet_core.network`). The result of an image does not depend on its group.
"""

import gc
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from ssdnet_core.config import MAX_GROUP, Config
from ssdnet_core.devices import resolve_device
from ssdnet_core.errors import DivergedError, InvalidConfigError, InvalidImageError
from ssdnet_core.evidence import Evidence, gather_evidence
from ssdnet_core.input_checks import check_config
from ssdnet_core.localization import Localization, judged
from ssdnet_core.preparation import WorkingImage, prepare

Item = TypeVar("Item")
Result = TypeVar("Result")

FREE_SHARE = 0.7
"""Share of a GPU's free memory that a group may take; the rest is for what convolutions need while they run."""


def localize_group(
    images: Sequence[npt.NDArray[np.generic]],
    masks: Sequence[npt.NDArray[np.bool_] | None] | None = None,
    *,
    config: Config | None = None,
    size: int | None = None,
) -> list[Localization]:
    """Localize many images, those of the same working shape together.

    Parameters
    ----------
    images, masks, config
        As for :func:`~ssdnet_core.localize`, whose result each image gets, within the rounding of the arithmetic.
    size
        Most images in a group; on a GPU also no more than its free memory holds. By default 1 on a processor, which one
        image keeps busy. A group that turns out to be too large is halved and tried again.

    Returns
    -------
    list of Localization
        In the order of the images.

    Raises
    ------
    InvalidImageError
        If one of the images or masks cannot be inspected, or there are not as many masks as images; before anything is
        fitted.
    InvalidConfigError
        If ``size`` is no whole number of at least 1, the settings are no :class:`Config`, or a masked block would leave
        no context.
    DeviceUnavailableError
        If ``config.device`` does not exist.
    DivergedError
        If what came of one of the images is no number.
    MemoryError
        If the device cannot hold a single image.
    """
    config = Config() if config is None else config
    check_config(config)
    if size is not None and (isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1):
        raise InvalidConfigError(f"a group of {size} images cannot be: pass a whole number of at least 1, or none")
    hidden = masks if masks is not None else [None] * len(images)
    if len(hidden) != len(images):
        raise InvalidImageError(
            f"{len(images)} images came with {len(hidden)} masks: pass one for each image, None where all pixels count"
        )
    working = []
    for index, (image, mask) in enumerate(zip(images, hidden, strict=True)):
        with _naming_image(index):
            working.append(prepare(image, mask, config=config))
    localizations = []
    for index, evidence in enumerate(evidence_of_group(working, config, size=size)):
        with _naming_image(index):
            localizations.append(judged(evidence, config))
    return localizations


@contextmanager
def _naming_image(index: int) -> Iterator[None]:
    try:
        yield
    except (InvalidImageError, DivergedError) as error:
        raise type(error)(f"images[{index}]: {error}") from error


def evidence_of_group(working: Sequence[WorkingImage], config: Config, *, size: int | None = None) -> list[Evidence]:
    """Fit and score many working images, as :func:`localize_group` does, and leave the verdict to the caller."""
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, image in enumerate(working):
        alike[tuple(image.pixels.shape)].append(index)
    found: dict[int, Evidence] = {}
    for shape, indices in alike.items():
        evidence = in_groups(
            [working[index] for index in indices],
            lambda group: gather_evidence(group, config),
            size=group_size(shape, config, device=resolve_device(config.device), most=size),
        )
        found.update(zip(indices, evidence, strict=True))
    return [found[index] for index in range(len(working))]


def in_groups(items: Sequence[Item], work: Callable[[Sequence[Item]], list[Result]], *, size: int) -> list[Result]:
    """Do the work on groups of at most ``size`` items; where memory does not suffice, go on with half that many.

    Raises
    ------
    MemoryError
        If memory does not suffice for a single item.
    """
    results: list[Result] = []
    while len(results) < len(items):
        group = items[len(results) : len(results) + size]
        found, failure = _attempt(group, work)
        if failure is None:
            results += found
            continue
        if len(group) == 1:
            raise MemoryError(f"one image alone does not fit: set a smaller working_size or fit.crop ({failure})")
        size = len(group) // 2
    return results


def group_size(shape: tuple[int, ...], config: Config, *, device: torch.device, most: int | None = None) -> int:
    """Return how many images of a working shape (C, h, w) are fitted together.

    At most ``most``; on a GPU also no more than its free memory allows, on a processor 1 if ``most`` is None.
    """
    if device.type != "cuda":
        return most or 1
    free, _ = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(1, min(most or MAX_GROUP, int(FREE_SHARE * (free + cached) / bytes_per_image(shape, config))))


def bytes_per_image(shape: tuple[int, ...], config: Config) -> int:
    """Return about how much memory an image (C, h, w) takes in bytes.

    It grows with the pixels of the fit's crops and of the blind reconstruction. Measured on a GPU, for groups of 16 and
    more in colour: 67 to 69 MB with 256 x 256, 231 with 512 x 512.
    """
    channels, height, width = shape
    crops = config.fit.batch * min(config.fit.crop, height) * min(config.fit.crop, width)
    pixels = 8 * crops + 5 * height * width
    return int(pixels * (16 * (channels + 1) + 64 * config.network.width / config.network.unshuffle**2))


def _attempt(group: Sequence[Item], work: Callable[[Sequence[Item]], list[Result]]) -> tuple[list[Result], str | None]:
    try:
        return work(group), None
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        # Python's own error has no text.
        failure = (str(error) or type(error).__name__).splitlines()[0]
    # Only now are the tensors of the failed attempt free: while it is handled, the error keeps their frames alive.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
    return [], failure


def _is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    # numpy, which selects medians, and Python raise a MemoryError. Other lacks of memory have no error class, and show
    # in the text: a processor's, from torch's allocator or oneDNN; a GPU's, from its libraries or CUDA itself, where
    # other processes took what torch did not hold; and those of MPS.
    texts = (
        "DefaultCPUAllocator",
        "could not create a primitive",
        "could not execute a primitive",
        "CUDA error: out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "MPS backend out of memory",
    )
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in texts)
