"""Score C: inner-product similarity of local features, the paper's perceptual measure as the score takes it.

The features are the coefficients of a pixel's 7 x 7 neighbourhood in an orthonormal basis of all patterns of zero mean.
Their inner product is a covariance, so that no basis is needed; the loss (:mod:`ssdnet_core.losses`) takes a few random
filters instead.
"""

import torch
from torch import Tensor

from ssdnet_core.border_rings import without_ring_excess
from ssdnet_core.filters import (
    BANK_SIZE,
    GRID,
    box_mean,
    share_of,
    shrink,
    shrunk_by_bands,
    weighted_smooth,
    zeros_for,
)
from ssdnet_core.medians import median
from ssdnet_core.polynomial_trend import level_z

SIMILARITY_SCALES = (1, 2, 4)
SIMILARITY_WINDOW = 6.0
"""Sigma in pixels of the windows over which inner products are averaged."""

STABILISER = 0.3
"""Share of the usual energy (here the median, in the loss the mean) added to both sides of the ratio.

Without it flat places have random directions.
"""


def inner_product(image: Tensor, prediction: Tensor, *, valid: Tensor) -> Tensor:
    """Return how unusual the unlikeness of image and prediction is: (..., 1, h, w), at H and W over 4, rounded up.

    The paper's inner-product similarity as a two-sided score, over three scales.
    """
    share = share_of(valid, GRID)
    total = zeros_for(image, like=share)
    for scale in SIMILARITY_SCALES:
        sigma = max(SIMILARITY_WINDOW / scale, 0.6)
        unlike = dissimilarity(image, prediction, valid=valid, scale=scale, sigma=sigma, grid=GRID // scale)
        total += (unlike + 1e-4).log()
    return level_z(without_ring_excess(total, share, grid=GRID), share).square()


def dissimilarity(
    image: Tensor, prediction: Tensor, *, valid: Tensor, scale: int, sigma: float, grid: int = 1
) -> Tensor:
    """Return 1 - the stabilised cosine of the local features of image and prediction: (..., 1, h, w) in 0..2.

    The three inner products are averaged over a Gaussian window *before* the ratio, which is what keeps the cosine
    from jumping about where there is little contrast.

    Parameters
    ----------
    image, prediction
        (..., C, H, W), standardised.
    valid
        (1, H, W), 1.0 where a pixel counts.
    scale
        The images are shrunk by this factor first.
    sigma
        Of the window, in pixels after shrinking.
    grid
        Side in pixels after shrinking of the squares over which the inner products are averaged before the window;
        h and w are H and W over scale and grid, rounded up.
    """
    weight = share_of(valid, scale)
    image, prediction = shrink(image, scale), shrink(prediction, scale)
    averaged = shrunk_by_bands(
        lambda rows: inner_products(image[..., rows, :], prediction[..., rows, :]),
        weight,
        reach=BANK_SIZE // 2,
        factor=grid,
    )
    share = share_of(weight, grid)
    inner, energy, predicted = weighted_smooth(averaged, share, sigma=sigma / grid).unbind(-3)
    # These are differences of means: rounding may leave a little less than 0, here and in the result.
    energy, predicted = energy.clamp_min(0), predicted.clamp_min(0)
    floor = STABILISER * median(energy[..., None, :, :], share)[..., 0, :, :] + 1e-6
    cosine = (inner + floor) / ((energy + floor) * (predicted + floor)).sqrt()
    return (1.0 - cosine).clamp_min(0)[..., None, :, :]


def inner_products(image: Tensor, prediction: Tensor) -> Tensor:
    """Return the inner products of the features of images (..., C, H, W) and their predictions: (..., 3, H, W).

    Image with prediction, image with itself, prediction with itself; borders are replicated.
    """
    pairs = ((image, prediction), (image, image), (prediction, prediction))
    products = torch.stack([(one * other).sum(-3) for one, other in pairs], dim=-3)
    means = box_mean(torch.cat([products, image, prediction], dim=-3), BANK_SIZE)
    products, of_image, of_prediction = torch.split(means, [len(pairs), image.shape[-3], image.shape[-3]], dim=-3)
    pairs = ((of_image, of_prediction), (of_image, of_image), (of_prediction, of_prediction))
    return BANK_SIZE**2 * (products - torch.stack([(one * other).sum(-3) for one, other in pairs], dim=-3))
