"""The size at which an image is worked on."""

MIN_SIDE = 32
"""Shortest side in pixels in which a network finds a context to learn from."""


def working_shape(shape: tuple[int, int], *, working_size: int) -> tuple[int, int]:
    """Return (h, w) for an image of (H, W): its short side brought down to ``working_size``, never enlarged.

    The short side, so that a strip of 4096 x 256 keeps its length.
    """
    scale = min(1.0, working_size / min(shape))
    height, width = (max(MIN_SIDE, round(side * scale)) for side in shape)
    return height, width
