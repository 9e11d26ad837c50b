"""A small region of interest: where little of an image counts, all is done on a box around what counts.

In the whole image most of the fit's crops would show nothing, and the blind reconstruction would normalise by what is
hidden. Not from the paper.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

Value = TypeVar("Value", bound=np.generic)

MOST_OF_IMAGE = 0.5
"""Largest share of the image that a box may cover. If it would cover more, the whole image is used: so images whose
frames differ a little keep the same size."""

SIDE_STEP = 32
"""The sides of a box are multiples of this number of pixels, unless the image ends before: regions of nearly the same
size can then still be fitted together."""


@dataclass(frozen=True)
class Box:
    """A part of an image of ``size`` (h, w): rows from ``top`` to before ``bottom``, columns ``left`` to ``right``."""

    top: int
    bottom: int
    left: int
    right: int
    size: tuple[int, int]

    @classmethod
    def whole(cls, size: tuple[int, int]) -> "Box":
        """Return the box of a whole image (h, w)."""
        return cls(0, size[0], 0, size[1], size)

    def cut(self, values: Tensor) -> Tensor:
        """Return what lies in the box of values (C, h, w), in memory as the box alone would lie there."""
        part = values[:, self.top : self.bottom, self.left : self.right]
        # The colours of a pixel lie side by side in memory; a box that is the whole image is returned as it is.
        return values if part.shape == values.shape else part.movedim(0, -1).contiguous().movedim(-1, 0)

    def paste(self, values: npt.NDArray[Value], *, beyond: npt.ArrayLike) -> npt.NDArray[Value]:
        """Return an image (h, w, ...) with a copy of values (rows, columns, ...) in the box, ``beyond`` outside."""
        whole = np.empty((*self.size, *values.shape[2:]), dtype=values.dtype)
        whole[:] = beyond
        whole[self.top : self.bottom, self.left : self.right] = values
        return whole


def box_of_what_counts(valid: Tensor, *, least: int) -> Box:
    """Return a box around the pixels that count, or the whole image if the box is more than half of it.

    Parameters
    ----------
    valid
        (1, h, w), 1.0 where a pixel counts.
    least
        Shortest side of the box in pixels, unless the image is shorter; rounded up to a multiple of ``SIDE_STEP``.
    """
    height, width = valid.shape[-2:]
    counted = valid[0] > 0
    if not counted.any():
        return Box.whole((height, width))
    top, bottom = _around(counted.any(1), least=least)
    left, right = _around(counted.any(0), least=least)
    if (bottom - top) * (right - left) > MOST_OF_IMAGE * height * width:
        return Box.whole((height, width))
    return Box(top, bottom, left, right, size=(height, width))


def _around(counted: Tensor, *, least: int) -> tuple[int, int]:
    """Return where the box begins and ends along a line: centred on its counted pixels where it can be."""
    places = counted.nonzero()[:, 0]
    first, last = int(places[0]), int(places[-1]) + 1
    side = min(-(-max(least, last - first) // SIDE_STEP) * SIDE_STEP, len(counted))
    begin = min(max(0, first - (side - (last - first)) // 2), len(counted) - side)
    return begin, begin + side
