"""What the network's input loses so that it cannot learn the identity.

The paper's three means: block masking, patch shuffling and small Gaussian noise. Crops are tensors (N, H, W, ...), the
last axes of which are the values that a place holds. Blocks and patches are drawn by a random generator on the
processor; the noise is given, since the fit cuts it from a field that it draws once.
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
        (N, H, W, ...) like the crops: what the network sees.
    hidden
        The mask channel, of the shape of ``valid``: 1.0 where the original content was taken away, else 0.0.
    """

    pixels: Tensor
    hidden: Tensor


def corrupt(
    crops: Tensor, valid: Tensor, *, noise: Tensor, block: int, config: CorruptionConfig, generator: torch.Generator
) -> Corrupted:
    """Mask blocks of the crops, fill some of them with shuffled patches, and add noise to the rest.

    All values of a place are hidden together, and the same places in all images of a group. The grid of blocks begins
    at a random place: a blind prediction (:mod:`ssdnet_core.reconstruction`) also hides blocks that lie across the
    cells of the network's coarsest level.

    Parameters
    ----------
    crops
        (N, H, W, ...), standardised; 0 where not valid.
    valid
        (N, H, W, ...), to be broadcast to the crops: 1.0 where a pixel counts. The others are hidden as well.
    noise
        What is added to visible pixels; to be broadcast to the crops.
    block
        Side of the masked blocks in places.
    """
    down, right = torch.randint(block, (2,), generator=generator).tolist()

    def blocks_of(ratio: float) -> Tensor:
        chosen = random_blocks(crops.shape[:3], block=block, begin=(down, right), ratio=ratio, generator=generator)
        # Without waiting for the device: it is busy with the step before.
        return chosen.to(crops, non_blocking=True)[(..., *[None] * (crops.ndim - 3))]

    masked = blocks_of(config.mask_ratio)
    shown, kept = crops + noise, 1.0 - masked
    if config.shuffle_ratio > 0:
        filled = masked * blocks_of(config.shuffle_ratio)
        shown = shown.lerp(shuffled_patches(crops, block=block, generator=generator), filled)
        kept = kept + filled
    return Corrupted(pixels=shown * (kept * valid), hidden=torch.maximum(masked, 1.0 - valid))


def random_blocks(
    shape: torch.Size | tuple[int, ...], *, block: int, begin: tuple[int, int], ratio: float, generator: torch.Generator
) -> Tensor:
    """Return (N, H, W) of ones in a random share ``ratio`` of the blocks of a regular grid, else zeros.

    The first block's rows and columns before ``begin``, from 0 to ``block`` - 1, lie outside, and so may the last ones.
    """
    (count, height, width), (down, right) = shape, begin
    rows, columns = -(-(height + down) // block), -(-(width + right) // block)
    draw = torch.rand((count, rows * columns), generator=generator, dtype=torch.float32)
    # The share is exact, not expected: a crop with nothing masked would teach the identity.
    first = draw.argsort(dim=1)[:, : max(1, round(ratio * rows * columns))]
    chosen = torch.zeros_like(draw).scatter_(1, first, 1.0).view(count, rows, columns)
    chosen = chosen.repeat_interleave(block, 1).repeat_interleave(block, 2)
    return chosen[:, down : down + height, right : right + width]


def shuffled_patches(crops: Tensor, *, block: int, generator: torch.Generator) -> Tensor:
    """Return the crops with their blocks moved: those of the next crop, rolled by a random number of blocks."""
    _, height, width = crops.shape[:3]
    rows, columns = -(-height // block), -(-width // block)
    # At least by one: the crops of a small image are all the same, and masked blocks would be filled with themselves.
    steps = 1 + int(torch.randint(max(1, rows * columns - 1), (), generator=generator))
    down, right = divmod(steps, columns)
    return crops.roll((1, down * block, right * block), dims=(0, 1, 2))
