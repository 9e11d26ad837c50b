"""Inner-product similarity of local features: the paper's perceptual measure, in the loss and in the score."""

import torch
from torch import Tensor
from torch.nn import functional

from ssdnet_core.filters import orthonormal_bank, shrink, weighted_smooth

FILTERS = 32
STABILISER = 0.3
"""Share of the median energy added to both sides of the ratio: without it flat places have random directions."""


def bank_features(values: Tensor) -> Tensor:
    """Return the responses (32, H, W) of the fixed orthonormal filters to an image (C, H, W)."""
    bank = orthonormal_bank(values.shape[0], FILTERS).to(values)
    radius = bank.shape[-1] // 2
    return functional.conv2d(functional.pad(values[None], (radius,) * 4, mode="replicate"), bank)[0]


def dissimilarity(image: Tensor, prediction: Tensor, valid: Tensor, *, scale: int, sigma: float) -> Tensor:
    """Return 1 - the stabilised cosine of the local features of image and prediction: (1, h, w) in 0..2.

    The three inner products are averaged over a Gaussian window *before* the ratio, which is what keeps the cosine
    from jumping about where there is little contrast.

    Parameters
    ----------
    image, prediction
        (C, H, W), standardised.
    valid
        (1, H, W), 1.0 where a pixel counts.
    scale
        The images are shrunk by this factor first; h and w are H and W over it, rounded up.
    sigma
        Of the window, in pixels after shrinking.
    """
    weight = shrink(valid, scale)
    of_image, of_prediction = bank_features(shrink(image, scale)), bank_features(shrink(prediction, scale))
    products = torch.stack([(of_image * of_prediction).sum(0), of_image.square().sum(0), of_prediction.square().sum(0)])
    inner, energy, predicted = weighted_smooth(products, weight, sigma)
    floor = STABILISER * energy[weight[0] > 0].median() + 1e-6
    cosine = (inner + floor) / ((energy + floor) * (predicted + floor)).sqrt()
    return (1.0 - cosine)[None]
