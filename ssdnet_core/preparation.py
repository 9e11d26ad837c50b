"""From a user's image to the working image: checked, brought to the working size, standardised."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssdnet_core.errors import InvalidImageError
from ssdnet_core.working_size import MIN_SIDE, working_shape

LARGEST = 1e30
STD_FLOOR = 1e-3
"""Keeps the sensor noise of an almost constant image from being blown up to a texture."""


@dataclass(frozen=True, eq=False)
class WorkingImage:
    """The image as the network sees it.

    Attributes
    ----------
    pixels
        (C, h, w) float32: zero mean in each channel, unit standard deviation over all; 0 where not valid.
    valid
        (1, h, w) float32, 1.0 where a pixel counts, else 0.0.
    mean, std
        What gives the image's own values back: ``pixels * std + mean``, in units of the full range; mean (C, 1, 1).
    full_range
        The value of white: 255, 65535, or for floating point the spread of the image's values.
    original_shape
        (H, W) of the image given.
    """

    pixels: Tensor
    valid: Tensor
    mean: Tensor
    std: Tensor
    full_range: float
    original_shape: tuple[int, int]

    @property
    def constant(self) -> bool:
        """Whether all valid pixels have the same value, so that there is no structure to fit."""
        return not bool(self.pixels.any())


def prepare(
    image: npt.NDArray[np.generic], mask: npt.NDArray[np.bool_] | None, *, working_size: int, border: float = 0.0
) -> WorkingImage:
    """Check an image and bring it to the working size.

    Parameters
    ----------
    image
        (H, W) or (H, W, C) with C = 1 or 3; uint8, uint16, float32 or float64; both sides at least 32.
    mask
        (H, W) bool, True where a pixel does not count (missing, or outside the region of interest).
    border
        Share of the height and width that does not count along each side.
    working_size
        Length in pixels that the short side is brought down to; a smaller image keeps its size.

    Raises
    ------
    InvalidImageError
        If the image or its mask is none of the above, or no pixel is left.
    """
    check_image(image, mask)
    pixels = image if image.ndim == 3 else image[:, :, None]
    height, width = pixels.shape[:2]
    mask = _with_border(mask, (height, width), border)
    # Copies in one memory order: torch sums in that of its input, and the last bits would follow.
    counted = np.ones((height, width), dtype=np.float32) if mask is None else np.array(~mask, np.float32, order="C")
    valid = torch.from_numpy(counted)[None, None]
    colour = torch.from_numpy(np.array(pixels, dtype=np.float32, order="C")).permute(2, 0, 1)[None]
    full_range = _full_range(pixels, counted > 0)
    # Products with the mask, not copies of what lies under it: hidden values (even NaN) must not leak out.
    colour = torch.where(valid > 0, colour / full_range, 0.0)
    colour, valid = _shrink(colour, valid, working_shape((height, width), working_size=working_size))
    return _standardise(colour[0], valid[0], full_range=full_range, original_shape=(height, width))


def check_image(image: npt.NDArray[np.generic], mask: npt.NDArray[np.bool_] | None) -> None:
    """Raise :class:`InvalidImageError` if an image, or its mask, cannot be inspected."""
    if not isinstance(image, np.ndarray):
        raise InvalidImageError(f"image is a {type(image).__name__}, not a numpy array: pass np.asarray(image)")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        hint = "; pass the alpha channel as the mask" if image.ndim == 3 and image.shape[2] in (2, 4) else ""
        raise InvalidImageError(f"image has shape {image.shape}: (H, W), (H, W, 1) or (H, W, 3) is needed{hint}")
    if image.dtype not in (np.uint8, np.uint16, np.float32, np.float64):
        raise InvalidImageError(f"image has dtype {image.dtype}: convert it to uint8, uint16, float32 or float64")
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise InvalidImageError(f"image of {height} x {width} pixels is smaller than {MIN_SIDE} x {MIN_SIDE}")
    if mask is not None:
        if not isinstance(mask, np.ndarray):
            raise InvalidImageError(f"mask is a {type(mask).__name__}, not a numpy array: pass np.asarray(mask)")
        if mask.shape != (height, width) or mask.dtype != np.bool_:
            raise InvalidImageError(
                f"mask has shape {mask.shape} and dtype {mask.dtype}, the image {height} x {width} pixels: "
                "pass a bool array of the image's height and width, True where a pixel does not count"
            )
        if mask.all():
            raise InvalidImageError("the mask leaves no pixel of the image: nothing to inspect")
    counted = image if mask is None else image[~mask]
    if not np.isfinite(counted).all():
        raise InvalidImageError("image has NaN or infinite values outside the mask: mask those pixels")
    if np.issubdtype(image.dtype, np.floating):
        largest = float(np.abs(counted).max())
        if largest > LARGEST or 0 < largest < 1 / LARGEST:
            raise InvalidImageError(
                f"image has values up to {largest:g}, beyond the range of {1 / LARGEST:g} to {LARGEST:g}: scale it to 0..1"
            )


def _with_border(
    mask: npt.NDArray[np.bool_] | None, shape: tuple[int, int], border: float
) -> npt.NDArray[np.bool_] | None:
    down, right = (round(border * side) for side in shape)
    if down == right == 0:
        return mask
    outside = np.ones(shape, dtype=bool)
    outside[down : shape[0] - down, right : shape[1] - right] = False
    return outside if mask is None else mask | outside


def _full_range(pixels: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_]) -> float:
    if np.issubdtype(pixels.dtype, np.integer):
        return float(np.iinfo(pixels.dtype).max)  # type: ignore[type-var]
    counted = pixels[valid].astype(np.float64)
    spread = float(counted.max() - counted.min())
    return spread if spread > 1e-6 * float(np.abs(counted).max()) else max(1.0, float(np.abs(counted).max()))


def _shrink(colour: Tensor, valid: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    if size == tuple(colour.shape[-2:]):
        return colour, valid
    weight = _resample(valid, size)
    kept = weight > 0.5
    # A weighted mean over the valid pixels in the filter's reach.
    return torch.where(kept, _resample(colour * valid, size) / weight.clamp_min(0.5), 0.0), kept.float()


def _resample(values: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.nn.functional.interpolate(values, size=list(size), mode="bicubic", antialias=True, align_corners=False)


def _standardise(colour: Tensor, valid: Tensor, *, full_range: float, original_shape: tuple[int, int]) -> WorkingImage:
    if not bool(valid.any()):
        raise InvalidImageError("the mask leaves no pixel of the image at the working size: mask less")
    count = valid.sum()
    mean = (colour * valid).sum((-2, -1), keepdim=True) / count
    centred = (colour - mean) * valid
    std = (centred.square().sum() / (count * colour.shape[0])).sqrt()
    # Below a hundredth of a grey level there is rounding, no structure.
    pixels = centred / (std + STD_FLOOR) if float(std) > 1e-5 else torch.zeros_like(centred)
    return WorkingImage(
        pixels=pixels,
        valid=valid,
        mean=mean,
        std=std + STD_FLOOR,
        full_range=full_range,
        original_shape=original_shape,
    )
