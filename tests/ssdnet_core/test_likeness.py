import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ssdnet_core import likeness as module
from ssdnet_core.likeness import MOST_LIKENESS, likeness_to_defect
from ssdnet_core.significance import alarm_level

SIDE = 64
CALM = torch.ones(())

seeds = st.integers(0, 2**32 - 1)

few_examples = settings(max_examples=10)


def surface(*, seed=0, channels=1, height=SIDE, width=SIDE):
    """Smoothed noise of zero mean and unit standard deviation: (C, H, W)."""
    noise = np.random.default_rng(seed).standard_normal((channels, height, width))
    noise = ndimage.gaussian_filter(noise, (0, 1, 1))
    return torch.from_numpy(noise / noise.std()).float()


def spots(*corners, height=SIDE, width=SIDE, side=14):
    """Squares with the given upper left corners: (H, W) bool."""
    where = torch.zeros(height, width, dtype=torch.bool)
    for top, left in corners:
        where[top : top + side, left : left + side] = True
    return where


def level(where, *, high=12.0):
    """A verdict's map that is sure of some pixels and takes the rest for the surface."""
    return torch.where(where, high, 2.0)


def everything(image):
    return torch.ones(1, *image.shape[-2:])


FOUND, MISSED = spots((8, 8)), spots((40, 42))


@few_examples
@given(seeds, st.sampled_from(["brighter", "flat"]), st.sampled_from([1, 3]))
def test_what_looks_like_the_defect_is_told_from_the_surface_though_the_map_missed_it(seed, kind, channels):
    image = surface(seed=seed, channels=channels)
    both = FOUND | MISSED
    image = torch.where(both, image + 3.0 if kind == "brighter" else 0.1 * image, image)
    likeness = likeness_to_defect([image], level(FOUND), valid=everything(image), restless=CALM)
    # Windows blur the borders of both.
    inner = spots((42, 44), side=10)
    assert likeness[inner].mean() > -0.6
    assert likeness[~ndimage.binary_dilation(both, iterations=6)].mean() < -0.7


@few_examples
@given(seeds, st.floats(0.1, 3.0))
def test_where_nothing_was_found_nothing_looks_like_it(seed, high):
    image = surface(seed=seed)
    assert not likeness_to_defect([image], level(FOUND, high=high), valid=everything(image), restless=CALM).any()


@few_examples
@given(seeds)
def test_likeness_lies_between_that_of_the_surface_and_as_far_above_the_defects(seed):
    image = surface(seed=seed)
    image[:, 10, 10] = 40.0
    likeness = likeness_to_defect([image], level(spots((8, 8), side=4)), valid=everything(image), restless=CALM)
    assert likeness.min() >= -1
    assert likeness.max() <= MOST_LIKENESS


def test_the_discriminant_is_fishers_with_a_ridge_on_the_correlation():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 24, 24, generator=generator, dtype=torch.float64)
    features[1] += 0.8 * features[0]
    defect = torch.zeros(1, 24, 24, dtype=torch.float64)
    defect[:, :5, :7] = 1
    features[:, :5, :7] += torch.tensor([1.0, -2.0, 0.5])[:, None, None]
    along = module.discriminant(features, torch.ones(1, 24, 24), usual=1 - defect, sure=defect)[0].numpy()

    points, inside = features.flatten(1).numpy().T, defect.flatten().numpy() > 0
    apart = points[inside].mean(0) - points[~inside].mean(0)
    covariance = np.cov(points[~inside].T, bias=True)
    ridged = covariance + module.LIKENESS_RIDGE * np.diag(np.diag(covariance))
    direction = np.linalg.solve(ridged, apart)
    expected = (points - points[~inside].mean(0)) @ direction / (apart @ direction)
    np.testing.assert_allclose(along.ravel(), expected, atol=1e-9)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 83), (67, 70)])
@pytest.mark.parametrize("masked", [False, True])
def test_images_together_are_told_as_each_alone(height, width, masked):
    images = torch.stack([surface(seed=seed, channels=3, height=height, width=width) for seed in range(3)])
    corners = [[(8, 8)], [(30, 40), (4, 4)], []]
    levels = torch.stack([level(spots(*of_image, height=height, width=width)) for of_image in corners])
    valid = torch.ones(1, height, width)
    if masked:
        valid[:, :, 50:57] = 0.0
    restless = torch.tensor([1.0, 1.2, 1.0])
    together = likeness_to_defect([images, -images.flip(-1)], levels, valid=valid, restless=restless)
    alone = [
        likeness_to_defect([image, -image.flip(-1)], map_, valid=valid, restless=calm)
        for image, map_, calm in zip(images, levels, restless, strict=True)
    ]
    assert together.shape == levels.shape
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-4)
    assert together[0].any()
    assert not together[2].any()


def test_few_sure_pixels_tell_less_than_many():
    image = surface(seed=1)
    image[:, FOUND] += 3.0
    valid = everything(image)
    one, many = (
        likeness_to_defect([image], level(spots((10, 10), side=side)), valid=valid, restless=CALM).min()
        for side in (2, 12)
    )
    assert many < -0.8
    assert one > 0.5 * many


def test_a_constant_source_and_a_defect_everywhere_stay_finite():
    image = torch.zeros(1, SIDE, SIDE)
    for levels in (level(FOUND), level(torch.ones(SIDE, SIDE, dtype=torch.bool))):
        assert likeness_to_defect([image], levels, valid=everything(image), restless=CALM).isfinite().all()


def told(along, levels, valid=None):
    """Likeness (H, W) where a discriminant (H / 2, W / 2) is given: 0 at the surface's mean and 1 at the defect's."""
    valid = torch.ones(1, *levels.shape) if valid is None else valid
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "discriminant", lambda *_, **__: along[None])
        return likeness_to_defect([valid], levels, valid=valid, restless=CALM)


def certainty(levels, valid=None):
    """How far what is surface everywhere is told from what was found: 0 to 1."""
    height, width = levels.shape
    likeness = told(torch.zeros(height // 2, width // 2), levels, valid)
    assert torch.allclose(likeness, likeness[0, 0])
    return -float(likeness[0, 0])


@pytest.mark.parametrize("squares", [1, 5, 40])
@pytest.mark.parametrize(("share", "weight"), [(1.0, 0.5), (1.2, 0.7713), (0.8, 0.1843), (3.0, 1.0)])
def test_what_was_found_is_as_certain_as_there_are_squares_of_the_level_of_a_hundredth_of_a_false_alarm(
    squares, share, weight
):
    # 1 / (1 + share ** (-2 / .3)), and half certain with five squares.
    found = torch.zeros((SIDE // 2) ** 2)
    found[:squares] = share * alarm_level(0.01, area=SIDE**2)
    levels = found.view(SIDE // 2, -1).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert certainty(levels) == pytest.approx(weight * squares / (weight * squares + 5), abs=2e-3)


@pytest.mark.parametrize(("share", "suspect"), [(0.99, False), (1.01, True)])
def test_a_suspect_is_an_image_whose_peak_one_good_image_in_one_would_reach(share, suspect):
    high = share * alarm_level(1.0, area=SIDE**2)
    assert (certainty(level(FOUND, high=high)) > 0) == suspect


@pytest.mark.parametrize("high", [4.8, 5.2, 7.0, 12.0])
def test_twice_the_level_on_a_surface_twice_as_restless_is_the_same_to_the_bit(high):
    image = surface(seed=3)
    image[:, FOUND] += 3.0
    levels = level(FOUND, high=high)
    calm = likeness_to_defect([image], levels, valid=everything(image), restless=CALM)
    wild = likeness_to_defect([image], 2 * levels, valid=everything(image), restless=2 * CALM)
    assert torch.equal(calm, wild)
    assert calm.any() == (high > 5.4)


def test_in_a_larger_image_a_suspect_needs_a_higher_level_but_for_what_is_masked():
    # 5.52 among 256 x 256 pixels, 6.14 among twice as many.
    square, wide = torch.ones(1, 256, 256), torch.ones(1, 256, 512)
    high = 5.8
    assert certainty(level(spots((8, 8), height=256, width=256), high=high), square) > 0
    levels = level(spots((8, 8), height=256, width=512), high=high)
    assert certainty(levels, wide) == 0
    wide[..., 256:] = 0
    assert certainty(levels, wide) > 0


def test_squares_of_which_half_is_missing_are_no_ones():
    levels, valid = level(FOUND, high=20.0), torch.ones(1, SIDE, SIDE)
    valid[..., ::2] = 0
    assert certainty(levels, valid) == 0
    valid[..., ::2, :] = 1
    assert certainty(levels, valid) == pytest.approx(49 / 54, abs=0.01)


def test_what_is_far_less_like_the_surface_is_raised_by_no_more_than_the_surface_is_lowered():
    along = torch.zeros(SIDE // 2, SIDE // 2)
    along[:10], along[20:] = 7.0, -7.0
    likeness = told(along, level(FOUND, high=20.0))
    assert float(likeness.max()) == pytest.approx(49 / 54, abs=0.01)
    assert float(likeness.min()) == pytest.approx(-49 / 54, abs=0.01)


def test_likeness_is_smoothed_by_two_pixels():
    alone = torch.zeros(SIDE // 2, SIDE // 2)
    alone[20, 20] = 0.5
    likeness = told(alone, level(FOUND, high=20.0))
    peak = likeness / -likeness.min() + 1
    kernel = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    kernel /= kernel.sum()
    # At a quarter of a square beside its centre.
    assert float(peak.max()) == pytest.approx(0.5 * (0.75 * kernel[3] + 0.25 * kernel[2]) ** 2, rel=1e-3)
    assert float(peak.sum()) == pytest.approx(4 * 0.5, rel=1e-3)


@pytest.mark.parametrize(("wavelength", "strength", "scale"), [(6, 0.7, 0), (32, 0.6, -1)])
@pytest.mark.parametrize("seed", range(3))
def test_stripes_fine_and_coarse_show_in_noise_by_the_energy_of_their_own_scale(seed, wavelength, strength, scale):
    side = 128
    waves = np.sin(np.arange(side) * 2 * np.pi / wavelength)[:, None] * (np.arange(side) < side // 2)
    noise = np.random.default_rng(seed).standard_normal((1, side, side))
    image = torch.from_numpy(noise + strength * waves).float()
    features = torch.cat(list(module.features_of(image, everything(image))))
    striped, plain = (features[:, 6:-6, columns].flatten(1) for columns in (slice(6, 28), slice(36, 58)))
    apart = ((striped.mean(1) - plain.mean(1)) / plain.std(1)).abs()
    by_scale = apart[1:].view(-1, module.DERIVATIVES).amax(1)
    assert by_scale[scale] == apart.max() > 3.5
