"""The bulk of an image's features: their mean and covariance without the outliers, and the distance from it."""

from dataclasses import dataclass

import torch
from torch import Tensor

TRIM = 0.9
TRIM_ROUNDS = 3
RIDGE = 0.01


@dataclass(frozen=True, eq=False)
class Bulk:
    """A multivariate normal distribution, of which anomalous pixels are no part.

    Attributes
    ----------
    mean
        (D,).
    whitening
        (D, D): a centred row of features times this has unit covariance.
    """

    mean: Tensor
    whitening: Tensor

    def distance(self, points: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance of each column of (D, N): (N,)."""
        offset = self.whitening.T @ self.mean
        return (self.whitening.T @ points - offset[:, None]).square().sum(0)


def fit_bulk(points: Tensor) -> Bulk:
    """Fit mean and covariance to the 90 % nearest of the points (D, N).

    Found in three rounds (concentration steps, as in Rousseeuw and Van Driessen's FAST-MCD, Technometrics 1999); a
    hundredth of the mean variance is added to the diagonal.
    """
    weight = torch.ones_like(points[0])
    for _ in range(TRIM_ROUNDS):
        distance = _normal(points, weight).distance(points)
        weight = (distance <= distance.kthvalue(max(1, int(TRIM * len(distance)))).values).float()
    return _normal(points, weight)


def _normal(points: Tensor, weight: Tensor) -> Bulk:
    count = weight.sum()
    mean = points @ weight / count
    centred = (points - mean[:, None]) * weight
    covariance = centred @ centred.T / (count - 1).clamp_min(1)
    variance = covariance.diagonal().mean().clamp_min(1e-9)
    covariance = covariance + RIDGE * variance * torch.eye(len(mean), device=points.device)
    # In double precision on the processor: 18 x 18, and the same on every device.
    whitening = torch.linalg.inv(torch.linalg.cholesky(covariance.double().cpu())).T.to(points)
    return Bulk(mean, whitening)
