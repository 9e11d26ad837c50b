"""Score B: how unusual the residual and its derivatives are together.

Residuals (..., C, H, W) of images in which the same pixels count are scored together, each as it would be alone.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from ssdnet_core.bands import Band, bands
from ssdnet_core.border_rings import without_ring_excess
from ssdnet_core.bulk import BULK_SAMPLE, fit_bulk
from ssdnet_core.derivatives import DERIVATIVE_REACH, gaussian_derivatives
from ssdnet_core.filters import enlarge_squares, share_of, shrink, weighted_smooth, zeros_for
from ssdnet_core.medians import sampled, sampled_places, values_that_count
from ssdnet_core.polynomial_trend import level_z
from ssdnet_core.robust import enough_seen, over_median

PATTERN_SCALES = (1, 2)
PATTERN_WINDOW = 2.0
"""Sigma in pixels of the window over which the distances' logarithms are smoothed."""


def residual_pattern(residual: Tensor, valid: Tensor, *, grey_level: Tensor | float = 0.0) -> Tensor:
    """Return how unusual the residual and its derivatives are together: (..., 1, H, W).

    The smoothed logarithm of a robust squared Mahalanobis distance, as a squared robust z-score. Two-sided, since a
    flat defect is predicted *too* well.

    Parameters
    ----------
    grey_level
        (..., 1, 1) or a number: one step of the image's values, in units of the residual. Differences below a step come
        from rounding or compression: at 0 the few blocks of a JPEG that keep a faint hue stand out from all others,
        which have none.
    """
    total = zeros_for(residual, like=valid)
    for scale in PATTERN_SCALES:
        share = share_of(valid, scale)
        if not enough_seen(share, valid, side=scale):
            continue
        counted = (share > 0.5).float()
        distance = _distance_from_bulk(shrink(residual, scale), counted, grey_level=grey_level)
        total += enlarge_squares(over_median(distance, counted).log1p(), scale, like=valid)
    smoothed = without_ring_excess(weighted_smooth(total, valid, sigma=PATTERN_WINDOW), valid)
    return level_z(smoothed, valid).square()


def _distance_from_bulk(residual: Tensor, counted: Tensor, *, grey_level: Tensor | float) -> Tensor:
    height, width = residual.shape[-2:]
    parts = list(bands(height, width, reach=DERIVATIVE_REACH))
    if len(parts) == 1:
        pattern = _pattern(residual, parts[0])
        points = sampled(values_that_count(pattern, counted), BULK_SAMPLE)
        distance = fit_bulk(points, least_variance=grey_level**2).distance(pattern.flatten(-2))
    else:
        # The patterns of all bands would take much memory: they are computed twice, and only the sample is kept.
        seen = (values_that_count(_pattern(residual, band), counted[:, band.inner]) for band in parts)
        bulk = fit_bulk(_sampled_together(seen, total=int(counted.count_nonzero())), least_variance=grey_level**2)
        distance = torch.cat([bulk.distance(_pattern(residual, band).flatten(-2)) for band in parts], dim=-1)
    return distance.view(*residual.shape[:-3], 1, height, width)


def _sampled_together(parts: Iterable[Tensor], *, total: int) -> Tensor:
    """Return what :func:`ssdnet_core.medians.sampled` draws of the parts (..., D, N) joined: (..., D, n).

    ``total`` is the number of columns of all parts. Those drawn come in the order of that function, so that the result
    does not depend on where a part ends.
    """
    places = sampled_places(total, BULK_SAMPLE)
    drawn, order, begun = [], [], 0
    for columns in parts:
        ended = begun + columns.shape[-1]
        inside = torch.nonzero((places >= begun) & (places < ended))[:, 0]
        drawn.append(columns[..., (places[inside] - begun).to(columns.device)])
        order.append(inside)
        begun = ended
    together = torch.cat(drawn, dim=-1)
    return together[..., torch.cat(order).argsort().to(together.device)]


def _pattern(residual: Tensor, band: Band) -> Tensor:
    rows = residual[..., band.outer, :]
    return torch.cat([rows, gaussian_derivatives(rows)], dim=-3)[..., band.kept, :]
