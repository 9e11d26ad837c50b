"""Blind reconstruction: every pixel predicted from a context in which its own block is masked."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ssdnet_core.config import NetworkConfig, ReconstructionConfig
from ssdnet_core.folding import channels_of, folded, places_of, unfolded
from ssdnet_core.network import ReconstructionNetwork, stride

PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Every other block along each axis is masked at a time, so that each masked block has visible neighbours."""


@dataclass(frozen=True, eq=False)
class BlindNetwork:
    """The networks of G images side by side, and the layout of their input; predicts each pixel without its own block.

    Attributes
    ----------
    network
        Maps (N, G (C + 1) S, h, w) in ``dtype`` to (N, G C S, h, w), with the S = side x side pixels of a place in the
        channels (:mod:`ssdnet_core.folding`); no image's network sees another image.
    side
        Of the places, in pixels.
    multiple
        What the sides of the images must be a multiple of; they are padded with hidden pixels.
    dtype
        Arithmetic of the network.
    """

    network: Callable[[Tensor], Tensor]
    side: int
    multiple: int
    dtype: torch.dtype

    @classmethod
    def of(cls, network: ReconstructionNetwork, config: NetworkConfig) -> "BlindNetwork":
        """Return networks that were made by ``config``, in the arithmetic of their weights."""
        dtype = next(network.parameters()).dtype
        return cls(network, side=config.unshuffle, multiple=stride(config), dtype=dtype)

    @torch.no_grad()
    def reconstruct(self, pixels: Tensor, *, valid: Tensor, config: ReconstructionConfig) -> Tensor:
        """Predict images (G, C, H, W) from themselves, each pixel without its own block: (G, C, H, W) float32.

        The prediction of a pixel is the mean over ``shifts`` placements of the block grid, each moved along its
        diagonal; in none of them does the content of the pixel's own block influence its prediction. Pixels that do not
        count, 0 in ``valid`` (G, 1, H, W), are predicted as well, but never seen.
        """
        height, width = pixels.shape[-2:]
        pixels, valid = (_padded(values, self.multiple) for values in (pixels, valid))
        shape = pixels.shape[-2:]
        # Folding and unfolding are done once, not for each placement.
        pixels, valid = (folded(values[None], side=self.side) for values in (pixels, valid))
        total = torch.zeros_like(pixels)
        for shift in range(0, config.block, config.block // config.shifts):
            blocks = phase_masks(shape, block=config.block, shift=shift)[:, None].to(pixels)
            blocks = folded(blocks, side=self.side)
            hidden = torch.maximum(blocks, 1.0 - valid)
            seen = torch.cat([pixels * (1.0 - hidden), hidden], dim=4).to(self.dtype)
            prediction = self.network(channels_of(seen)).float()
            total += (places_of(prediction, like=pixels.expand(len(PHASES), *pixels.shape[1:])) * blocks).sum(0)
        return unfolded(total)[0, ..., :height, :width] / config.shifts


def phase_masks(shape: torch.Size | tuple[int, int], *, block: int, shift: int) -> Tensor:
    """Return (4, 1, H, W) masks of blocks: each pixel is 1.0 in exactly one of the four."""
    rows, columns = ((torch.arange(side) + shift) // block % 2 for side in shape)
    return torch.stack([(rows == down)[:, None] & (columns == right) for down, right in PHASES])[:, None].float()


def _padded(values: Tensor, multiple: int) -> Tensor:
    """Add zeros below and to the right until both sides of (..., H, W) are multiples: pixels that do not count."""
    height, width = values.shape[-2:]
    return functional.pad(values, (0, -width % multiple, 0, -height % multiple))
