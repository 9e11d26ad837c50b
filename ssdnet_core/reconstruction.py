"""Blind reconstruction: every pixel predicted from a context in which its own block is masked."""

from collections.abc import Callable

import torch
from torch import Tensor

from ssdnet_core.config import ReconstructionConfig
from ssdnet_core.fitting import padded
from ssdnet_core.folding import channels_of, folded, places_of, unfolded

PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Every other block along each axis is masked at a time, so that each masked block has visible neighbours."""


@torch.no_grad()
def reconstruct_blind(
    network: Callable[[Tensor], Tensor],
    pixels: Tensor,
    *,
    valid: Tensor,
    config: ReconstructionConfig,
    side: int,
    multiple: int,
    dtype: torch.dtype,
) -> Tensor:
    """Predict images (G, C, H, W) from themselves, each pixel without its own block: (G, C, H, W).

    The prediction of a pixel is the mean over ``shifts`` placements of the block grid, each moved along its diagonal;
    in none of them does the content of the pixel's own block influence its prediction. Pixels that do not count are
    predicted as well, but never seen.

    Parameters
    ----------
    network
        (N, G (C + 1) S, h, w) in ``dtype`` to (N, G C S, h, w), with the S = side x side pixels of a place in the
        channels (:mod:`ssdnet_core.folding`); that of an image sees no other image.
    valid
        (G, 1, H, W), 1.0 where a pixel counts.
    multiple
        What the network's input sides must be a multiple of; the images are padded with hidden pixels.
    """
    height, width = pixels.shape[-2:]
    shape = padded(pixels, multiple).shape[-2:]
    # Folding and unfolding are done once, not for each placement.
    pixels, valid = (folded(padded(values, multiple)[None], side=side) for values in (pixels, valid))
    total = torch.zeros_like(pixels)
    for shift in range(0, config.block, config.block // config.shifts):
        blocks = folded(phase_masks(shape, block=config.block, shift=shift)[:, None].to(pixels), side=side)
        hidden = torch.maximum(blocks, 1.0 - valid)
        seen = torch.cat([pixels * (1.0 - hidden), hidden], dim=4).to(dtype)
        prediction = network(channels_of(seen)).float()
        total += (places_of(prediction, like=pixels.expand(len(PHASES), *pixels.shape[1:])) * blocks).sum(0)
    return unfolded(total)[0, ..., :height, :width] / config.shifts


def phase_masks(shape: torch.Size | tuple[int, int], *, block: int, shift: int) -> Tensor:
    """Return (4, 1, H, W) masks of blocks: each pixel is 1.0 in exactly one of the four."""
    rows, columns = ((torch.arange(side) + shift) // block % 2 for side in shape)
    return torch.stack([(rows == down)[:, None] & (columns == right) for down, right in PHASES])[:, None].float()
