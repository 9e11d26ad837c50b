"""Frames: dark or bright strips along an image's border that are no part of the surface, but not of one value.

Beside such a strip all of the surface is alike, so that it would be the defect. Not from the paper.
"""

import math

import torch
from torch import Tensor

from ssdnet_core.filters import complete
from ssdnet_core.medians import row_medians

FRAME_CONTRAST = 0.25
FRAME_MARGIN = 3
"""Lines that the blurred edge of a frame may take."""

FRAME_SURROUNDINGS = 8
NO_FRAME = (0, 0, 0, 0)


def find_frame(colour: Tensor, valid: Tensor) -> tuple[int, int, int, int]:
    """Return the widths in pixels of strips along the border that are no part of the surface: top, bottom, left, right.

    At the strip's inner edge the brightness jumps by a quarter, and further than between any two such lines of the
    inside; somewhere the strip is twice as far off. So light that falls off is none, since it does not jump, unless
    to a sixteenth or less, where the last lines differ by more than any inside; nor are a texture's own stripes, since
    the inside has them too. All lines of the strip lie off, and at most an eighth of the short side is a strip. Three
    lines are added for the edge.

    Parameters
    ----------
    colour, valid
        (C, H, W), values of at least 0; (1, H, W), 1.0 where a pixel counts.
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
    """Return how many lines, from the first on, are a strip."""
    reach = FRAME_MARGIN + FRAME_SURROUNDINGS
    farthest = float((inside[:-reach] - _surroundings(inside)).abs().nan_to_num(0.0).max())
    # (line, last line): a last line is compared with what lies behind the edge, and so are all lines further out.
    off = (lines[:deepest, None] - _surroundings(lines)[:deepest]).abs()
    outside = torch.ones_like(off, dtype=torch.bool).tril(-1)
    # A line of which too little counts says neither yes nor no.
    unseen = lines[:deepest, None].isnan()
    all_off = ((off > max(-math.log(1 - FRAME_CONTRAST), farthest)) | outside | unseen).all(dim=0)
    somewhere_far = off.masked_fill(outside, 0.0).nan_to_num(0.0).amax(dim=0) > 2 * farthest
    widths = (all_off & somewhere_far).nonzero()
    return int(widths[-1]) + 1 if len(widths) else 0


def _surroundings(lines: Tensor) -> Tensor:
    """Return the median of the eight lines that begin four after each line; shorter than ``lines`` by the reach."""
    return lines[1 + FRAME_MARGIN :].unfold(0, FRAME_SURROUNDINGS, 1).nanmedian(dim=1).values
