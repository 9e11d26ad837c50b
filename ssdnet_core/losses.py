"""The two losses of the fit: pixel fidelity and the inner-product perceptual loss, one value an image."""

import math

from torch import Tensor
from torch.nn import functional

from ssdnet_core.config import LossConfig
from ssdnet_core.filters import orthonormal_bank
from ssdnet_core.folding import unfolded
from ssdnet_core.similarity import STABILISER

FILTERS = 32
"""Number of filters, of a basis of 48 for each channel: the loss samples what the score compares in full."""


def reconstruction_loss(
    prediction: Tensor, target: Tensor, *, hidden: Tensor, valid: Tensor, config: LossConfig
) -> Tensor:
    """Return the loss that the fit minimises: (G,), one for each image.

    Parameters
    ----------
    prediction, target
        (N, h, w, G, C, S), folded: the networks' output and the uncorrupted crops.
    hidden
        (N, h, w, G, 1, S), 1.0 where the network did not see the target.
    valid
        (N, h, w, G, 1, S), 1.0 where a pixel counts; the others carry no loss.
    """
    loss = pixel_loss(prediction, target, hidden=hidden, valid=valid, config=config)
    if config.perceptual_weight > 0:
        predicted, wanted, counted = (unfolded(values) for values in (prediction, target, valid))
        every = math.isqrt(target.shape[5])
        loss = loss + config.perceptual_weight * perceptual_loss(predicted, wanted, valid=counted, every=every)
    return loss


def pixel_loss(prediction: Tensor, target: Tensor, *, hidden: Tensor, valid: Tensor, config: LossConfig) -> Tensor:
    """Return the weighted mean absolute error, (G,): masked blocks weigh more than what was visible."""
    weight = valid * (config.visible_weight + (config.masked_weight - config.visible_weight) * hidden)
    error = ((prediction - target).abs().sum(4, keepdim=True) * weight).sum((0, 1, 2, 4, 5))
    return error / (weight.sum((0, 1, 2, 4, 5)) * target.shape[4]).clamp_min(1e-6)


def perceptual_loss(prediction: Tensor, target: Tensor, *, valid: Tensor, every: int) -> Tensor:
    """Return 1 - the inner-product similarity of local features, averaged over pixels: (G,), 0..2.

    The features are the answers of fixed random filters, orthonormal and of zero mean: the score compares those of a
    whole basis, averaged over windows (:mod:`ssdnet_core.similarity`). The floor is a share of the target's mean
    energy. A pixel counts if its whole 7 x 7 neighbourhood does.

    Only some of a crop's pixels need be compared: crops lie at random places, so each pixel of the image has its turn.
    One pixel of 16 takes a sixth of the time.

    Parameters
    ----------
    prediction, target
        (N, G, C, H, W).
    valid
        (N, G, 1, H, W), 1.0 where a pixel counts.
    every
        Distance in pixels, along each axis, between pixels that are compared.
    """
    bank = orthonormal_bank(target.shape[2], FILTERS, device=target.device).to(prediction.dtype)
    images = target.shape[1]
    of_prediction, of_target = (
        _by_image(functional.conv2d(values.flatten(0, 1), bank, stride=every), images)
        for values in (prediction, target)
    )
    whole = -_by_image(functional.max_pool2d(-valid.flatten(0, 1), bank.shape[-1], stride=every), images)
    energy = of_target.square().sum(2, keepdim=True)
    count = whole.sum((0, 2, 3, 4)).clamp_min(1.0)
    floor = (STABILISER * (energy * whole).sum((0, 2, 3, 4)) / count + 1e-6)[:, None, None, None]
    inner = (of_prediction * of_target).sum(2, keepdim=True)
    cosine = (inner + floor) / ((of_prediction.square().sum(2, keepdim=True) + floor) * (energy + floor)).sqrt()
    return ((1.0 - cosine) * whole).sum((0, 2, 3, 4)) / count


def _by_image(maps: Tensor, images: int) -> Tensor:
    return maps.reshape(-1, images, *maps.shape[1:])
