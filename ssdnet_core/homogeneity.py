"""Whether an image shows one texture: the one assumption of the method, checked before its verdict is believed."""

import math

import torch
from torch import Tensor

from ssdnet_core.filters import ENERGY_FLOOR, complete, energies, share_of, weighted_smooth
from ssdnet_core.medians import row_medians
from ssdnet_core.robust import MAD_TO_SIGMA

PARTS = 4
SCALES = (1, 2, 4)
WINDOW = 8.0
GRID = 4
SEVERAL_TEXTURES = 7.5
"""33 good and 75 defect photographs stay under 5.4, 40 synthetic ones under 4.9, 276 degraded ones (light, noise,
JPEG, holes, dark borders) under 7.5; 10 composites, a quarter to a half another texture, lie between 7.9 and 17."""

FRAME_CONTRAST = 0.25
FRAME_MARGIN = 3
"""Lines that the blurred edge of a frame may take."""

FRAME_SURROUNDINGS = 8
NO_FRAME = (0, 0, 0, 0)


def unlikeness_of_parts(images: Tensor, valid: Tensor) -> Tensor:
    """Return how far apart the textures of an image's 4 x 4 parts lie, in units of the spread within a part: (...).

    Of the logarithm of each derivative's local energy: the distance from the 15 % to the 85 % quantile of the parts'
    medians, so that two parts may be a defect. The 90 % quantile over derivatives and channels, since
    two textures need not differ in all. 0 where a part would be smaller than 8 x 8 averages.

    Parameters
    ----------
    images
        (..., C, H, W), standardised; pixels that do not count filled as their neighbourhood is.
    valid
        (1, H, W), 1.0 where a pixel counts in all of them.
    """
    whole = (share_of(valid, GRID) > 0.5)[0]
    rows, columns = whole.shape[0] // PARTS, whole.shape[1] // PARTS
    if min(rows, columns) < 8:
        return images.new_zeros(images.shape[:-3])
    logs = [
        (weighted_smooth(strength, counted, sigma=WINDOW / side) + ENERGY_FLOOR).log()
        for side, strength, counted in energies(images, valid, scales=SCALES, grid=GRID)
    ]
    values = torch.where(whole, torch.cat(logs, dim=-3), torch.nan)
    cells = values[..., : PARTS * rows, : PARTS * columns].unfold(-2, rows, rows).unfold(-2, columns, columns)
    parts = cells.flatten(-2).flatten(-3, -2)
    centres = parts.nanmedian(dim=-1).values
    within = MAD_TO_SIGMA * (parts - centres[..., None]).abs().nanmedian(dim=-1).values.nanmedian(dim=-1).values
    between = centres.nanquantile(0.85, dim=-1) - centres.nanquantile(0.15, dim=-1)
    return (between / within.clamp_min(1e-3)).nanquantile(0.9, dim=-1).nan_to_num()


def find_frame(colour: Tensor, valid: Tensor) -> tuple[int, int, int, int]:
    """Return the widths in pixels of strips along the border that are no part of the surface: top, bottom, left, right.

    At the strip's inner edge the brightness jumps by a quarter, and further than between any two such lines of the
    inside; somewhere the strip is twice as far off. So light that falls off is none, since it does not jump, nor are
    a texture's own stripes, since the inside has them too. All lines of the strip lie off, and at most an eighth of the
    short side is a strip. Three lines are added for the edge.

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
    if len(inside) <= reach:
        return 0
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
