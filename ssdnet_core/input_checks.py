"""What an image, its mask and the settings must be: each error names the value, the reason and what to change."""

import numpy as np
import numpy.typing as npt

from ssdnet_core.config import Config
from ssdnet_core.errors import InvalidConfigError, InvalidImageError
from ssdnet_core.working_size import MIN_SIDE

LARGEST_MAGNITUDE = 1e30
"""Largest magnitude of a value; its inverse is the least that an image's largest may have: well inside float32."""


def check_config(config: Config) -> None:
    """Raise :class:`InvalidConfigError` if the settings are no :class:`Config`."""
    if not isinstance(config, Config):
        raise InvalidConfigError(
            f"config is a {type(config).__name__}, no Config: pass Config().updated({{'fit.steps': 50}}), or "
            "ssdnet_core.config.parse_config(config) of nested dictionaries"
        )


def check_image(image: npt.NDArray[np.generic]) -> None:
    """Raise :class:`InvalidImageError` if an image has a wrong type, shape or size."""
    if not isinstance(image, np.ndarray) or isinstance(image, np.matrix):
        raise InvalidImageError(f"image is a {type(image).__name__}, not a numpy array: pass np.asarray(image)")
    if isinstance(image, np.ma.MaskedArray):
        raise InvalidImageError(
            "image is a masked array, whose mask would not be looked at: pass image.filled(0), and as the mask "
            "np.ma.getmaskarray(image), in colour with .any(axis=2): True where a pixel does not count"
        )
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise InvalidImageError(
            f"image has shape {image.shape}: (H, W), (H, W, 1) or (H, W, 3) is needed{_without_alpha(image)}"
        )
    if image.dtype not in (np.uint8, np.uint16, np.float32, np.float64):
        raise InvalidImageError(f"image has dtype {image.dtype}: convert it to uint8, uint16, float32 or float64")
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise InvalidImageError(f"image of {width} x {height} pixels is smaller than {MIN_SIDE} x {MIN_SIDE}")


def _without_alpha(image: npt.NDArray[np.generic]) -> str:
    if image.ndim != 3 or image.shape[2] not in (2, 4):
        return ""
    alpha = image.shape[2] - 1
    half = np.iinfo(image.dtype).max // 2 + 1 if np.issubdtype(image.dtype, np.integer) else 0.5  # type: ignore[type-var]
    return f"; pass image[:, :, :{alpha}], and the alpha channel as the mask: image[:, :, {alpha}] < {half}"


def countable(shape: tuple[int, int], mask: npt.NDArray[np.bool_] | None, *, border: float) -> npt.NDArray[np.bool_]:
    """Return which pixels count, (H, W) bool: those outside the mask and the border.

    Parameters
    ----------
    mask
        (H, W) bool, True where a pixel does not count.
    border
        Share of the height and width that does not count along each side.

    Raises
    ------
    InvalidImageError
        If the mask is no mask for this shape, or no pixel is left.
    """
    height, width = shape
    counted = np.zeros(shape, dtype=bool)
    down, right = round(border * height), round(border * width)
    counted[down : height - down, right : width - right] = True
    if mask is None:
        return counted
    if isinstance(mask, np.ma.MaskedArray):
        raise InvalidImageError("mask is a masked array, whose own mask would not be looked at: pass mask.filled(True)")
    if not isinstance(mask, np.ndarray) or isinstance(mask, np.matrix):
        raise InvalidImageError(f"mask is a {type(mask).__name__}, not a numpy array: pass np.asarray(mask)")
    if mask.shape != shape or mask.dtype != np.bool_:
        raise InvalidImageError(
            f"mask has shape {mask.shape} and dtype {mask.dtype}, the image shape {shape}: "
            "pass a bool array of the image's height and width, True where a pixel does not count"
        )
    # In place, to keep this array's memory order: torch sums in that order, and the last bits would follow the mask's.
    counted &= ~mask
    if not counted.any():
        raise InvalidImageError(
            "no pixel of the image is left to inspect: all are masked, transparent, not finite in single precision or "
            "in the border"
        )
    return counted


def check_values(image: npt.NDArray[np.generic], counted: npt.NDArray[np.bool_]) -> None:
    """Raise :class:`InvalidImageError` if a pixel that counts is not finite or out of the arithmetic's range."""
    if np.issubdtype(image.dtype, np.integer):
        return
    values = image[counted]
    if not np.isfinite(values).all():
        raise InvalidImageError("image has NaN or infinite values outside the mask: mask those pixels")
    largest = max(abs(float(values.min())), abs(float(values.max())))
    if largest > LARGEST_MAGNITUDE or 0 < largest < 1 / LARGEST_MAGNITUDE:
        raise InvalidImageError(
            f"image has values up to {largest:g}, beyond the range of {1 / LARGEST_MAGNITUDE:g} to "
            f"{LARGEST_MAGNITUDE:g}: scale it to 0..1"
        )
