"""From an image and its blind reconstruction to the anomaly map: three scores, each over its own bulk, added.

No single score finds every defect (docs/METHOD.md has the table); each is normalised by medians of the image itself,
so that their sum, and one threshold for it, mean the same on every image.
"""

import torch
from torch import Tensor

from ssdnet_core.config import ScoreConfig
from ssdnet_core.filters import (
    effective_samples,
    enlarge,
    gaussian_derivatives,
    self_guided_smooth,
    shrink,
    weighted_smooth,
)
from ssdnet_core.robust import level_z, over_median, trimmed_mahalanobis, without_ring_excess
from ssdnet_core.similarity import dissimilarity

ENERGY_SCALES = (1, 2, 4, 8)
ENERGY_WINDOW = 8.0
ENERGY_SPREAD = 8.0
ENERGY_GRID = 4
"""Energies are averaged over squares of this many working pixels first: a window of 8 sees no difference."""

ENERGY_FLOOR = 3e-4
PATTERN_SCALES = (1, 2)
PATTERN_WINDOW = 2.0
SIMILARITY_SCALES = (1, 2, 4)
SIMILARITY_WINDOW = 6.0
SIMILARITY_SPREAD = 12.0
SCORE_FLOOR = 1e-2
MAP_WINDOW = 8.0
MAP_CONTRAST = 0.1
"""Variance of the score's logarithm in a window above which an edge of the map is kept."""
VERDICT_WINDOW = 2.0


def anomaly_map(image: Tensor, prediction: Tensor, valid: Tensor, *, config: ScoreConfig) -> Tensor:
    """Score every pixel: (H, W), at least 0, in robust standard deviations (the root of a sum of squares).

    Parameters
    ----------
    image, prediction
        (C, H, W), standardised; the prediction is blind.
    valid
        (1, H, W), 1.0 where a pixel counts. The others take the scores of their neighbourhood.
    config
        Weights of the components.
    """
    image = fill_missing(image, prediction, valid)
    residual = prediction - image
    total = torch.zeros_like(valid)
    if config.local_energy > 0:
        energy = local_energy(image, valid) + local_energy(residual, valid) + local_mean(image, valid)
        total += config.local_energy * _over_bulk(energy, valid, window=ENERGY_WINDOW, spread=ENERGY_SPREAD)
    if config.residual_pattern > 0:
        pattern = residual_pattern(residual, valid)
        total += config.residual_pattern * _over_bulk(pattern, valid, window=PATTERN_WINDOW)
    if config.inner_product > 0:
        unlike = inner_product(image, prediction, valid)
        total += config.inner_product * _over_bulk(unlike, valid, window=SIMILARITY_WINDOW, spread=SIMILARITY_SPREAD)
    # A pixel that does not count takes the scores of its neighbourhood.
    return torch.where(valid > 0, total, weighted_smooth(total, valid, PATTERN_WINDOW))[0].sqrt()


def settled_map(scores: Tensor, valid: Tensor) -> Tensor:
    """Return an anomaly map (H, W) smoothed where it varies little, with the edges of what stands out kept.

    On the logarithm of its square, so that an edge is one at a faint defect as at a strong one.
    """
    logs = (scores.square()[None] + SCORE_FLOOR).log()
    return (self_guided_smooth(logs, valid, sigma=MAP_WINDOW, contrast=MAP_CONTRAST)[0] / 2).exp()


def _over_bulk(score: Tensor, valid: Tensor, *, window: float, spread: float = 0.0) -> Tensor:
    # Near the border a window holds fewer pixels: its score is noisier, and trusted less.
    relative = over_median(score, valid) * effective_samples(valid, window)
    # The square of a z-score passes through zero at every change of sign: its local mean is what is unusual.
    return weighted_smooth(relative, valid, spread) if spread > 0 else relative


def fill_missing(image: Tensor, prediction: Tensor, valid: Tensor) -> Tensor:
    """Return the image with what is missing filled by the prediction, less the residual's local mean."""
    if bool((valid > 0).all()):
        return image
    offset = weighted_smooth(prediction - image, valid, PATTERN_WINDOW)
    return torch.where(valid > 0, image, prediction - offset)


def local_energy(values: Tensor, valid: Tensor) -> Tensor:
    """Return how unusual the strength of each derivative is in a neighbourhood: (1, H, W), median 1 a scale.

    The logarithm of the Gaussian-averaged squared derivatives, as a robust z-score against the whole image, squared,
    averaged over derivatives and channels; summed over four scales.
    """
    total = torch.zeros_like(valid)
    for scale in ENERGY_SCALES:
        counted = (shrink(valid, scale) > 0.5).float()
        strength = gaussian_derivatives(shrink(values, scale)).square()
        averaged, share = _window_mean(strength, counted, grid=max(1, ENERGY_GRID // scale), scale=scale)
        total += _unusual((averaged + ENERGY_FLOOR).log(), share, like=valid)
    return total


def local_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Return how unusual the mean of each channel is in a neighbourhood: (1, H, W), median 1. Flat stains show here."""
    averaged, share = _window_mean(values, valid, grid=ENERGY_GRID, scale=1)
    return _unusual(averaged, share, like=valid)


def _window_mean(values: Tensor, counted: Tensor, *, grid: int, scale: int) -> tuple[Tensor, Tensor]:
    share = shrink(counted, grid)
    coarse = shrink(values * counted, grid) / share.clamp_min(1e-6)
    return weighted_smooth(coarse, share, max(ENERGY_WINDOW / (scale * grid), 2.0)), share


def _unusual(values: Tensor, share: Tensor, *, like: Tensor) -> Tensor:
    counted = (share > 0.5).float()
    if not bool(counted.any()):
        return torch.zeros_like(like)
    square = level_z(values, counted).square().mean(0, keepdim=True)
    return enlarge(over_median(square, counted), (like.shape[-2], like.shape[-1]))


def residual_pattern(residual: Tensor, valid: Tensor) -> Tensor:
    """Return how unusual the residual and its derivatives are together: (1, H, W).

    Robust Mahalanobis distance, its logarithm smoothed, as a squared robust z-score. Two-sided, since a flat defect
    is predicted *too* well.
    """
    size = (residual.shape[-2], residual.shape[-1])
    total = torch.zeros_like(valid)
    for scale in PATTERN_SCALES:
        counted = (shrink(valid, scale) > 0.5).float()
        if not bool(counted.any()):
            continue
        shrunk = shrink(residual, scale)
        features = torch.cat([shrunk, gaussian_derivatives(shrunk)])
        distance = trimmed_mahalanobis(features, counted)
        total += enlarge(over_median(distance, counted).log1p(), size)
    smoothed = without_ring_excess(weighted_smooth(total, valid, PATTERN_WINDOW), valid)
    return level_z(smoothed, valid).square()


def inner_product(image: Tensor, prediction: Tensor, valid: Tensor) -> Tensor:
    """Return how unusually unlike image and prediction are in direction: (1, H, W).

    The paper's inner-product similarity as a score, over three scales.
    """
    size = (image.shape[-2], image.shape[-1])
    total = torch.zeros_like(valid)
    for scale in SIMILARITY_SCALES:
        sigma = max(SIMILARITY_WINDOW / scale, 0.6)
        unlike = dissimilarity(image, prediction, valid, scale=scale, sigma=sigma)
        total += enlarge((unlike + 1e-4).log(), size)
    return level_z(without_ring_excess(total, valid), valid).square()


def verdict_map(scores: Tensor, valid: Tensor) -> Tensor:
    """Return the anomaly map as the verdict reads it, (H, W): its square smoothed by 2 pixels, 0 where not valid."""
    squared = weighted_smooth(scores.square()[None], valid, VERDICT_WINDOW)
    return (squared * valid)[0].sqrt()
