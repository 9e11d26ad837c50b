from dataclasses import astuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import fft

from ssdnet_core import bands, sensor_noise
from ssdnet_core.filters import shrink
from ssdnet_core.sensor_noise import (
    CALM_NOISE,
    FINE,
    LEAST_KEPT,
    LEAST_NOISE,
    NO_NOISE,
    PATCH,
    STEP,
    _calm_energy,
    _filtered,
    _padded,
    _patterns,
    _whole_patches,
    with_weaker_noise,
)
from ssdnet_core.synthetic import TEXTURE_KINDS, sample

shapes = st.tuples(st.integers(1, 3), st.integers(32, 70), st.integers(32, 70))


def white(shape, seed=0, sigma=1.0):
    return sigma * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def everywhere(pixels):
    return torch.ones_like(pixels[:1])


def standardised(kind, seed=0):
    pixels = torch.from_numpy(sample(kind, "none", seed=seed).pixels).float().permute(2, 0, 1)
    centred = pixels - pixels.mean((-2, -1), keepdim=True)
    return centred / centred.std()


@given(shapes, st.integers(0, 1000))
def test_patterns_that_are_all_kept_make_the_image(shape, seed):
    pixels = white(shape, seed)
    counted = _whole_patches(everywhere(pixels))
    made = _filtered(_padded(pixels), counted, noise=torch.zeros(shape[0]))
    torch.testing.assert_close(made[:, : shape[1], : shape[2]], pixels, atol=1e-5, rtol=0)


def test_patterns_are_the_discrete_cosine_transform_of_each_patch():
    padded = _padded(white((2, 41, 36)))
    found = torch.stack([_patterns(padded, down, right=range(PATCH)) for down in range(PATCH)], dim=1)
    for row, column in [(0, 0), (3, 7), (found.shape[-2] - 1, found.shape[-1] - 1)]:
        top, left = STEP * row, STEP * column
        patch = padded[:, top : top + PATCH, left : left + PATCH].numpy()
        expected = fft.dctn(patch, axes=(-2, -1), norm="ortho")
        np.testing.assert_allclose(found[..., row, column], expected, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.5, 1.0])
@pytest.mark.parametrize("shape", [(3, 256, 256), (1, 96, 300)])
@pytest.mark.parametrize("frequencies", FINE, ids=str)
def test_the_variance_of_white_noise_is_told_by_either_set_of_patterns(sigma, shape, frequencies):
    pixels = white(shape, sigma=sigma)
    told = _calm_energy(_padded(pixels), _whole_patches(everywhere(pixels)), frequencies=frequencies) / CALM_NOISE
    np.testing.assert_allclose(told, sigma**2, rtol=0.07)


def test_what_is_told_in_bands_is_what_is_told_of_the_whole(monkeypatch):
    pixels = white((1, 200, 120))
    counted = _whole_patches(everywhere(pixels))
    whole = _calm_energy(_padded(pixels), counted, frequencies=FINE[0])
    monkeypatch.setattr(bands, "BAND_PIXELS", 10 * counted.shape[-1])
    torch.testing.assert_close(_calm_energy(_padded(pixels), counted, frequencies=FINE[0]), whole)


def test_patterns_that_are_worked_on_one_by_one_give_the_same_image(monkeypatch):
    noisy = white((3, 96, 128), sigma=0.7) + standardised("leather")[:, :96, :128]
    together, noise = with_weaker_noise(noisy, everywhere(noisy))
    monkeypatch.setattr(sensor_noise, "VALUES_AT_A_TIME", 1)
    apart, same_noise = with_weaker_noise(noisy, everywhere(noisy))
    assert noise == same_noise
    assert noise.share > LEAST_NOISE
    torch.testing.assert_close(apart, together, atol=1e-5, rtol=0)


def test_cloth_whose_threads_are_two_pixels_apart_is_not_taken_for_noise():
    down, right = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    wave = torch.sin(0.98 * torch.pi * down) + torch.sin(0.97 * torch.pi * right)
    cloth = (wave + white((128, 128), sigma=0.1))[None]
    assert with_weaker_noise(cloth - cloth.mean(), everywhere(cloth))[1].share <= LEAST_NOISE


@pytest.mark.parametrize("kind", TEXTURE_KINDS)
@pytest.mark.parametrize("sigma", [0.7, 1.2])
def test_noise_on_a_surface_is_told_and_weakened(kind, sigma):
    clean = standardised(kind)
    noisy = clean + white(clean.shape, sigma=sigma)
    weaker, noise = with_weaker_noise(noisy, everywhere(noisy))
    assert noise.share == pytest.approx(sigma**2 / (1 + sigma**2), rel=0.25)
    before, after = ((pixels - clean).square().mean() for pixels in (noisy, weaker))
    assert after < 0.6 * before


@pytest.mark.parametrize("kind", TEXTURE_KINDS)
@pytest.mark.parametrize("sigma", [0.7, 1.2])
def test_noise_of_each_channel_is_told_from_grain_that_the_channels_share(kind, sigma):
    clean = standardised(kind)
    of_sensor, grain = (
        with_weaker_noise(clean + white((channels, 256, 256), sigma=sigma), everywhere(clean))[1] for channels in (3, 1)
    )
    assert of_sensor.of_sensor == pytest.approx(of_sensor.share, rel=0.2)
    assert grain.share > LEAST_NOISE
    assert grain.of_sensor < 0.2 * grain.share


@pytest.mark.parametrize("channels", [1, 3])
def test_in_grey_nothing_tells_noise_from_grain(channels):
    pixels = white((1, 128, 128)).repeat(channels, 1, 1)
    noise = with_weaker_noise(pixels, everywhere(pixels))[1]
    assert noise.share > 0.9
    assert noise.of_sensor == 0


@pytest.mark.parametrize("kind", TEXTURE_KINDS)
def test_a_surface_with_little_noise_stays_as_it_is(kind):
    clean = standardised(kind)
    weaker, noise = with_weaker_noise(clean, everywhere(clean))
    assert weaker is clean
    assert noise.share <= LEAST_NOISE


def test_what_is_taken_off_grows_with_the_noise_without_a_step():
    clean = standardised("wood")
    noise = white(clean.shape)
    changes = []
    for sigma in np.linspace(0.2, 0.5, 13):
        noisy = clean + sigma * noise
        weaker, found = with_weaker_noise(noisy, everywhere(noisy))
        changes.append((found.share, float((weaker - noisy).square().mean())))
    shares, taken = np.array(changes).T
    assert (taken[shares <= LEAST_NOISE] == 0).all()
    assert (np.diff(taken) >= 0).all()
    assert np.diff(taken).max() < 0.4 * taken.max()


def test_a_place_without_grain_is_as_plain_as_before():
    grain = white((1, 256, 256))
    grain[:, 100:140, 100:140] *= 0.1
    weaker, _ = with_weaker_noise(grain, everywhere(grain))
    inside, around = (values[:, 108:132, 108:132].square().mean() for values in (grain, weaker))
    assert float(around / weaker[:, :80].square().mean()) < 1.5 * float(inside / grain[:, :80].square().mean())
    assert 0.9 * LEAST_KEPT < float(weaker[:, :80].std()) < 2 * LEAST_KEPT


def test_the_mean_of_a_patch_is_no_noise():
    pixels = white((1, 256, 256))
    weaker, _ = with_weaker_noise(pixels, everywhere(pixels))
    assert float(weaker.std()) < 0.5
    before, after = (shrink(values, 2 * PATCH).flatten() for values in (pixels, weaker))
    assert float(before @ after / (before @ before)) > 0.8


@pytest.mark.parametrize("contrast", [0.1, 10.0])
def test_noise_is_weakened_alike_whatever_the_contrast(contrast):
    noisy = standardised("leather") + white((3, 256, 256), sigma=0.7)
    weaker, noise = with_weaker_noise(noisy, everywhere(noisy))
    other, same = with_weaker_noise(contrast * noisy, everywhere(noisy))
    assert astuple(same) == pytest.approx(astuple(noise), rel=1e-3)
    torch.testing.assert_close(other / contrast, weaker, atol=1e-3, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_masked_is_not_taken_for_calm_ground_and_changes_little_around_it(seed):
    pixels = standardised("leather") + white((3, 256, 256), seed)
    valid = everywhere(pixels)
    valid[:, 50:90, :200] = 0
    whole, noise = with_weaker_noise(pixels, everywhere(pixels))
    masked, told = with_weaker_noise(pixels * valid, valid)
    assert astuple(told) == pytest.approx(astuple(noise), rel=0.03)
    apart = (masked - whole) * valid
    assert float(apart.square().mean().sqrt()) < 0.03
    assert float(apart[:, 130:].square().mean().sqrt()) < 0.005
    assert (masked[:, 50:90, :200] == 0).all()


def test_an_image_of_which_hardly_a_patch_is_whole_stays_as_it_is():
    pixels = white((1, 128, 128))
    valid = (white((1, 128, 128), seed=1) > -0.5).float()
    weaker, noise = with_weaker_noise(pixels * valid, valid)
    assert noise == NO_NOISE
    assert torch.equal(weaker, pixels * valid)


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 33, 200), (1, 255, 64)])
def test_small_and_odd_sizes_are_taken(shape):
    pixels = white(shape)
    weaker, noise = with_weaker_noise(pixels, everywhere(pixels))
    assert weaker.shape == pixels.shape
    assert noise.share > 0.5


def test_a_constant_image_has_no_noise():
    pixels = torch.zeros(3, 64, 64)
    assert with_weaker_noise(pixels, everywhere(pixels)) == (pixels, NO_NOISE)
