"""Whether an image is exposed so that its structure shows: clipped values have none. Not from the paper."""

import numpy as np
import numpy.typing as npt

MUCH_CLIPPED = 0.3
"""Share of pixels of one extreme value from which on medians tell little: 371 photographs have 0.28 at most."""

LOOKED_AT = 512
"""Pixels along the short side, about."""


def clipped_shares(pixels: npt.NDArray[np.generic], counted: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the shares of the pixels that have the darkest and the brightest value of all in every channel.

    Of a large image every few pixels are looked at: a share needs no more.

    Parameters
    ----------
    pixels
        (H, W, C).
    counted
        (H, W) bool, where a pixel counts, somewhere.
    """
    step = max(1, min(counted.shape) // LOOKED_AT)
    values = pixels[::step, ::step][counted[::step, ::step]]
    if not len(values):
        return 0.0, 0.0
    darkest, brightest = values.min(), values.max()
    return float((values == darkest).all(axis=1).mean()), float((values == brightest).all(axis=1).mean())
