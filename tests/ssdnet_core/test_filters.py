import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import nn

from ssdnet_core import bands
from ssdnet_core.derivatives import derivative_energy, gaussian_derivatives
from ssdnet_core.filters import (
    BANK_SIZE,
    STRETCH,
    box_mean,
    complete,
    effective_samples,
    enlarge,
    enlarge_squares,
    gaussian_kernel,
    orthonormal_bank,
    self_guided_smooth,
    share_of,
    shrink,
    weighted_shrink,
    weighted_smooth,
)
from tests.ssdnet_core.drawn_values import counted, few_examples, precise, punched, seeds, sides

sigmas = st.floats(0.3, 5.0)


def reach_of(sigma):
    return max(1, math.ceil(3 * sigma))


def window_weights(sigma, row, column, height, width):
    """Return the Gaussian window about a pixel, cut at its reach and at the border: (H, W)."""
    rows, columns = np.arange(height)[:, None] - row, np.arange(width)[None, :] - column
    window = np.exp(-0.5 * (rows**2 + columns**2) / sigma**2)
    return window * (np.abs(rows) <= reach_of(sigma)) * (np.abs(columns) <= reach_of(sigma))


def within_borders(values, sigma):
    """The Gaussian-weighted mean of (C, H, W) by scipy, of what lies in the image."""
    radius = reach_of(sigma)

    def smoothed(array):
        return ndimage.gaussian_filter(array, (0, sigma, sigma), mode="constant", radius=(0, radius, radius))

    return smoothed(values) / smoothed(np.ones_like(values))


@few_examples
@given(sigmas)
def test_the_kernel_is_a_gaussian_of_sum_one_cut_at_three_sigma(sigma):
    kernel = gaussian_kernel(sigma, torch.float64)
    assert len(kernel) == 2 * reach_of(sigma) + 1
    assert float(kernel.sum()) == pytest.approx(1)
    position = np.arange(len(kernel)) - reach_of(sigma)
    np.testing.assert_allclose(kernel / kernel.max(), np.exp(-0.5 * (position / sigma) ** 2), atol=1e-12)


@few_examples
@given(st.integers(1, 3), sides, sides, sigmas, seeds)
def test_weighted_smooth_of_a_whole_image_is_scipys_gaussian_filter_over_what_its_windows_reach(
    channels, height, width, sigma, seed
):
    values = precise(channels, height, width, seed=seed)
    found = weighted_smooth(values, torch.ones(1, height, width, dtype=values.dtype), sigma=sigma)
    np.testing.assert_allclose(found.numpy(), within_borders(values.numpy(), sigma), atol=1e-10)


@pytest.mark.parametrize("shape", [(STRETCH, STRETCH + 1), (3, 2 * STRETCH), (2 * STRETCH + 7, 20)])
@pytest.mark.parametrize("sigma", [0.6, 4.0, 24.0])
def test_an_image_longer_than_a_stretch_is_smoothed_without_a_seam(shape, sigma):
    values = precise(2, *shape, seed=0)
    found = weighted_smooth(values, torch.ones(1, *shape, dtype=values.dtype), sigma=sigma)
    np.testing.assert_allclose(found.numpy(), within_borders(values.numpy(), sigma), atol=1e-12)


@settings(max_examples=10)
@given(st.integers(3, 12), st.integers(3, 12), sigmas, seeds)
def test_weighted_smooth_is_the_weighted_mean_of_the_pixels_that_count(height, width, sigma, seed):
    values, weight = precise(2, height, width, seed=seed), punched(height, width, seed=seed)
    found = weighted_smooth(values, weight, sigma=sigma).numpy()
    for row, column in np.ndindex(height, width):
        counted = window_weights(sigma, row, column, height, width) * weight[0].numpy()
        # Far out in the tails the mean fades to zero, lest rounding be divided by next to nothing.
        if counted.sum() / (2 * np.pi * sigma**2) > 1e-4:
            expected = (values.numpy() * counted).sum((1, 2)) / counted.sum()
            np.testing.assert_allclose(found[:, row, column], expected, atol=1e-6)


@few_examples
@given(sides, sides, sigmas, seeds, st.floats(-1e3, 1e3))
def test_weighted_smooth_does_not_see_what_does_not_count(height, width, sigma, seed, value):
    values, weight = precise(2, height, width, seed=seed), punched(height, width, seed=seed)
    changed = torch.where(weight > 0, values, value)
    assert torch.equal(weighted_smooth(values, weight, sigma=sigma), weighted_smooth(changed, weight, sigma=sigma))


@few_examples
@given(sides, sides, sigmas, seeds)
def test_weighted_smooth_keeps_a_constant_at_borders_and_around_holes(height, width, sigma, seed):
    weight = punched(height, width, seed=seed)
    smoothed = weighted_smooth(torch.full((1, height, width), 7.0, dtype=torch.float64), weight, sigma=sigma)
    radius = reach_of(sigma)
    reached = ndimage.gaussian_filter(weight.numpy(), (0, sigma, sigma), mode="constant", radius=(0, radius, radius))
    np.testing.assert_allclose(smoothed[torch.from_numpy(reached > 1e-4)].numpy(), 7.0, atol=1e-9)


def test_weighted_smooth_is_zero_out_of_reach_of_what_counts():
    weight = torch.zeros(1, 30, 30)
    weight[:, :5] = 1
    smoothed = weighted_smooth(torch.full((1, 30, 30), 7.0), weight, sigma=2.0)
    assert not smoothed[:, 5 + 6 :].any()
    assert bool((smoothed[:, :8] > 6.9).all())


@few_examples
@given(st.integers(1, 2), sides, sides, st.floats(0.5, 3.0), st.floats(0.01, 10.0), seeds)
def test_self_guided_smooth_is_the_guided_filter_with_itself_as_the_guide(
    channels, height, width, sigma, contrast, seed
):
    values, weight = precise(channels, height, width, seed=seed), torch.ones(1, height, width, dtype=torch.float64)

    def window_mean(array):
        return weighted_smooth(torch.as_tensor(array), weight, sigma=sigma).numpy()

    mean = window_mean(values)
    variance = window_mean(values.numpy() ** 2) - mean**2
    slope = variance / (variance + contrast)
    expected = window_mean(slope) * values.numpy() + window_mean(mean - slope * mean)
    found = self_guided_smooth(values, weight, sigma=sigma, contrast=contrast)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


def test_self_guided_smooth_calms_noise_and_keeps_an_edge():
    values = 0.1 * precise(1, 60, 60)
    values[:, :, 30:] += 10
    weight = torch.ones(1, 60, 60, dtype=torch.float64)
    found = self_guided_smooth(values, weight, sigma=4.0, contrast=0.5)[0]
    assert float(found[:, :14].std()) < 0.3 * float(values[0, :, :14].std())
    assert float((found[:, 30] - found[:, 29]).mean()) > 9


@few_examples
@given(sides, sides, sigmas, seeds, st.floats(-1e3, 1e3))
def test_self_guided_smooth_does_not_see_what_does_not_count(height, width, sigma, seed, value):
    values, weight = precise(2, height, width, seed=seed), punched(height, width, seed=seed)
    changed = torch.where(weight > 0, values, value)
    one, other = (self_guided_smooth(each, weight, sigma=sigma, contrast=0.5) for each in (values, changed))
    assert torch.equal(one[:, weight[0] > 0], other[:, weight[0] > 0])


@settings(max_examples=10)
@given(st.integers(3, 12), st.integers(3, 12), sigmas, seeds)
def test_effective_samples_are_kishs_over_the_median(height, width, sigma, seed):
    weight = punched(height, width, seed=seed)
    expected = np.zeros((height, width))
    for row, column in np.ndindex(height, width):
        if weight[0, row, column]:
            counted = window_weights(sigma, row, column, height, width) * weight[0].numpy()
            expected[row, column] = counted.sum() ** 2 / (counted**2).sum()
    # Of an even number of values torch takes the lower of the two in the middle.
    expected /= np.quantile(expected[weight[0].numpy() > 0], 0.5, method="lower")
    np.testing.assert_allclose(effective_samples(weight, sigma)[0].numpy(), expected, atol=1e-6)


def test_there_are_fewer_effective_samples_in_corners_than_at_edges_than_inside():
    samples = effective_samples(torch.ones(1, 64, 64), 4.0)[0]
    samples = samples / samples[32, 32]
    assert float(samples[0, 32]) == pytest.approx(0.5, abs=0.1)
    assert float(samples[0, 0]) == pytest.approx(0.25, abs=0.1)


@few_examples
@given(st.integers(1, 2), st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 2, 3, 4]), seeds)
def test_weighted_shrink_averages_the_pixels_that_count(channels, height, width, factor, seed):
    values, weight = precise(channels, height, width, seed=seed), punched(height, width, seed=seed)
    found = weighted_shrink(values, weight, factor=factor)
    for row, column in np.ndindex(*found.shape[1:]):
        square = (slice(row * factor, (row + 1) * factor), slice(column * factor, (column + 1) * factor))
        counted = values[:, *square][:, weight[0][square] > 0]
        expected = counted.mean(1) if counted.numel() else torch.zeros(channels)
        np.testing.assert_allclose(found[:, row, column], expected, atol=1e-4)


@few_examples
@given(sides, sides, sigmas)
def test_the_short_cut_for_complete_images_changes_nothing(height, width, sigma):
    values, weight = precise(2, height, width), torch.ones(1, height, width, dtype=torch.float64)
    almost = weight - 1e-15
    assert complete(weight)
    assert not complete(almost)
    for function in (weighted_smooth, lambda values, weight, *, sigma: effective_samples(weight, sigma)):
        short, long = function(values, weight, sigma=sigma), function(values, almost, sigma=sigma)
        np.testing.assert_allclose(short.numpy(), long.numpy(), atol=1e-9)


@few_examples
@given(st.integers(1, 2), sides, sides, st.sampled_from([1, 3, 7]), seeds)
def test_the_box_mean_is_scipys(channels, height, width, size, seed):
    values = precise(channels, height, width, seed=seed)
    expected = ndimage.uniform_filter(values.numpy(), (1, size, size), mode="nearest")
    np.testing.assert_allclose(box_mean(values, size).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_the_fast_guided_filter_is_close_to_the_guided_filter(masked):
    values, weight = 0.3 * precise(1, 96, 120), torch.ones(1, 96, 120, dtype=torch.float64)
    values[:, 30:60, 50:80] += 2
    if masked:
        weight[:, 20:40, 20:40] = 0
    exact, fast = (self_guided_smooth(values, weight, sigma=8.0, contrast=0.1, grid=grid) for grid in (1, 4))
    error = (exact - fast)[:, weight[0] > 0].abs()
    assert float(error.max()) < 0.1
    assert float(error.mean()) < 0.01


@pytest.mark.parametrize("channels", [1, 3])
def test_the_bank_is_orthonormal_and_has_zero_mean_in_each_channel(channels):
    bank = orthonormal_bank(channels, 32).double()
    assert bank.shape == (32, channels, BANK_SIZE, BANK_SIZE)
    flat = bank.flatten(1)
    np.testing.assert_allclose((flat @ flat.T).numpy(), np.eye(32), atol=1e-6)
    assert float(bank.mean((-2, -1)).abs().max()) < 1e-7


def test_the_bank_is_always_the_same_and_leaves_torchs_random_state_alone():
    torch.manual_seed(1)
    first, state = orthonormal_bank(3, 32), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(orthonormal_bank(3, 32), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_bank_that_was_first_asked_for_in_inference_mode_lets_gradients_through():
    orthonormal_bank.cache_clear()
    with torch.inference_mode():
        orthonormal_bank(1, 8)
    image = torch.ones(1, 1, 9, 9, requires_grad=True)
    nn.functional.conv2d(image, orthonormal_bank(1, 8)).sum().backward()
    assert image.grad is not None


@few_examples
@given(st.integers(1, 3), st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 2, 3, 4, 8]), seeds)
def test_shrink_averages_squares_and_of_incomplete_ones_what_there_is(channels, height, width, factor, seed):
    values = precise(channels, height, width, seed=seed)
    shrunk = shrink(values, factor)
    assert shrunk.shape == (channels, math.ceil(height / factor), math.ceil(width / factor))
    for row, column in np.ndindex(*shrunk.shape[1:]):
        square = values[:, row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
        np.testing.assert_allclose(shrunk[:, row, column], square.mean((1, 2)), atol=1e-12)


@few_examples
@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 4), seeds)
def test_enlarge_is_scipys_linear_interpolation_between_pixel_centres(height, width, factor, seed):
    values = precise(1, height, width, seed=seed)
    size = (factor * height, width)
    rows = (np.arange(size[0]) + 0.5) / factor - 0.5
    places = np.meshgrid(rows, np.arange(width), indexing="ij")
    expected = ndimage.map_coordinates(values[0].numpy(), places, order=1, mode="nearest")
    np.testing.assert_allclose(enlarge(values, size)[0].numpy(), expected, atol=1e-12)


@few_examples
@given(st.integers(2, 12), st.integers(2, 12), st.integers(12, 40), st.integers(12, 40), seeds)
def test_enlarge_stays_within_the_range_of_the_values(height, width, to_height, to_width, seed):
    values = precise(2, height, width, seed=seed)
    enlarged = enlarge(values, (to_height, to_width))
    assert enlarged.shape == (2, to_height, to_width)
    assert float(enlarged.min()) >= float(values.min()) - 1e-9
    assert float(enlarged.max()) <= float(values.max()) + 1e-9


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 97), (69, 101), (71, 103)])
def test_what_is_shrunk_and_enlarged_stays_in_its_place(factor, height, width):
    spot = torch.zeros(1, height, width)
    spot[:, 24:40, 48:80] = 1
    back = enlarge_squares(shrink(spot, factor), factor, like=spot)[0]
    assert back.shape == (height, width)
    rows, columns = torch.arange(float(height)), torch.arange(float(width))
    assert float((back.sum(1) * rows).sum() / back.sum()) == pytest.approx(31.5, abs=0.01)
    assert float((back.sum(0) * columns).sum() / back.sum()) == pytest.approx(63.5, abs=0.01)


@few_examples
@given(sides, sides, st.integers(1, 9), seeds, st.booleans())
def test_the_share_of_a_square_is_that_of_its_pixels_in_the_image_that_count(height, width, factor, seed, everything):
    valid = counted(height, width, seed=seed, everything=everything)
    share = share_of(valid, factor)
    assert share.shape == (1, -(-height // factor), -(-width // factor))
    for row, column in np.ndindex(*share.shape[1:]):
        square = valid[0, row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
        assert float(share[0, row, column]) == pytest.approx(float(square.sum()) / factor**2, abs=1e-6)


TREATMENTS = {
    "weighted_smooth": lambda values, weight: weighted_smooth(values, weight, sigma=1.5),
    "weighted_shrink": lambda values, weight: weighted_shrink(values, weight, factor=3),
    "self_guided_smooth": lambda values, weight: self_guided_smooth(values, weight, sigma=2.0, contrast=0.5, grid=2),
    "gaussian_derivatives": lambda values, weight: gaussian_derivatives(values),
    "derivative_energy": lambda values, weight: derivative_energy(values, weight, grid=2),
    "box_mean": lambda values, weight: box_mean(values, 3),
    "shrink": lambda values, weight: shrink(values, 3),
    "enlarge": lambda values, weight: enlarge(values, (40, 50)),
    "enlarge_squares": lambda values, weight: enlarge_squares(values, 3, like=torch.empty(3 * values.shape[-2] - 1, 8)),
}


@pytest.mark.parametrize("name", TREATMENTS)
@few_examples
@given(st.sampled_from([(1,), (3,), (2, 2)]), st.integers(1, 3), sides, sides, seeds, st.booleans())
def test_images_together_are_filtered_as_each_alone(name, group, channels, height, width, seed, everything):
    values = precise(*group, channels, height, width, seed=seed)
    weight = counted(height, width, seed=seed, everything=everything)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "BAND_PIXELS", 5 * width)
        together = TREATMENTS[name](values, weight)
        alone = torch.stack([TREATMENTS[name](image, weight) for image in values.flatten(0, -4)])
    torch.testing.assert_close(together, alone.unflatten(0, group), rtol=1e-9, atol=1e-9)
