"""From an image and its blind reconstruction to the anomaly map: three scores, each over its own bulk, added.

No single score finds every defect (docs/METHOD.md has the table); each is normalised by medians of the image itself,
so that their sum, and one threshold for it, mean the same on every image.
"""

import torch
from torch import Tensor

from ssdnet_core.config import ScoreConfig
from ssdnet_core.filters import effective_samples, enlarge, gaussian_derivatives, shrink, weighted_smooth
from ssdnet_core.robust import over_median, robust_z, trimmed_mahalanobis, without_ring_excess
from ssdnet_core.similarity import dissimilarity

ENERGY_SCALES = (1, 2, 4, 8)
ENERGY_WINDOW = 16.0
ENERGY_FLOOR = 3e-4
PATTERN_SCALES = (1, 2)
PATTERN_WINDOW = 2.0
SIMILARITY_SCALES = (1, 2, 4)
SIMILARITY_WINDOW = 6.0
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
        energy = local_energy(image, valid) + local_energy(residual, valid)
        total += config.local_energy * _over_bulk(energy, valid, window=ENERGY_WINDOW)
    if config.residual_pattern > 0:
        pattern = residual_pattern(residual, valid)
        total += config.residual_pattern * _over_bulk(pattern, valid, window=PATTERN_WINDOW)
    if config.inner_product > 0:
        unlike = inner_product(image, prediction, valid)
        total += config.inner_product * _over_bulk(unlike, valid, window=SIMILARITY_WINDOW)
    return total[0].sqrt()


def _over_bulk(score: Tensor, valid: Tensor, *, window: float) -> Tensor:
    # Near the border a window holds fewer pixels: its score is noisier, and trusted less.
    return over_median(score, valid) * effective_samples(valid, window)


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
    size = (values.shape[-2], values.shape[-1])
    total = torch.zeros_like(valid)
    for scale in ENERGY_SCALES:
        counted = (shrink(valid, scale) > 0.5).float()
        if not bool(counted.any()):
            continue
        energy = weighted_smooth(
            gaussian_derivatives(shrink(values, scale)).square(), counted, max(ENERGY_WINDOW / scale, 2.0)
        )
        unusual = robust_z((energy + ENERGY_FLOOR).log(), counted).square().mean(0, keepdim=True)
        total += enlarge(over_median(unusual, counted), size)
    return total


def residual_pattern(residual: Tensor, valid: Tensor) -> Tensor:
    """Return how unusual the residual and its derivatives are together: (1, H, W).

    Robust Mahalanobis distance, its logarithm smoothed, as a squared robust z-score. Two-sided, since a flat defect
    is predicted *too* well.
    """
    size = (residual.shape[-2], residual.shape[-1])
    total = torch.zeros_like(valid)
    for scale in PATTERN_SCALES:
        counted = (shrink(valid, scale) > 0.5).float()
        shrunk = shrink(residual, scale)
        features = torch.cat([shrunk, gaussian_derivatives(shrunk)])
        distance = trimmed_mahalanobis(features, counted)
        total += enlarge(over_median(distance, counted).log1p(), size)
    smoothed = without_ring_excess(weighted_smooth(total, valid, PATTERN_WINDOW), valid)
    return robust_z(smoothed, valid).square()


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
    return robust_z(without_ring_excess(total, valid), valid).square()


def verdict_map(scores: Tensor, valid: Tensor) -> Tensor:
    """Return the anomaly map as the verdict reads it, (H, W): its square smoothed by 2 pixels, 0 where not valid."""
    squared = weighted_smooth(scores.square()[None], valid, VERDICT_WINDOW)
    return (squared * valid)[0].sqrt()
