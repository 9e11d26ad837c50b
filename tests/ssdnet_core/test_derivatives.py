import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from ssdnet_core import bands
from ssdnet_core.derivatives import derivative_energy, gaussian_derivatives
from ssdnet_core.filters import weighted_shrink
from tests.ssdnet_core.drawn_values import few_examples, precise, punched, seeds

INTERIOR = (..., slice(3, -3), slice(3, -3))


@few_examples
@given(st.integers(1, 3), st.integers(7, 20), st.integers(7, 20), st.floats(-100, 100))
def test_the_derivatives_of_a_constant_are_zero_up_to_the_border(channels, height, width, value):
    derivatives = gaussian_derivatives(torch.full((channels, height, width), value, dtype=torch.float64))
    assert derivatives.shape == (5 * channels, height, width)
    assert float(derivatives.abs().max()) < 1e-9 * max(1.0, abs(value))


def test_of_a_ramp_one_first_derivative_is_constant_and_all_others_are_zero():
    ramp = torch.arange(20, dtype=torch.float64).expand(1, 20, 20)
    for image, rising in ((ramp, 0), (ramp.mT, 1)):
        derivatives = gaussian_derivatives(image)[INTERIOR]
        for number, derivative in enumerate(derivatives):
            assert float(derivative.std()) < 1e-9
            assert (float(derivative.abs().mean()) > 0.1) == (number == rising)


def test_of_a_parabola_the_second_derivative_is_constant():
    parabola = (torch.arange(20, dtype=torch.float64) ** 2).expand(1, 20, 20)
    first_x, first_y, second_x, mixed, second_y = gaussian_derivatives(parabola)[INTERIOR]
    assert float(second_x.std()) < 1e-9
    assert float(second_x.mean()) > 0.1
    for zero in (first_y, mixed, second_y):
        assert float(zero.abs().max()) < 1e-9
    assert float(first_x.std()) > 0.1


def test_of_a_saddle_the_mixed_derivative_is_constant():
    position = torch.arange(20, dtype=torch.float64) - 9.5
    mixed = gaussian_derivatives(torch.outer(position, position)[None])[INTERIOR][3]
    assert float(mixed.std()) < 1e-9
    assert float(mixed.mean()) > 0.1


@pytest.mark.parametrize(("number", "order"), [(0, (0, 1)), (1, (1, 0)), (3, (1, 1))])
def test_the_derivatives_are_proportional_to_scipys(number, order):
    image = precise(1, 24, 30)
    found = gaussian_derivatives(image)[number].numpy()
    expected = ndimage.gaussian_filter(image[0].numpy(), 1.0, order=order, mode="nearest", radius=3)
    # The sign of a derivative plays no part: its square is what counts.
    assert abs(np.corrcoef(found.ravel(), expected.ravel())[0, 1]) > 1 - 1e-9
    np.testing.assert_allclose(np.abs(found / expected), np.abs(found / expected)[0, 0], rtol=1e-6)


@pytest.mark.parametrize(("number", "order"), [(2, (0, 2)), (4, (2, 0))])
def test_the_second_derivatives_are_scipys_but_for_what_a_constant_has_of_its_cut_off_kernel(number, order):
    image = precise(1, 60, 80)
    found = gaussian_derivatives(image)[number].numpy()
    expected = ndimage.gaussian_filter(image[0].numpy(), 1.0, order=order, mode="nearest", radius=3)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


def test_white_noise_has_the_same_strength_in_all_derivatives():
    derivatives = gaussian_derivatives(precise(1, 200, 200))[INTERIOR]
    np.testing.assert_allclose(derivatives.std((-2, -1)).numpy(), 1.0, atol=0.03)


def test_each_channel_has_its_own_derivatives():
    image = precise(3, 16, 18)
    apart = torch.cat([gaussian_derivatives(channel[None]) for channel in image])
    together = gaussian_derivatives(image)
    distance = (together[:, None] - apart[None]).abs().amax((-2, -1))
    assert (distance.amin(1) < 1e-12).all()


@few_examples
@given(st.integers(1, 2), st.integers(7, 30), st.integers(7, 30), st.sampled_from([1, 2, 4]), seeds, st.booleans())
def test_the_energy_is_the_mean_square_of_the_derivatives_whatever_the_bands(
    channels, height, width, grid, seed, everything
):
    values = precise(channels, height, width, seed=seed)
    counted = torch.ones(1, height, width).double() if everything else punched(height, width, seed=seed)
    expected = weighted_shrink(gaussian_derivatives(values).square(), counted, factor=grid)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "BAND_PIXELS", 5 * width)
        found = derivative_energy(values, counted, grid=grid)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-9)
