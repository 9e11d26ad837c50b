"""Whether an image shows one texture: the one assumption of the method, checked before its verdict is believed."""

import torch
from torch import Tensor

from ssdnet_core.filters import gaussian_derivatives, shrink, weighted_smooth
from ssdnet_core.robust import MAD_TO_SIGMA

PARTS = 4
SCALES = (1, 2, 4)
WINDOW = 8.0
GRID = 4
FLOOR = 3e-4
SEVERAL_TEXTURES = 7.5
"""33 good and 75 defect photographs stay under 5.4, 40 synthetic ones under 4.9, 276 degraded ones (light, noise,
JPEG, holes, dark borders) under 7.5; 10 composites, a quarter to a half another texture, lie between 7.9 and 17."""

FRAME_CONTRAST = 0.25
FRAME_SIGMAS = 6.0
FRAME_MARGIN = 3
NO_FRAME = (0, 0, 0, 0)


def unlikeness_of_parts(image: Tensor, valid: Tensor) -> float:
    """Return how far apart the textures of an image's 4 x 4 parts lie, in units of the spread within a part.

    Of the logarithm of each derivative's local energy: the distance from the 15 % to the 85 % quantile of the parts'
    medians, so that two parts may be a defect. The 90 % quantile over derivatives and channels, since
    two textures need not differ in all. 0 where a part would be smaller than 8 x 8 averages.

    Parameters
    ----------
    image, valid
        (C, H, W), standardised; (1, H, W), 1.0 where a pixel counts.
    """
    whole = (shrink(valid, GRID) > 0.5)[0]
    rows, columns = whole.shape[0] // PARTS, whole.shape[1] // PARTS
    if min(rows, columns) < 8:
        return 0.0
    logs = []
    for scale in SCALES:
        counted = (shrink(valid, scale) > 0.5).float()
        factor = GRID // scale
        share = shrink(counted, factor)
        strength = shrink(gaussian_derivatives(shrink(image, scale)).square() * counted, factor)
        averaged = weighted_smooth(strength / share.clamp_min(1e-6), share, WINDOW / GRID)
        logs.append((averaged + FLOOR).log())
    values = torch.where(whole, torch.cat(logs), torch.nan)
    parts = values.unfold(1, rows, rows).unfold(2, columns, columns)[:, :PARTS, :PARTS].flatten(3).flatten(1, 2)
    centres = parts.nanmedian(dim=2).values
    within = MAD_TO_SIGMA * (parts - centres[:, :, None]).abs().nanmedian(dim=2).values.nanmedian(dim=1).values
    between = centres.nanquantile(0.85, dim=1) - centres.nanquantile(0.15, dim=1)
    return float((between / within.clamp_min(1e-3)).nanquantile(0.9).nan_to_num())


def find_frame(colour: Tensor, valid: Tensor) -> tuple[int, int, int, int]:
    """Return the widths in pixels of strips along the border that are no part of the surface: top, bottom, left, right.

    A strip's lines all have a median brightness that no inner line has, and that is a quarter off that of the inner
    lines and further off than six of these lines' own robust standard deviations; at most an eighth of the short
    side is a strip. Three pixels are added for its edge.

    Parameters
    ----------
    colour, valid
        (C, H, W), values of at least 0; (1, H, W), 1.0 where a pixel counts.
    """
    deepest = min(valid.shape[-2:]) // 8
    grey = torch.where(valid[0] > 0, colour.mean(0), torch.nan)
    rows, columns = grey.nanmedian(dim=1).values, grey.nanmedian(dim=0).values
    return (*_strips(rows, deepest), *_strips(columns, deepest))


def without_frame(valid: Tensor, strips: tuple[int, int, int, int]) -> Tensor:
    """Return ``valid`` (1, H, W) with the strips (top, bottom, left, right) not counting."""
    top, bottom, left, right = strips
    inside = torch.zeros_like(valid)
    inside[:, top : valid.shape[-2] - bottom, left : valid.shape[-1] - right] = 1.0
    return valid * inside


def _strips(lines: Tensor, deepest: int) -> tuple[int, int]:
    inner = lines[deepest : len(lines) - deepest]
    level = inner.nanmedian()
    sigma = MAD_TO_SIGMA * (inner - level).abs().nanmedian()
    inside = inner[~inner.isnan()]
    if not len(inside):
        return 0, 0
    unseen_inside = (lines < inside.min()) | (lines > inside.max())
    off = unseen_inside & ((lines - level).abs() > torch.maximum(FRAME_SIGMAS * sigma, FRAME_CONTRAST * level.abs()))
    widths = [int(side.long().cumprod(0).sum()) for side in (off, off.flip(0))]
    # Wider, it is no frame but a gradient or a second surface.
    first, last = (width + FRAME_MARGIN if 0 < width <= deepest else 0 for width in widths)
    return first, last
