"""What the network's input loses so that it cannot learn the identity.

The paper's three means: block masking, patch shuffling and small Gaussian noise. Each is a pure function of
tensors (N, C, H, W) and a random generator.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ssdnet_core.config import CorruptionConfig


@dataclass(frozen=True, eq=False)
class Corrupted:
    """A corrupted batch.

    Attributes
    ----------
    pixels
        (N, C, H, W): what the network sees.
    hidden
        (N, 1, H, W), 1.0 where the original content was taken away, else 0.0: the mask channel.
    """

    pixels: Tensor
    hidden: Tensor


def corrupt(
    crops: Tensor, valid: Tensor, *, block: int, config: CorruptionConfig, generator: torch.Generator
) -> Corrupted:
    """Mask blocks of the crops, fill some of them with shuffled patches, and add noise to the rest.

    Parameters
    ----------
    crops
        (N, C, H, W), standardised.
    valid
        (N, 1, H, W), 1.0 where a pixel counts. The others are hidden as well.
    block
        Side of the masked blocks in pixels.
    """
    masked = random_blocks(crops, block=block, ratio=config.mask_ratio, generator=generator)
    hidden = torch.maximum(masked, 1.0 - valid)
    pixels = crops + config.noise * _normal_like(crops, generator)
    pixels = pixels * (1.0 - hidden)
    if config.shuffle_ratio > 0:
        filled = masked * random_blocks(crops, block=block, ratio=config.shuffle_ratio, generator=generator) * valid
        pixels = torch.where(filled > 0, shuffled_patches(crops * valid, block=block, generator=generator), pixels)
    return Corrupted(pixels=pixels, hidden=hidden)


def random_blocks(crops: Tensor, *, block: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Return (N, 1, H, W) of ones in a random share ``ratio`` of the blocks of a regular grid, else zeros."""
    count, _, height, width = crops.shape
    rows, columns = -(-height // block), -(-width // block)
    draw = torch.rand((count, 1, rows, columns), generator=generator, device=generator.device)
    # The share is exact, not expected: a crop with nothing masked would teach the identity.
    rank = draw.flatten(1).argsort(dim=1).argsort(dim=1).view_as(draw)
    chosen = (rank < max(1, round(ratio * rows * columns))).to(crops.dtype)
    return _enlarge(chosen, block)[..., :height, :width]


def shuffled_patches(crops: Tensor, *, block: int, generator: torch.Generator) -> Tensor:
    """Return the crops with their blocks moved: those of the next crop, rolled by a random number of blocks."""
    _, _, height, width = crops.shape
    rows, columns = -(-height // block), -(-width // block)
    # Never by nothing: the crops of a small image are all the same, and would be filled with what was masked.
    steps = 1 + int(torch.randint(max(1, rows * columns - 1), (), generator=generator, device=generator.device))
    down, right = divmod(steps, columns)
    return crops.roll((1, down * block, right * block), dims=(0, 2, 3))


def _enlarge(grid: Tensor, block: int) -> Tensor:
    return grid.repeat_interleave(block, dim=-2).repeat_interleave(block, dim=-1)


def _normal_like(crops: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(crops.shape, generator=generator, device=generator.device, dtype=crops.dtype)
