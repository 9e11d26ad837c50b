"""Crops as the network takes them: pixel-unshuffled, with everything that a place holds side by side in memory.

A folded tensor is (N, h, w, G, C, S): N crops, places of S = side x side pixels each, G images, C channels. The
network's channels are the last three axes; masked blocks, crops and rolls are whole places.
"""

import math

from torch import Tensor


def folded(crops: Tensor, *, side: int) -> Tensor:
    """Fold crops (N, G, C, H, W), H and W multiples of ``side``, to (N, H / side, W / side, G, C, S)."""
    count, images, channels, height, width = crops.shape
    blocks = crops.reshape(count, images, channels, height // side, side, width // side, side)
    return blocks.permute(0, 3, 5, 1, 2, 4, 6).flatten(5).contiguous()


def unfolded(crops: Tensor) -> Tensor:
    """Unfold crops (N, h, w, G, C, S) to (N, G, C, H, W)."""
    count, rows, columns, images, channels, pixels = crops.shape
    side = math.isqrt(pixels)
    blocks = crops.reshape(count, rows, columns, images, channels, side, side)
    return blocks.permute(0, 3, 4, 1, 5, 2, 6).reshape(count, images, channels, rows * side, columns * side)


def channels_of(crops: Tensor) -> Tensor:
    """View crops (N, h, w, G, C, S) as the network takes them: (N, G C S, h, w), channels last in memory."""
    return crops.flatten(3).permute(0, 3, 1, 2)


def places_of(channels: Tensor, *, like: Tensor) -> Tensor:
    """View what the network returns, (N, G C S, h, w), as folded crops like ``like``."""
    return channels.permute(0, 2, 3, 1).reshape(like.shape)
