"""What a border costs a prediction, measured at borders made inside the image. Not from the paper.

Where the context ends the network predicts worse, and the corners of a regular texture, which show only part of a
period, many times worse. So a piece from the middle is predicted as if it were the whole image: the factor by which its
squared residuals exceed those of the same pixels in the whole is the cost. A defect adds to both alike. The context
ends at the image's border and where a mask leaves out a whole block.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ssdnet_core.config import ReconstructionConfig
from ssdnet_core.filters import complete, shrink, weighted_shrink
from ssdnet_core.reconstruction import BlindNetwork

SQUARE = 4
"""Side in pixels of the squares over which squared residuals are averaged."""

DEPTH = 4
"""Number of squares that a border reaches into the image: 16 pixels, a masked block of the blind reconstruction."""

SHORTEST, LONGEST = 64, 256
"""Least and greatest side in pixels of the piece, else half of the image's; it is lengthened to fit the block grid."""

ENERGY_FLOOR = 1e-3
"""Added to squared residuals before their logarithm, in variances of the image."""


def border_cost(
    network: BlindNetwork, pixels: Tensor, *, valid: Tensor, prediction: Tensor, config: ReconstructionConfig
) -> Tensor | None:
    """Return by what factor residuals near a border are larger than where the context is whole: (G, 1, H, W).

    At least 1, and 1 where no border is within 18 pixels along a row or a column. None if the image is too small to
    tell, as of less than 128 pixels with blocks of 16.

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
    weight = _from_corners(counted)
    share = shrink(weight, SQUARE)
    as_image, in_whole = (
        (weighted_shrink(_from_corners((predicted - image).square()), weight, factor=SQUARE) + ENERGY_FLOOR).log()
        for predicted in (with_borders, prediction[piece])
    )
    gain = _by_distance((as_image - in_whole) * share) / _by_distance(share).clamp_min(1e-6)
    gain = (gain - gain[..., -1:, -1:]).clamp_min(0)
    # A corner costs no less than either side that meets in it: few pixels tell what it costs.
    gain = torch.maximum(gain, torch.maximum(gain[..., -1:], gain[..., -1:, :]))
    outside = _outside(valid)
    # A grid's first coordinate is the column.
    from_border = torch.cat([_squares_to(outside, axis) for axis in (-1, -2)], dim=1).movedim(1, -1)
    return (functional.grid_sample(gain, 2 * from_border / DEPTH - 1, align_corners=True) / 2).exp()


def in_whole_context(prediction: Tensor, image: Tensor, *, valid: Tensor, cost: Tensor) -> Tensor:
    """Return predictions (G, C, H, W) whose residuals are divided by ``cost``, as they would be in a whole context.

    Where a pixel does not count the prediction stays: what the image holds there must have no say.
    """
    return torch.lerp(image, prediction, torch.where(valid > 0, 1 / cost, 1.0))


def _middle(side: int, *, step: int) -> slice | None:
    # A multiple of the step is cut off at either end: the block grid then meets the piece's borders as the image's.
    kept = min(max(side // 2, SHORTEST), LONGEST)
    margin = (side - kept) // (2 * step) * step
    return slice(margin, side - margin) if margin > 0 else None


def _from_corners(values: Tensor) -> Tensor:
    """Return the mean over the channels of an image's quarters, each as seen from its corner, in whole squares.

    (G, C, H, W) to (4, G, h, w).
    """
    height, width = (side // 2 // SQUARE * SQUARE for side in values.shape[-2:])
    flips = ((), (-1,), (-2,), (-2, -1))
    return torch.stack([values.mean(1).flip(flip)[..., :height, :width] for flip in flips])


def _by_distance(values: Tensor) -> Tensor:
    """Sum (4, G, h, w) by the number of squares from either border: (G, 1, DEPTH + 1, DEPTH + 1).

    The last row and column are of all squares further in.
    """
    sums = values.sum(0)[:, None]
    for _ in range(2):
        sums = torch.cat([sums[..., :DEPTH], sums[..., DEPTH:].sum(-1, keepdim=True)], dim=-1).mT
    return sums


def _outside(valid: Tensor) -> Tensor:
    """Return which pixels of (G, 1, H, W) lie in an area of DEPTH x DEPTH squares in which nothing counts.

    Beyond the image nothing does. Behind smaller gaps, such as single missing pixels, the context goes on.
    """
    if complete(valid):
        return torch.zeros_like(valid, dtype=torch.bool)
    side = DEPTH * SQUARE
    counted = functional.pad((valid > 0).float(), (side,) * 4)
    hidden = 1 - _highest(counted, side)
    return _highest(functional.pad(hidden, (side - 1,) * 4), side)[..., side:-side, side:-side] > 0


def _highest(values: Tensor, side: int) -> Tensor:
    """Return the highest value in each square of that side within (G, 1, H, W)."""
    return functional.max_pool2d(functional.max_pool2d(values, (side, 1), stride=1), (1, side), stride=1)


def _squares_to(outside: Tensor, axis: int) -> Tensor:
    """Return the number of squares to the nearest outside along an axis of (G, 1, H, W), 0 to :data:`DEPTH`."""
    nearest = torch.minimum(_pixels_since(outside, axis), _pixels_since(outside.flip(axis), axis).flip(axis))
    # Half a pixel to the middle of the pixel, half a square to that of the first square.
    return ((nearest - 0.5) / SQUARE - 0.5).clamp(0, DEPTH)


def _pixels_since(outside: Tensor, axis: int) -> Tensor:
    places = torch.arange(outside.shape[axis], dtype=torch.float32, device=outside.device)
    places = places[:, None] if axis == -2 else places
    return places - torch.where(outside, places, -1.0).cummax(axis).values
