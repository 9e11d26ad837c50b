"""Statistics of the image's own "normal" that a minority of anomalous pixels does not move."""

import torch
from torch import Tensor

from ssdnet_core.filters import shrink

MAD_TO_SIGMA = 1.4826
"""The median absolute deviation of a normal distribution, times this, is its standard deviation."""

PLANE_GRID = 64
PLANE_ROUNDS = 4
PLANE_REACH = 4.0
"""In robust standard deviations: a pixel farther from the plane has no part in it (Tukey's biweight)."""

TRIM = 0.9
TRIM_ROUNDS = 3
RIDGE = 0.01
RING_WIDTH = 2
RING_DEPTH = 12


def median(values: Tensor, valid: Tensor) -> Tensor:
    """Return the median of each channel (C, H, W) over the pixels that count (1, H, W): (C, 1, 1)."""
    return values[:, valid[0] > 0].median(dim=1).values[:, None, None]


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
    """Subtract from each channel (C, H, W) the plane through its bulk.

    Reweighted least squares with Tukey's biweight (Beaton and Tukey, Technometrics 1974), on averages over squares
    so that at least 64 are left along the short side: an anomalous minority does not tilt the plane.
    """
    factor = max(1, min(values.shape[-2:]) // PLANE_GRID)
    share = shrink(valid, factor)
    values = values - median(values, valid)
    coarse = (shrink(values * valid, factor) / share.clamp_min(1e-6)).flatten(1)
    basis = _plane_basis((share.shape[-2], share.shape[-1]), values)
    products = (basis[:, :, None] * basis[:, None]).flatten(1)
    counted = share.flatten() > 0
    base = share.flatten().expand(len(coarse), -1)
    weight = base
    ridge = torch.diag(torch.tensor([1e-6, 1e-3, 1e-3])).to(values)
    for _ in range(PLANE_ROUNDS):
        total = weight.sum(1)[:, None, None].clamp_min(1e-6)
        normal = (weight @ products).view(-1, 3, 3) / total + ridge
        moment = ((weight * coarse) @ basis)[:, :, None] / total
        # In double precision on the processor, as below: 3 x 3, and the same on every device.
        plane = torch.linalg.solve(normal.double().cpu(), moment.double().cpu())[:, :, 0].to(values)
        distance = (coarse - plane @ basis.T).abs()
        sigma = MAD_TO_SIGMA * distance[:, counted].median(dim=1, keepdim=True).values
        weight = base * (1 - (distance / (PLANE_REACH * sigma).clamp_min(1e-6)).square()).clamp_min(0).square()
    fine = _plane_basis((values.shape[-2], values.shape[-1]), values)
    return values - (plane @ fine.T).view_as(values)


def _plane_basis(size: tuple[int, int], like: Tensor) -> Tensor:
    # Pixel centres of any grid over the image lie at the same coordinates, -1 to 1 from edge to edge.
    down, right = (((2 * torch.arange(side) + 1) / side - 1).to(like) for side in size)
    grid = torch.meshgrid(down, right, indexing="ij")
    return torch.stack([torch.ones_like(grid[0]), *grid], dim=-1).flatten(0, 1)


def trimmed_mahalanobis(features: Tensor, valid: Tensor) -> Tensor:
    """Return the squared Mahalanobis distance of each pixel's features to the bulk: (1, H, W).

    Mean and covariance are those of the 90 % nearest pixels, found in three rounds (concentration steps, as in
    Rousseeuw and Van Driessen's FAST-MCD, Technometrics 1999); a hundredth of the mean variance is added to the
    diagonal.

    Parameters
    ----------
    features
        (D, H, W).
    valid
        (1, H, W), 1.0 where a pixel counts.
    """
    points = features.flatten(1).T
    candidates = points[valid.flatten() > 0]
    kept = candidates
    for _ in range(TRIM_ROUNDS + 1):
        mean = kept.mean(0)
        centred = kept - mean
        covariance = centred.T @ centred / max(1, len(kept) - 1)
        variance = covariance.diagonal().mean().clamp_min(1e-9)
        covariance = covariance + RIDGE * variance * torch.eye(len(mean), device=points.device)
        # In double precision on the processor: 18 x 18, and the same on every device.
        whitening = torch.linalg.inv(torch.linalg.cholesky(covariance.double().cpu())).T.to(points)
        distance = ((candidates - mean) @ whitening).square().sum(1)
        kept = candidates[distance <= distance.kthvalue(max(1, int(TRIM * len(distance)))).values]
    return ((points - mean) @ whitening).square().sum(1).view(1, *features.shape[-2:])


def without_ring_excess(values: Tensor, valid: Tensor) -> Tensor:
    """Subtract what the rings along the image's border have in excess, by their medians.

    A network predicts worse where its context ends. Each ring of 2 pixels within 12 of the border is lowered by
    what its median exceeds the image's by.
    """
    height, width = values.shape[-2:]
    overall = median(values, valid)
    down, right = torch.arange(height, device=values.device), torch.arange(width, device=values.device)
    depth = torch.minimum(
        torch.minimum(down, height - 1 - down)[:, None], torch.minimum(right, width - 1 - right)[None, :]
    )
    result = values.clone()
    for start in range(0, RING_DEPTH, RING_WIDTH):
        ring = (depth >= start) & (depth < start + RING_WIDTH)
        counted = ring & (valid[0] > 0)
        if counted.any():
            excess = values[:, counted].median(dim=1).values[:, None] - overall[:, 0]
            result[:, ring] -= excess.clamp_min(0)
    return result
