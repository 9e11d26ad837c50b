"""Whether an image is exposed so that its structure shows: clipped values have none. Not from the paper."""

import numpy as np
import numpy.typing as npt

MUCH_CLIPPED = 0.3
"""Share of pixels of one extreme value from which on medians tell little: 371 photographs have 0.28 at most."""

LOOKED_AT = 2**18
"""Pixels at most: a share needs no more."""


def clipped_shares(pixels: npt.NDArray[np.generic], counted: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the shares of the pixels that have the darkest and the brightest value of all in every channel.

    Of a large image those of a sample, always the same one.

    Parameters
    ----------
    pixels
        (H, W, C).
    counted
        (H, W) bool, where a pixel counts, somewhere.
    """
    values = pixels.reshape(-1, pixels.shape[-1])
    seen = counted.ravel()
    if len(seen) > LOOKED_AT:
        # At random: a regular sample would meet a regular texture in step.
        places = np.random.default_rng(0).integers(len(seen), size=LOOKED_AT)
        values, seen = values[places], seen[places]
    values = values[seen]
    if not len(values):
        return 0.0, 0.0
    darkest, brightest = values.min(), values.max()
    return float((values == darkest).all(axis=1).mean()), float((values == brightest).all(axis=1).mean())
