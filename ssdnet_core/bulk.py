"""The bulk of an image's features: their mean and covariance without the outliers, and the distance from it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ssdnet_core.devices import in_double
from ssdnet_core.medians import sampled, values_that_count
from ssdnet_core.robust import over_median

NEAREST_SHARE, NEAREST_ROUNDS = 0.9, 3
"""Share of the points that are taken for the bulk, and how often the nearest are sought anew."""

RIDGE = 0.01
BULK_SAMPLE = 2**13
"""Number of sampled pixels from which a bulk's mean and covariance are estimated."""


@dataclass(frozen=True, eq=False)
class Bulk:
    """A multivariate normal distribution of D features, estimated without the anomalous pixels.

    Attributes
    ----------
    mean
        (..., D).
    whitening
        (..., D, D): a centred row of features times this has unit covariance.
    """

    mean: Tensor
    whitening: Tensor

    def distance(self, points: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance of each column of (..., D, N): (..., N)."""
        offset = self.whitening.mT @ self.mean[..., None]
        return (self.whitening.mT @ points - offset).square().sum(-2)


def fit_bulk(points: Tensor, *, ridge: float = RIDGE, least_variance: Tensor | float = 0.0) -> Bulk:
    """Fit mean and covariance to the 90 % nearest of the points (..., D, N), of each image by itself.

    They are found in three rounds (concentration steps, as in Rousseeuw and Van Driessen's FAST-MCD, Technometrics
    1999). To the diagonal of the covariance are added ``ridge`` times the mean variance, and ``least_variance``: a
    number, (..., 1, 1), or (..., D, 1) with one for each feature.
    """
    weight = torch.ones_like(points[..., 0, :])
    nearest = max(1, int(NEAREST_SHARE * points.shape[-1]))
    for _ in range(NEAREST_ROUNDS):
        distance = _normal(points, weight, ridge=ridge, least_variance=least_variance).distance(points)
        weight = (distance <= distance.kthvalue(nearest, keepdim=True).values).float()
    return _normal(points, weight, ridge=ridge, least_variance=least_variance)


def distance_over_median(
    features: Tensor, counted: Tensor, *, ridge: float = RIDGE, least_variance: Tensor | float = 0.0
) -> Tensor:
    """Return the squared distance of features (..., D, H, W) from their bulk, over its median: (..., 1, H, W).

    ``counted`` is (1, H, W), 1.0 where a pixel counts: the bulk (:func:`fit_bulk`) and the median are of those pixels.
    """
    bulk = fit_bulk(
        sampled(values_that_count(features, counted), BULK_SAMPLE), ridge=ridge, least_variance=least_variance
    )
    distance = bulk.distance(features.flatten(-2)).view(*features.shape[:-3], *counted.shape)
    return over_median(distance, counted)


def _normal(points: Tensor, weight: Tensor, *, ridge: float, least_variance: Tensor | float) -> Bulk:
    count = weight.sum(-1)[..., None, None]
    mean = points @ weight[..., None] / count
    centred = (points - mean) * weight[..., None, :]
    covariance = centred @ centred.mT / (count - 1).clamp_min(1)
    variance = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None].clamp_min(1e-9)
    diagonal = torch.eye(points.shape[-2], dtype=points.dtype, device=points.device)
    covariance = covariance + (ridge * variance + least_variance) * diagonal
    # 18 x 18; double precision gives much the same result on every device.
    factor = torch.linalg.cholesky_ex(in_double(covariance)).L
    identity = torch.eye(points.shape[-2], dtype=factor.dtype, device=factor.device)
    whitening = torch.linalg.solve_triangular(factor, identity, upper=False).mT.to(points)
    return Bulk(mean[..., 0], whitening)
