"""What the image's border costs a prediction, told by borders made inside the image. Not from the paper.

Where the context ends the network predicts worse, and the corners of a regular texture, which show a part of a period,
many times worse. So a piece from the middle is predicted as if it were the whole image: what its squared residuals gain
beside those of the same pixels in the whole is what a border costs. A defect adds to both alike.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ssdnet_core.config import ReconstructionConfig
from ssdnet_core.reconstruction import BlindNetwork

SQUARE = 4
"""Side in pixels of the squares over which squared residuals are averaged."""

DEPTH = 4
"""Number of squares that a border reaches into the image: 16 pixels, a masked block of the blind reconstruction."""

SHORTEST, LONGEST = 64, 256
"""Least and greatest side in pixels of the piece; between them it is half of the image's."""

ENERGY_FLOOR = 1e-3
"""Added to squared residuals before their logarithm, in variances of the image."""


def border_cost(
    network: BlindNetwork, pixels: Tensor, *, valid: Tensor, prediction: Tensor, config: ReconstructionConfig
) -> Tensor | None:
    """Return by what factor residuals near the border are larger than where the context is whole: (G, 1, H, W).

    At least 1, and 1 everywhere further in than 16 pixels. None if the image is too small to tell, as of less than 128
    pixels with blocks of 16.

    Parameters
    ----------
    pixels, prediction
        (G, C, H, W), the images and what ``network`` predicts of them.
    valid
        (G, 1, H, W), 1.0 where a pixel counts.
    config
        That of the prediction.
    """
    height, width = pixels.shape[-2:]
    rows, columns = (_middle(side, step=2 * config.block) for side in (height, width))
    if rows is None or columns is None:
        return None
    piece = (..., rows, columns)
    image, counted = pixels[piece], valid[piece]
    with_borders = network.reconstruct(image, valid=counted, config=config)
    share = _from_corners(counted)
    as_image, in_whole = (
        (_from_corners((predicted - image).square() * counted) / share.clamp_min(1e-6) + ENERGY_FLOOR).log()
        for predicted in (with_borders, prediction[piece])
    )
    gain = _by_distance((as_image - in_whole) * share) / _by_distance(share).clamp_min(1e-6)
    gain = (gain - gain[..., -1:, -1:]).clamp_min(0)
    # A corner costs no less than either side that meets in it: few pixels tell what it costs.
    gain = torch.maximum(gain, torch.maximum(gain[..., -1:], gain[..., -1:, :]))
    down, right = (_weights_by_distance(side).to(gain) for side in (height, width))
    return (down @ gain @ right.T / 2).exp()


def in_whole_context(prediction: Tensor, image: Tensor, *, valid: Tensor, cost: Tensor) -> Tensor:
    """Return predictions (G, C, H, W) whose residuals are divided by ``cost``, as they would be in a whole context.

    Where a pixel does not count the prediction stays: what the image holds there must have no say.
    """
    return torch.lerp(image, prediction, torch.where(valid > 0, 1 / cost, 1.0))


def _middle(side: int, *, step: int) -> slice | None:
    # Multiples of the step from either end, so that the masked blocks lie to the piece's borders as to the image's.
    kept = min(max(side // 2, SHORTEST), LONGEST)
    margin = (side - kept) // (2 * step) * step
    return slice(margin, side - margin) if margin > 0 else None


def _from_corners(values: Tensor) -> Tensor:
    """Return the means over channels and squares of an image's quarters, each as seen from its corner.

    (G, C, H, W) to (4, G, h, w).
    """
    height, width = (side // 2 // SQUARE * SQUARE for side in values.shape[-2:])
    flips = ((), (-1,), (-2,), (-2, -1))
    quarters = torch.stack([values.mean(1).flip(flip)[..., :height, :width] for flip in flips])
    return functional.avg_pool2d(quarters, SQUARE)


def _by_distance(values: Tensor) -> Tensor:
    """Sum (4, G, h, w) by the number of squares from either border: (G, 1, DEPTH + 1, DEPTH + 1).

    The last row and column are of all squares further in.
    """
    sums = values.sum(0)[:, None]
    for _ in range(2):
        sums = torch.cat([sums[..., :DEPTH], sums[..., DEPTH:].sum(-1, keepdim=True)], dim=-1).mT
    return sums


def _weights_by_distance(side: int) -> Tensor:
    """Return what each number of squares from the border counts at each pixel: (side, DEPTH + 1), linear between."""
    pixels = torch.arange(side, dtype=torch.float32)
    from_border = torch.minimum(pixels, side - 1 - pixels) + 0.5
    squares = (from_border / SQUARE - 0.5).clamp(0, DEPTH)
    return (1 - (squares[:, None] - torch.arange(DEPTH + 1)).abs()).clamp_min(0)
