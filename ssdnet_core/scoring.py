"""From an image and its blind reconstruction to the anomaly map: three scores, each over its own bulk, added.

No single score finds every defect (docs/METHOD.md has the table); each is normalised by medians of the image itself,
so that their sum, and one threshold for it, mean the same on every image.

Several images (..., C, H, W) that count the same pixels are scored together, each as it is alone: a graphics processor
is far from busy with one.
"""

import math

import torch
from torch import Tensor

from ssdnet_core.bands import Band, bands
from ssdnet_core.bulk import fit_bulk
from ssdnet_core.config import ScoreConfig
from ssdnet_core.filters import (
    DERIVATIVE_REACH,
    complete,
    derivative_energy,
    effective_samples,
    enlarge,
    gaussian_derivatives,
    self_guided_smooth,
    shrink,
    weighted_shrink,
    weighted_smooth,
)
from ssdnet_core.medians import counted_pixels, sampled
from ssdnet_core.robust import level_z, over_median, without_ring_excess
from ssdnet_core.similarity import dissimilarity

GRID = 4
"""What is seen through wide windows is averaged over squares of this many working pixels first."""

VALUES_AT_A_TIME = 2**21
ENERGY_SCALES = (1, 2, 4, 8)
ENERGY_WINDOW = 8.0
ENERGY_SPREAD = 8.0
ENERGY_FLOOR = 3e-4
PATTERN_SCALES = (1, 2)
PATTERN_WINDOW = 2.0
PATTERN_SAMPLE = 2**13
"""Pixels whose residuals tell the bulk's mean and covariance."""

SIMILARITY_SCALES = (1, 2, 4)
SIMILARITY_WINDOW = 6.0
SIMILARITY_SPREAD = 12.0
SCORE_FLOOR = 1e-2
MAP_WINDOW = 8.0
MAP_CONTRAST = 0.1
"""Variance of the score's logarithm in a window above which an edge of the map is kept."""
VERDICT_WINDOW = 2.0


def anomaly_map(
    image: Tensor, prediction: Tensor, valid: Tensor, *, config: ScoreConfig, own_energy: Tensor | None = None
) -> Tensor:
    """Score every pixel: (..., H, W), at least 0, in robust standard deviations (the root of a sum of squares).

    Parameters
    ----------
    image, prediction
        (..., C, H, W), standardised; the prediction is blind.
    valid
        (1, H, W), 1.0 where a pixel counts. The others take the scores of their neighbourhood.
    config
        Weights of the components.
    own_energy
        What :func:`image_energy` gives for the images, if it is known already.
    """
    image = fill_missing(image, prediction, valid)
    residual = prediction - image
    share = shrink(valid, GRID)
    wide, total = _zeros(image, like=share), _zeros(image, like=valid)
    if config.local_energy > 0:
        own_energy = image_energy(image, valid) if own_energy is None else own_energy
        energy = own_energy + local_energy(residual, valid)
        wide += config.local_energy * _over_bulk(energy, share, window=ENERGY_WINDOW, spread=ENERGY_SPREAD)
    if config.inner_product > 0:
        unlike = inner_product(image, prediction, valid)
        wide += config.inner_product * _over_bulk(unlike, share, window=SIMILARITY_WINDOW, spread=SIMILARITY_SPREAD)
    if config.residual_pattern > 0:
        pattern = over_median(residual_pattern(residual, valid), valid) * effective_samples(valid, PATTERN_WINDOW)
        total += config.residual_pattern * pattern
    total += enlarge(wide, (valid.shape[-2], valid.shape[-1]))
    # A pixel that does not count takes the scores of its neighbourhood.
    if not complete(valid):
        total = torch.where(valid > 0, total, weighted_smooth(total, valid, PATTERN_WINDOW))
    return total[..., 0, :, :].sqrt()


def settled_map(scores: Tensor, valid: Tensor) -> Tensor:
    """Return anomaly maps (..., H, W) smoothed where they vary little, with the edges of what stands out kept.

    On the logarithm of its square, so that an edge is one at a faint defect as at a strong one.
    """
    logs = (scores.square()[..., None, :, :] + SCORE_FLOOR).log()
    settled = self_guided_smooth(logs, valid, sigma=MAP_WINDOW, contrast=MAP_CONTRAST, grid=GRID)
    return (settled[..., 0, :, :] / 2).exp()


def _zeros(images: Tensor, *, like: Tensor) -> Tensor:
    return like.new_zeros((*images.shape[:-3], *like.shape))


def _over_bulk(score: Tensor, share: Tensor, *, window: float, spread: float) -> Tensor:
    # Near the border a window holds fewer pixels: its score is noisier, and trusted less.
    relative = over_median(score, share) * effective_samples(share, window / GRID)
    # The square of a z-score passes through zero at every change of sign: its local mean is what is unusual.
    return weighted_smooth(relative, share, spread / GRID)


def fill_missing(image: Tensor, prediction: Tensor, valid: Tensor) -> Tensor:
    """Return the image with what is missing filled by the prediction, less the residual's local mean."""
    if bool((valid > 0).all()):
        return image
    offset = weighted_smooth(prediction - image, valid, PATTERN_WINDOW)
    return torch.where(valid > 0, image, prediction - offset)


def image_energy(image: Tensor, valid: Tensor) -> Tensor:
    """Return the part of the local energy that images have without any prediction: (..., 1, h, w)."""
    return local_energy(image, valid) + local_mean(image, valid)


def local_energy(values: Tensor, valid: Tensor) -> Tensor:
    """Return how unusual the strength of each derivative is in a neighbourhood: (..., 1, h, w), median 1 a scale.

    The logarithm of the Gaussian-averaged squared derivatives, as a robust z-score against the whole image, squared,
    averaged over derivatives and channels; summed over four scales. h and w are H and W over 4, rounded up.
    """
    share = shrink(valid, GRID)
    total = _zeros(values, like=share)
    for scale in ENERGY_SCALES:
        counted = (shrink(valid, scale) > 0.5).float()
        grid = max(1, GRID // scale)
        strength = derivative_energy(shrink(values, scale), counted, grid=grid)
        total += _unusual(strength, shrink(counted, grid), window=ENERGY_WINDOW / (scale * grid), log=True, like=share)
    return total


def local_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Return how unusual the mean of each channel is in a neighbourhood: (..., 1, h, w), median 1.

    Flat stains show here.
    """
    share = shrink(valid, GRID)
    return _unusual(weighted_shrink(values, valid, GRID), share, window=ENERGY_WINDOW / GRID, log=False, like=share)


def _unusual(values: Tensor, share: Tensor, *, window: float, log: bool, like: Tensor) -> Tensor:
    counted = (share > 0.5).float()
    if not bool(counted.any()):
        return _zeros(values, like=like)
    square = _zeros(values, like=share)
    # A few channels at a time where the image is large.
    for part in values.tensor_split(math.ceil(math.prod(values.shape[-3:]) / VALUES_AT_A_TIME), dim=-3):
        averaged = weighted_smooth(part, share, max(window, 2.0))
        averaged = (averaged + ENERGY_FLOOR).log() if log else averaged
        square += level_z(averaged, counted).square().sum(-3, keepdim=True)
    return enlarge(over_median(square / values.shape[-3], counted), (like.shape[-2], like.shape[-1]))


def residual_pattern(residual: Tensor, valid: Tensor) -> Tensor:
    """Return how unusual the residual and its derivatives are together: (..., 1, H, W).

    Robust Mahalanobis distance, its logarithm smoothed, as a squared robust z-score. Two-sided, since a flat defect
    is predicted *too* well.
    """
    size = (residual.shape[-2], residual.shape[-1])
    total = _zeros(residual, like=valid)
    for scale in PATTERN_SCALES:
        counted = (shrink(valid, scale) > 0.5).float()
        if not bool(counted.any()):
            continue
        distance = _distance_from_bulk(shrink(residual, scale), counted)
        total += enlarge(over_median(distance, counted).log1p(), size)
    smoothed = without_ring_excess(weighted_smooth(total, valid, PATTERN_WINDOW), valid)
    return level_z(smoothed, valid).square()


def _distance_from_bulk(residual: Tensor, counted: Tensor) -> Tensor:
    height, width = residual.shape[-2:]
    parts = list(bands(height, width, reach=DERIVATIVE_REACH))
    rate = PATTERN_SAMPLE / max(PATTERN_SAMPLE, int(counted.sum()))
    drawn = []
    for band in parts:
        points = counted_pixels(_pattern(residual, band), counted[:, band.inner])
        drawn.append(sampled(points, math.ceil(rate * points.shape[-1])))
    bulk = fit_bulk(torch.cat(drawn, dim=-1))
    distance = torch.cat([bulk.distance(_pattern(residual, band).flatten(-2)) for band in parts], dim=-1)
    return distance.view(*residual.shape[:-3], 1, height, width)


def _pattern(residual: Tensor, band: Band) -> Tensor:
    rows = residual[..., band.outer, :]
    return torch.cat([rows, gaussian_derivatives(rows)], dim=-3)[..., band.kept, :]


def inner_product(image: Tensor, prediction: Tensor, valid: Tensor) -> Tensor:
    """Return how unusually unlike image and prediction are in direction: (..., 1, h, w), at H and W over 4, rounded up.

    The paper's inner-product similarity as a score, over three scales.
    """
    share = shrink(valid, GRID)
    total = _zeros(image, like=share)
    for scale in SIMILARITY_SCALES:
        sigma = max(SIMILARITY_WINDOW / scale, 0.6)
        unlike = dissimilarity(image, prediction, valid, scale=scale, sigma=sigma, grid=GRID // scale)
        total += (unlike + 1e-4).log()
    return level_z(without_ring_excess(total, share, grid=GRID), share).square()


def verdict_map(scores: Tensor, valid: Tensor) -> Tensor:
    """Return anomaly maps as the verdict reads them, (..., H, W): squares smoothed by 2 pixels, 0 where not valid."""
    squared = weighted_smooth(scores.square()[..., None, :, :], valid, VERDICT_WINDOW)
    return (squared * valid)[..., 0, :, :].sqrt()
