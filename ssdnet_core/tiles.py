"""Blind reconstruction of an image of any size: in tiles that overlap, and are blended where they do."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ssdnet_core.config import ReconstructionConfig
from ssdnet_core.reconstruction import BlindNetwork

MARGIN = 32
"""Width in pixels of a tile's border inside the image that is not used: there the network's context ends."""

BLEND = 64
"""Pixels over which one tile's prediction passes into the next one's."""

OVERLAP = 2 * MARGIN + BLEND
LEAST_STEPS = 2
"""A tile is longer than two overlaps by at least this many steps: otherwise two tiles might start at the same step, and
one of them would be predicted for nothing."""


@dataclass(frozen=True, eq=False)
class Span:
    """A tile's extent along one axis, and the weight of each pixel in it: at a pixel, all tiles' weights sum to 1."""

    place: slice
    weight: Tensor


def reconstruct_in_tiles(
    network: BlindNetwork, pixels: Tensor, *, valid: Tensor, config: ReconstructionConfig
) -> Tensor:
    """Predict images (G, C, H, W) as :meth:`BlindNetwork.reconstruct` does, in tiles of ``config.tile``: (G, C, H, W).

    The tiles' grids of blocks lie on one another, so that a pixel's block has no influence on it here either. An
    image that has no more pixels than a tile, as a strip, is predicted in one piece. In several it differs a little,
    since the network normalises each tile by its own statistics; a tile of which most does not count differs more.
    """
    height, width = pixels.shape[-2:]
    step = math.lcm(2 * config.block, network.multiple)
    tile = max(config.tile, 2 * OVERLAP + LEAST_STEPS * step)
    # As many pixels as a square tile has: a strip is one piece, whatever part of it counts.
    tall, wide = (max(tile, tile**2 // min(other, tile)) for other in (width, height))
    rows, columns = spans(height, tile=tall, step=step), spans(width, tile=wide, step=step)
    total = torch.zeros_like(pixels)
    for down in rows:
        for right in columns:
            place = (..., down.place, right.place)
            prediction = network.reconstruct(pixels[place], valid=valid[place], config=config)
            weight = torch.outer(down.weight, right.weight).to(total)
            total[place] += weight * prediction
    return total


def spans(side: int, *, tile: int, step: int) -> list[Span]:
    """Cut a side of an image into overlapping tiles.

    Parameters
    ----------
    tile
        Side of the tiles, in pixels; the last may be up to a step shorter.
    step
        The tiles start at multiples of this.
    """
    if side <= tile:
        return [Span(slice(0, side), torch.ones(side, dtype=torch.float32))]
    count = 1 + math.ceil((side - tile) / (tile - OVERLAP - step))
    starts = [math.ceil(number * (side - tile) / (count - 1) / step) * step for number in range(count)]
    ends = [*(start + tile for start in starts[:-1]), side]
    # Half way between one tile's start and the end of the tile before, the one passes into the other.
    passages = [(start + end) / 2 for start, end in zip(starts[1:], ends[:-1], strict=True)]
    centres = torch.arange(side, dtype=torch.float32) + 0.5
    rising = [((centres - passage) / BLEND + 0.5).clamp(0, 1) for passage in passages]
    begun = [torch.ones_like(centres), *rising]
    over = [*rising, torch.zeros_like(centres)]
    return [
        Span(slice(start, end), (begun[number] - over[number])[start:end])
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]
