"""The two losses of the fit: pixel fidelity and the inner-product perceptual loss."""

from torch import Tensor
from torch.nn import functional

from ssdnet_core.config import LossConfig
from ssdnet_core.filters import orthonormal_bank
from ssdnet_core.similarity import FILTERS, STABILISER


def reconstruction_loss(
    prediction: Tensor, target: Tensor, *, hidden: Tensor, valid: Tensor, config: LossConfig
) -> Tensor:
    """Return the loss that the fit minimises, a scalar.

    Parameters
    ----------
    prediction, target
        (N, C, H, W): the network's output and the uncorrupted crops.
    hidden
        (N, 1, H, W), 1.0 where the network did not see the target.
    valid
        (N, 1, H, W), 1.0 where a pixel counts; the others carry no loss.
    """
    loss = pixel_loss(prediction, target, hidden=hidden, valid=valid, config=config)
    if config.perceptual_weight > 0:
        loss = loss + config.perceptual_weight * perceptual_loss(prediction, target, valid=valid)
    return loss


def pixel_loss(prediction: Tensor, target: Tensor, *, hidden: Tensor, valid: Tensor, config: LossConfig) -> Tensor:
    """Return the weighted mean absolute error: masked blocks weigh more than what was visible."""
    weight = valid * (config.visible_weight + (config.masked_weight - config.visible_weight) * hidden)
    return ((prediction - target).abs() * weight).sum() / (weight.sum() * target.shape[1]).clamp_min(1e-6)


def perceptual_loss(prediction: Tensor, target: Tensor, *, valid: Tensor) -> Tensor:
    """Return 1 - the inner-product similarity of fixed-filter features, averaged over pixels: 0..2.

    The filters are those of the score (:mod:`ssdnet_core.similarity`); a pixel counts if its whole 7 x 7
    neighbourhood does.
    """
    bank = orthonormal_bank(target.shape[1], FILTERS).to(prediction)
    of_prediction, of_target = functional.conv2d(prediction, bank), functional.conv2d(target, bank)
    radius = bank.shape[-1] // 2
    whole = -functional.max_pool2d(-valid, bank.shape[-1], stride=1)
    assert whole.shape[-1] == valid.shape[-1] - 2 * radius
    energy = of_target.square().sum(1, keepdim=True)
    count = whole.sum().clamp_min(1.0)
    floor = STABILISER * (energy * whole).sum() / count + 1e-6
    inner = (of_prediction * of_target).sum(1, keepdim=True)
    cosine = (inner + floor) / ((of_prediction.square().sum(1, keepdim=True) + floor) * (energy + floor)).sqrt()
    return ((1.0 - cosine) * whole).sum() / count
