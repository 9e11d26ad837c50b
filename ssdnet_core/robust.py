"""Statistics of the image's own "normal" that a minority of anomalous pixels does not move.

Each channel of (..., H, W) is treated alike and by itself, whichever image it is of; ``valid`` is (1, H, W).
"""

import torch
from torch import Tensor

from ssdnet_core.devices import in_double
from ssdnet_core.filters import shrink, weighted_shrink
from ssdnet_core.medians import counted_pixels, median, row_medians

MAD_TO_SIGMA = 1.4826
"""The median absolute deviation of a normal distribution, times this, is its standard deviation."""

PLANE_GRID = 64
PLANE_ROUNDS = 4
PLANE_REACH = 4.0
"""In robust standard deviations: a pixel farther from the plane has no part in it (Tukey's biweight)."""

RING_WIDTH = 2
RING_DEPTH = 12


def over_median(values: Tensor, valid: Tensor) -> Tensor:
    """Return non-negative values over their median."""
    return values / median(values, valid).clamp_min(1e-6)


def robust_z(values: Tensor, valid: Tensor) -> Tensor:
    """Return (values - median) / sigma, with sigma from the median absolute deviation, for each channel."""
    centred = values - median(values, valid)
    sigma = MAD_TO_SIGMA * median(centred.abs(), valid)
    return centred / sigma.clamp_min(1e-6)


def level_z(values: Tensor, valid: Tensor) -> Tensor:
    """Return the robust z-score against a plane instead of a constant, for each channel.

    The light on most photographs falls off to one side, and scales everything there.
    """
    return robust_z(without_plane(values, valid), valid)


def without_plane(values: Tensor, valid: Tensor) -> Tensor:
    """Subtract from each channel the plane through its bulk.

    Reweighted least squares with Tukey's biweight (Beaton and Tukey, Technometrics 1974), on averages over squares
    so that at least 64 are left along the short side: an anomalous minority does not tilt the plane.
    """
    shape = values.shape
    values = values.reshape(-1, *shape[-2:])
    factor = max(1, min(shape[-2:]) // PLANE_GRID)
    share = shrink(valid, factor)
    coarse = weighted_shrink(values, valid, factor)
    counted = (share > 0).float()
    level = median(coarse, counted)
    centred = (coarse - level).flatten(1)
    basis = _plane_basis((share.shape[-2], share.shape[-1]), values)
    products = (basis[:, :, None] * basis[:, None]).flatten(1)
    base = share.flatten().expand(len(centred), -1)
    weight = base
    ridge = torch.diag(torch.tensor([1e-6, 1e-3, 1e-3])).to(values)
    for _ in range(PLANE_ROUNDS):
        total = weight.sum(1)[:, None, None].clamp_min(1e-6)
        normal = (weight @ products).view(-1, 3, 3) / total + ridge
        moment = ((weight * centred) @ basis)[:, :, None] / total
        # 3 x 3, and much the same on every device.
        plane = torch.linalg.solve_ex(in_double(normal), in_double(moment)).result[:, :, 0].to(values)
        distance = (centred - plane @ basis.T).abs()
        sigma = MAD_TO_SIGMA * row_medians(counted_pixels(distance.view_as(coarse), counted))[:, None]
        weight = base * (1 - (distance / (PLANE_REACH * sigma).clamp_min(1e-6)).square()).clamp_min(0).square()
    down, right = (_centres(side, values) for side in values.shape[-2:])
    constant, slope_down, slope_right = (plane + torch.eye(3).to(plane)[0] * level[:, :, 0]).T[:, :, None]
    lines = constant + slope_down * down, slope_right * right
    return (values - lines[0][:, :, None] - lines[1][:, None]).view(shape)


def _centres(side: int, like: Tensor) -> Tensor:
    # Pixel centres of any grid over the image lie at the same coordinates, -1 to 1 from edge to edge.
    return ((2 * torch.arange(side) + 1) / side - 1).to(like)


def _plane_basis(size: tuple[int, int], like: Tensor) -> Tensor:
    grid = torch.meshgrid(*(_centres(side, like) for side in size), indexing="ij")
    return torch.stack([torch.ones_like(grid[0]), *grid], dim=-1).flatten(0, 1)


def without_ring_excess(values: Tensor, valid: Tensor, *, grid: int = 1) -> Tensor:
    """Subtract what the rings along the image's border have in excess, by their medians.

    A network predicts worse where its context ends. Each ring of 2 pixels within 12 of the border is lowered by
    what its median exceeds the image's by; on a grid coarser than 2, each ring of one square.
    """
    height, width = values.shape[-2:]
    overall = median(values, valid)
    result = values.clone()
    ring_width = max(1, RING_WIDTH // grid)
    for start in range(0, RING_DEPTH // grid, ring_width):
        sides = _ring(height, width, start, ring_width)
        counted = [counted_pixels(values[..., *side], valid[:, *side]) for side in sides]
        if sum(part.shape[-1] for part in counted):
            excess = (row_medians(torch.cat(counted, dim=-1))[..., None, None] - overall).clamp_min(0)
            for side in sides:
                result[..., *side] -= excess
    return result


def _ring(height: int, width: int, start: int, ring_width: int) -> list[tuple[slice, slice]]:
    # The ring's four sides, which do not overlap; what is left in the middle of a small image is one piece.
    end = start + ring_width
    rows, columns = slice(start, height - start), slice(start, width - start)
    if min(height, width) <= 2 * start:
        return []
    if min(height, width) <= 2 * end:
        return [(rows, columns)]
    between = slice(end, height - end)
    return [
        (slice(start, end), columns),
        (slice(height - end, height - start), columns),
        (between, slice(start, end)),
        (between, slice(width - end, width - start)),
    ]
