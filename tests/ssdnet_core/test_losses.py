import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from ssdnet_core import losses
from ssdnet_core.config import LossConfig
from ssdnet_core.filters import orthonormal_bank
from ssdnet_core.folding import folded
from ssdnet_core.losses import FILTERS
from ssdnet_core.similarity import STABILISER
from tests.ssdnet_core.drawn_values import drawn, few_examples

seeds = st.integers(0, 2**32 - 10)
weights = st.floats(0.0, 10.0)
channel_counts = st.sampled_from([1, 3])


def as_crops(planes, side=1):
    """(N, C, H, W) of one image as its crops: (N, h, w, 1, C, S)."""
    return folded(planes[:, None], side=side)


def reconstruction_loss(prediction, target, *, hidden, valid, config, side=1):
    """The loss of one image, of (N, C, H, W)."""
    prediction, target, hidden, valid = (as_crops(each, side) for each in (prediction, target, hidden, valid))
    return losses.reconstruction_loss(prediction, target, hidden=hidden, valid=valid, config=config)[0]


def pixel_loss(prediction, target, *, hidden, valid, config):
    """The pixel loss of one image, of (N, C, H, W)."""
    prediction, target, hidden, valid = (as_crops(each) for each in (prediction, target, hidden, valid))
    return losses.pixel_loss(prediction, target, hidden=hidden, valid=valid, config=config)[0]


def perceptual_loss(prediction, target, *, valid, every=1):
    """The perceptual loss of one image, of (N, C, H, W)."""
    return losses.perceptual_loss(prediction[:, None], target[:, None], valid=valid[:, None], every=every)[0]


def flags(*shape, share, seed=0):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share).float()


def everything(batch):
    return torch.ones_like(batch[:, :1])


def all_but_a_hole(batch):
    valid = everything(batch)
    valid[:, :, 5:12, 14:22] = 0
    return valid


def with_other_hole(batch, valid, *, seed):
    return torch.where(valid > 0, batch, 30 * drawn(*batch.shape, seed=seed))


def perceptual_by_pixels(prediction, target, valid, *, every=1):
    """The mean of 1 - the stabilised cosine over the pixels whose whole neighbourhood counts, pixel by pixel."""
    bank = orthonormal_bank(target.shape[1], FILTERS).double().flatten(1).numpy()
    pairs = []
    for one, other, counted in zip(prediction, target, valid, strict=True):
        for row in range(0, one.shape[1] - 6, every):
            for column in range(0, one.shape[2] - 6, every):
                window = (..., slice(row, row + 7), slice(column, column + 7))
                if counted[window].all():
                    pairs.append([bank @ image[window].double().flatten().numpy() for image in (one, other)])
    floor = STABILISER * np.mean([of_target @ of_target for _, of_target in pairs]) + 1e-6
    unlike = [1 - (p @ t + floor) / np.sqrt((p @ p + floor) * (t @ t + floor)) for p, t in pairs]
    return float(np.mean(unlike))


@few_examples
@given(seeds, channel_counts, st.floats(0.01, 10.0), weights)
def test_the_pixel_loss_is_the_weighted_mean_absolute_error(seed, channels, masked, visible):
    prediction, target = drawn(2, channels, 9, 11, seed=seed), drawn(2, channels, 9, 11, seed=seed + 1)
    hidden, valid = flags(2, 1, 9, 11, share=0.4, seed=seed), flags(2, 1, 9, 11, share=0.8, seed=seed + 1)
    total, weight = 0.0, 0.0
    for place in np.ndindex(2, channels, 9, 11):
        at = (place[0], 0, *place[2:])
        here = float(valid[at]) * (masked if hidden[at] else visible)
        total, weight = total + here * abs(float(prediction[place] - target[place])), weight + here
    config = LossConfig(masked_weight=masked, visible_weight=visible)
    loss = pixel_loss(prediction, target, hidden=hidden, valid=valid, config=config)
    assert float(loss) == pytest.approx(total / weight, rel=1e-4)


@few_examples
@given(seeds, channel_counts)
def test_a_perfect_prediction_costs_nothing(seed, channels):
    target = drawn(2, channels, 20, 24, seed=seed)
    hidden, valid = flags(2, 1, 20, 24, share=0.4, seed=seed), all_but_a_hole(target)
    config = LossConfig(perceptual_weight=1.0)
    loss = reconstruction_loss(target.clone(), target, hidden=hidden, valid=valid, config=config)
    assert abs(float(loss)) < 1e-6
    wrong = reconstruction_loss(target + 0.1, target, hidden=hidden, valid=valid, config=config)
    assert float(wrong) > 0.05


@few_examples
@given(seeds, st.floats(0.01, 10.0))
def test_the_loss_is_the_pixel_loss_plus_the_weighted_perceptual_loss(seed, weight):
    prediction, target = drawn(2, 3, 20, 24, seed=seed), drawn(2, 3, 20, 24, seed=seed + 1)
    given_ = {"hidden": flags(2, 1, 20, 24, share=0.4, seed=seed), "valid": all_but_a_hole(target)}
    config = LossConfig(perceptual_weight=weight)
    pixel = pixel_loss(prediction, target, **given_, config=config)
    perceptual = perceptual_loss(prediction, target, valid=given_["valid"])
    whole = reconstruction_loss(prediction, target, **given_, config=config)
    assert float(whole) == pytest.approx(float(pixel + weight * perceptual), rel=1e-5)
    without = reconstruction_loss(prediction, target, **given_, config=LossConfig(perceptual_weight=0.0))
    assert float(without) == float(pixel)


@few_examples
@given(seeds, channel_counts)
def test_the_loss_does_not_see_the_prediction_of_invalid_pixels(seed, channels):
    target = drawn(2, channels, 20, 28, seed=seed)
    valid, hidden = all_but_a_hole(target), flags(2, 1, 20, 28, share=0.4, seed=seed)
    first = drawn(2, channels, 20, 28, seed=seed + 1)
    second = with_other_hole(first, valid, seed=seed + 2)
    config = LossConfig(perceptual_weight=1.0)
    one, other = (
        reconstruction_loss(each, target, hidden=hidden, valid=valid, config=config) for each in (first, second)
    )
    assert float(one) == pytest.approx(float(other), rel=1e-6)


def test_the_perceptual_loss_does_not_see_the_target_under_invalid_pixels():
    prediction, target = drawn(2, 1, 20, 28, seed=1), drawn(2, 1, 20, 28, seed=2)
    valid = all_but_a_hole(target)
    changed = with_other_hole(target, valid, seed=3)
    one, other = (float(perceptual_loss(prediction, each, valid=valid)) for each in (target, changed))
    assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("every", [1, 2, 4])
def test_the_perceptual_loss_is_the_mean_of_one_minus_the_stabilised_cosine_over_one_pixel_in_some(channels, every):
    prediction, target = drawn(2, channels, 16, 20, seed=1), drawn(2, channels, 16, 20, seed=2)
    prediction = 0.5 * prediction + target
    loss = float(perceptual_loss(prediction, target, valid=everything(target), every=every))
    reference = perceptual_by_pixels(prediction, target, everything(target), every=every)
    assert loss == pytest.approx(reference, rel=1e-4)


@pytest.mark.parametrize("every", [1, 2, 4])
def test_the_perceptual_loss_with_a_hole_is_that_of_the_pixels_that_count(every):
    prediction, target = drawn(1, 1, 24, 32, seed=1), drawn(1, 1, 24, 32, seed=2)
    valid = all_but_a_hole(target)
    target = target * valid
    loss = float(perceptual_loss(prediction, target, valid=valid, every=every))
    assert loss == pytest.approx(perceptual_by_pixels(prediction, target, valid, every=every), rel=1e-4)


@few_examples
@given(seeds, channel_counts, st.floats(-100.0, 100.0))
def test_the_perceptual_loss_lies_between_zero_and_two(seed, channels, mix):
    target = drawn(2, channels, 16, 16, seed=seed)
    prediction = drawn(2, channels, 16, 16, seed=seed + 1) + mix * target
    assert -1e-5 <= float(perceptual_loss(prediction, target, valid=everything(target))) <= 2 + 1e-5


def test_the_perceptual_loss_grows_with_the_dissimilarity():
    target, other = drawn(2, 3, 32, 32, seed=1), drawn(2, 3, 32, 32, seed=2)
    mixes = [(1 - share) * target + share * other for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    losses = [float(perceptual_loss(each, target, valid=everything(target))) for each in (*mixes, -target)]
    assert losses == sorted(losses)
    assert losses[0] == pytest.approx(0, abs=1e-5)
    assert losses[-1] > 1.2


def test_the_perceptual_loss_compares_structure_not_brightness():
    target = drawn(2, 3, 32, 32, seed=1)
    assert float(perceptual_loss(target + 5.0, target, valid=everything(target))) < 1e-3


def test_the_perceptual_loss_prefers_the_wrong_brightness_to_a_blur():
    target = drawn(2, 1, 32, 32, seed=1)
    blurred = torch.from_numpy(ndimage.gaussian_filter(target.numpy(), (0, 0, 1.5, 1.5)))
    of_blur, of_brightness = (
        float(perceptual_loss(each, target, valid=everything(target))) for each in (blurred, target + 1.0)
    )
    assert of_blur > 10 * of_brightness


@pytest.mark.parametrize("start", ["zeros", "noise"])
def test_the_gradient_leads_from_any_start_towards_the_target(start):
    target = drawn(1, 3, 16, 16, seed=1)
    prediction = (torch.zeros_like(target) if start == "zeros" else drawn(1, 3, 16, 16, seed=2)).requires_grad_()
    loss = perceptual_loss(prediction, target, valid=everything(target))
    loss.backward()
    assert bool(prediction.grad.isfinite().all())
    assert float((prediction.grad * (target - prediction.detach())).sum()) < 0
    stepped = (prediction - prediction.grad / prediction.grad.norm()).detach()
    assert float(perceptual_loss(stepped, target, valid=everything(target))) < float(loss.detach())


def test_invalid_pixels_get_no_gradient():
    target = drawn(1, 1, 32, 32, seed=1)
    valid = everything(target)
    valid[:, :, 8:24, 8:24] = 0
    prediction = drawn(1, 1, 32, 32, seed=2).requires_grad_()
    config = LossConfig(perceptual_weight=1.0)
    reconstruction_loss(prediction, target, hidden=1 - valid, valid=valid, config=config).backward()
    assert not prediction.grad[:, :, 8:24, 8:24].any()
    assert prediction.grad[:, :, :4].any()


def test_a_batch_in_which_nothing_counts_costs_nothing_and_moves_nothing():
    target = drawn(1, 1, 16, 16, seed=1)
    prediction = drawn(1, 1, 16, 16, seed=2).requires_grad_()
    nothing = torch.zeros_like(target)
    config = LossConfig(perceptual_weight=1.0)
    loss = reconstruction_loss(prediction, target, hidden=1 - nothing, valid=nothing, config=config)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not prediction.grad.any()
    assert bool(prediction.grad.isfinite().all())


def test_folding_does_not_change_the_pixel_loss():
    target, prediction = drawn(2, 3, 24, 32, seed=1), drawn(2, 3, 24, 32, seed=2)
    given_ = {"hidden": flags(2, 1, 24, 32, share=0.4, seed=3), "valid": all_but_a_hole(target)}
    plain, *others = (
        float(reconstruction_loss(prediction, target, **given_, config=LossConfig(), side=side)) for side in (1, 2, 4)
    )
    assert others == pytest.approx([plain] * 2, rel=1e-5)


def test_each_image_of_a_group_has_the_loss_it_has_alone():
    config = LossConfig(perceptual_weight=0.5)
    targets, predictions = drawn(2, 5, 3, 20, 28, seed=1), drawn(2, 5, 3, 20, 28, seed=2)
    hidden, valid = flags(2, 5, 1, 20, 28, share=0.4, seed=3), flags(2, 5, 1, 20, 28, share=0.999, seed=4)
    together = losses.reconstruction_loss(
        *(folded(each, side=4) for each in (predictions, targets)),
        hidden=folded(hidden, side=4),
        valid=folded(valid, side=4),
        config=config,
    )
    alone = [
        reconstruction_loss(
            predictions[:, image],
            targets[:, image],
            hidden=hidden[:, image],
            valid=valid[:, image],
            config=config,
            side=4,
        )
        for image in range(5)
    ]
    assert len({round(float(loss), 4) for loss in alone}) == 5
    torch.testing.assert_close(together, torch.stack(alone))
