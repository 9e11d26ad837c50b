"""Frames: dark or bright strips along an image's border that are no part of the surface, though not of a single value.

Beside such a strip all of the surface looks alike, and the strip would be found as the defect. Not from the paper.
"""

import math

import torch
from torch import Tensor

from ssdnet_core.filters import complete
from ssdnet_core.medians import row_medians

FRAME_CONTRAST = 0.25
"""Share of the brighter one's brightness by which frame and inside differ at least."""

FRAME_MARGIN = 3
"""Number of lines that the blurred edge of a frame may take."""

FRAME_SURROUNDINGS = 8
"""Number of lines further in that a line is compared with."""

NO_FRAME = (0, 0, 0, 0)


def find_frame(colour: Tensor, valid: Tensor) -> tuple[int, int, int, int]:
    """Return the widths in pixels of strips along the border that are no part of the surface: top, bottom, left, right.

    A line is a row or column, and its value the logarithm of the median brightness of its pixels. A line's surroundings
    are the median of the ``FRAME_SURROUNDINGS`` (8) lines that begin ``FRAME_MARGIN`` + 1 (4) lines further in. The
    inside is what lies more than an eighth of the short side from either end. The outermost lines, up to a last one,
    are a strip if

    1. they take up at most an eighth of the short side;
    2. all of them differ from the surroundings of the last one by a quarter of the brighter of both
       (``FRAME_CONTRAST``);
    3. all of them differ by more than any line of the inside does from its own surroundings;
    4. at least one of them differs by more than twice that.

    A line of which fewer than half of the pixels count is passed over. The widest strip is taken, and ``FRAME_MARGIN``
    (3) lines are added to it for the blurred edge.

    Light that falls off is not taken for a frame, since it does not jump, unless it falls to a sixteenth or less: there
    the last lines differ by more than any inside. Nor are a texture's own stripes, since the inside has them too.

    Parameters
    ----------
    colour, valid
        (C, H, W) brightness, at least 0, in units of the range; (1, H, W), 1.0 where a pixel counts.
    """
    deepest = min(valid.shape[-2:]) // 8
    grey = colour.mean(0)
    if complete(valid):
        rows, columns = row_medians(grey), row_medians(grey.mT)
    else:
        rows, columns = _line_medians(grey, valid[0] > 0), _line_medians(grey.mT, valid[0].mT > 0)
    return (*_strips(rows, deepest), *_strips(columns, deepest))


def without_frame(valid: Tensor, strips: tuple[int, int, int, int]) -> Tensor:
    """Return ``valid`` (1, H, W) with the strips (top, bottom, left, right) not counting."""
    top, bottom, left, right = strips
    inside = torch.zeros_like(valid)
    inside[:, top : valid.shape[-2] - bottom, left : valid.shape[-1] - right] = 1.0
    return valid * inside


def _line_medians(grey: Tensor, counted: Tensor) -> Tensor:
    """Return the median of the pixels that count in each row; NaN where fewer than half do, as across a tip."""
    medians = torch.where(counted, grey, torch.nan).nanmedian(dim=1).values
    return torch.where(counted.float().mean(dim=1) >= 0.5, medians, torch.nan)


def _strips(lines: Tensor, deepest: int) -> tuple[int, int]:
    logs = (lines + 1e-3).log()
    inside = logs[deepest : len(logs) - deepest]
    widths = [_width(*sides, deepest=deepest) for sides in ((logs, inside), (logs.flip(0), inside.flip(0)))]
    first, last = (width + FRAME_MARGIN if width else 0 for width in widths)
    return first, last


def _width(lines: Tensor, inside: Tensor, *, deepest: int) -> int:
    """Return how many lines, from the first on, are a strip; ``inside`` are those too deep to be part of one."""
    reach = FRAME_MARGIN + FRAME_SURROUNDINGS
    farthest = float((inside[:-reach] - _surroundings(inside)).abs().nan_to_num(0.0).max())
    # (line, last line of the strip): each line is compared with the surroundings of the last line, behind the edge.
    off = (lines[:deepest, None] - _surroundings(lines)[:deepest]).abs()
    outside = torch.ones_like(off, dtype=torch.bool).tril(-1)
    # A line of which too little counts neither makes nor breaks a strip.
    unseen = lines[:deepest, None].isnan()
    all_off = ((off > max(-math.log(1 - FRAME_CONTRAST), farthest)) | outside | unseen).all(dim=0)
    somewhere_far = off.masked_fill(outside, 0.0).nan_to_num(0.0).amax(dim=0) > 2 * farthest
    widths = (all_off & somewhere_far).nonzero()
    return int(widths[-1]) + 1 if len(widths) else 0


def _surroundings(lines: Tensor) -> Tensor:
    """Return the median of the eight lines that begin four after each line; shorter than ``lines`` by the reach."""
    return lines[1 + FRAME_MARGIN :].unfold(0, FRAME_SURROUNDINGS, 1).nanmedian(dim=1).values
