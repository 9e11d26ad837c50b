"""Whether an image shows one texture: the one assumption of the method, checked before its verdict is believed."""

import torch
from torch import Tensor

from ssdnet_core.derivatives import ENERGY_FLOOR, energies
from ssdnet_core.filters import GRID, share_of, weighted_smooth
from ssdnet_core.robust import MAD_TO_SIGMA

PARTS_A_SIDE = 4
"""Number of parts along each side of the image."""

LEAST_PART_SIDE = 8
"""Least number of averages, over squares of ``GRID`` pixels, along a part's side. Of all averages in a part at least
the square of this number must count: medians of fewer are unreliable."""

TEXTURE_SCALES = (1, 2, 4)
TEXTURE_WINDOW = 8.0
"""Sigma in pixels of the windows over which squared derivatives are averaged."""

SEVERAL_TEXTURES = 7.5
"""Unlikeness above which an image shows several textures. 33 good and 75 defect photographs stay under 5.4, 40
synthetic ones under 4.9, 276 degraded ones (light, noise, JPEG, holes, dark borders) under 7.5; 10 composites, a
quarter to a half of which is another texture, lie between 7.9 and 17."""


def unlikeness_of_parts(images: Tensor, valid: Tensor) -> Tensor:
    """Return how far apart the textures of an image's 4 x 4 parts lie, in units of the spread within a part: (...).

    The logarithm of the local energy of each derivative in each channel is one feature. Its unlikeness is the distance
    from the 15 % to the 85 % quantile of the parts' medians (quantiles, so that two parts may be a defect), over the
    median spread within a part. The result is the 90 % quantile over the features, since two textures need not differ
    in all of them. Parts in which fewer than 8 x 8 averages count are ignored; without any other part it is 0.

    Parameters
    ----------
    images
        (..., C, H, W), standardised; pixels that do not count are filled to look like their neighbourhood.
    valid
        (1, H, W), 1.0 where a pixel counts in all of them.
    """
    whole = (share_of(valid, GRID) > 0.5)[0]
    rows, columns = whole.shape[0] // PARTS_A_SIDE, whole.shape[1] // PARTS_A_SIDE
    if min(rows, columns) < LEAST_PART_SIDE:
        return images.new_zeros(images.shape[:-3])
    logs = [
        (weighted_smooth(strength, counted, sigma=TEXTURE_WINDOW / side) + ENERGY_FLOOR).log()
        for side, strength, counted in energies(images, valid, scales=TEXTURE_SCALES, grid=GRID)
    ]
    values = torch.where(whole, torch.cat(logs, dim=-3), torch.nan)
    cells = (
        values[..., : PARTS_A_SIDE * rows, : PARTS_A_SIDE * columns].unfold(-2, rows, rows).unfold(-2, columns, columns)
    )
    parts = cells.flatten(-2).flatten(-3, -2)
    little_seen = parts.isfinite().sum(-1) < LEAST_PART_SIDE**2
    centres = parts.nanmedian(dim=-1).values.masked_fill(little_seen, torch.nan)
    within = MAD_TO_SIGMA * (parts - centres[..., None]).abs().nanmedian(dim=-1).values.nanmedian(dim=-1).values
    between = centres.nanquantile(0.85, dim=-1) - centres.nanquantile(0.15, dim=-1)
    return (between / within.clamp_min(1e-3)).nanquantile(0.9, dim=-1).nan_to_num()
