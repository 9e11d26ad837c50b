"""Blind reconstruction: every pixel predicted from a context in which its own block is masked."""

import torch
from torch import Tensor
from torch.nn import functional

from ssdnet_core.config import ReconstructionConfig
from ssdnet_core.fitting import arithmetic
from ssdnet_core.network import ReconstructionNetwork

PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Every other block along each axis is masked at a time, so that each masked block has visible neighbours."""


@torch.no_grad()
def reconstruct_blind(
    network: ReconstructionNetwork,
    pixels: Tensor,
    valid: Tensor,
    *,
    config: ReconstructionConfig,
    multiple: int,
    dtype: torch.dtype,
) -> Tensor:
    """Predict an image (C, H, W) from itself, each pixel without its own block: (C, H, W).

    The prediction of a pixel is the mean over ``shifts`` x ``shifts`` placements of the block grid; whatever the
    pixel's block of a placement holds has no influence on it. Pixels that do not count are predicted as well, and
    never seen.

    Parameters
    ----------
    valid
        (1, H, W), 1.0 where a pixel counts.
    multiple
        What the network's input sides must be a multiple of; the image is padded with hidden pixels.
    """
    height, width = pixels.shape[-2:]
    padding = (0, -width % multiple, 0, -height % multiple)
    pixels, valid = functional.pad(pixels, padding), functional.pad(valid, padding)
    total = torch.zeros_like(pixels)
    step = config.block // config.shifts
    for down in range(0, config.block, step):
        for right in range(0, config.block, step):
            blocks = phase_masks(pixels.shape[-2:], block=config.block, shift=(down, right)).to(pixels)
            hidden = torch.maximum(blocks, 1.0 - valid)
            seen = torch.cat([pixels * (1.0 - hidden), hidden], dim=1)
            with arithmetic(pixels.device, dtype):
                prediction = network(seen.contiguous(memory_format=torch.channels_last))
            total += (prediction.float() * blocks).sum(0)
    return total[:, :height, :width] / config.shifts**2


def phase_masks(shape: torch.Size | tuple[int, int], *, block: int, shift: tuple[int, int]) -> Tensor:
    """Return (4, 1, H, W) masks of blocks: each pixel is 1.0 in exactly one of the four."""
    rows = (torch.arange(shape[0]) + shift[0]) // block % 2
    columns = (torch.arange(shape[1]) + shift[1]) // block % 2
    return torch.stack([(rows == down)[:, None] & (columns == right) for down, right in PHASES])[:, None].float()
