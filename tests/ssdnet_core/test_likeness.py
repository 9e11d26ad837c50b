import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ssdnet_core import likeness as module
from ssdnet_core.likeness import MOST, likeness_to_defect

SIDE = 64
CALM = torch.ones(())

seeds = st.integers(0, 2**32 - 1)

unhurried = settings(deadline=None, max_examples=10)


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


@unhurried
@given(seeds, st.sampled_from(["brighter", "flat"]), st.sampled_from([1, 3]))
def test_what_looks_like_the_defect_is_told_from_the_surface_though_the_map_missed_it(seed, kind, channels):
    image = surface(seed=seed, channels=channels)
    both = FOUND | MISSED
    image = torch.where(both, image + 3.0 if kind == "brighter" else 0.1 * image, image)
    likeness = likeness_to_defect([image], level(FOUND), everything(image), restless=CALM)
    # Windows blur the borders of both.
    inner = spots((42, 44), side=10)
    assert likeness[inner].mean() > -0.6
    assert likeness[~ndimage.binary_dilation(both, iterations=6)].mean() < -0.7


@unhurried
@given(seeds, st.floats(0.1, 3.0))
def test_where_nothing_was_found_nothing_looks_like_it(seed, high):
    image = surface(seed=seed)
    assert not likeness_to_defect([image], level(FOUND, high=high), everything(image), restless=CALM).any()


@unhurried
@given(seeds)
def test_likeness_lies_between_that_of_the_surface_and_as_far_above_the_defects(seed):
    image = surface(seed=seed)
    image[:, 10, 10] = 40.0
    likeness = likeness_to_defect([image], level(spots((8, 8), side=4)), everything(image), restless=CALM)
    assert likeness.min() >= -1
    assert likeness.max() <= MOST


def test_the_discriminant_is_fishers_with_a_ridge_on_the_correlation():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 24, 24, generator=generator, dtype=torch.float64)
    features[1] += 0.8 * features[0]
    defect = torch.zeros(1, 24, 24, dtype=torch.float64)
    defect[:, :5, :7] = 1
    features[:, :5, :7] += torch.tensor([1.0, -2.0, 0.5])[:, None, None]
    along = module._discriminant(features, torch.ones(1, 24, 24), usual=1 - defect, sure=defect)[0].numpy()

    points, inside = features.flatten(1).numpy().T, defect.flatten().numpy() > 0
    apart = points[inside].mean(0) - points[~inside].mean(0)
    covariance = np.cov(points[~inside].T, bias=True)
    ridged = covariance + module.RIDGE * np.diag(np.diag(covariance))
    direction = np.linalg.solve(ridged, apart)
    expected = (points - points[~inside].mean(0)) @ direction / (apart @ direction)
    np.testing.assert_allclose(along.ravel(), expected, atol=1e-9)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 83), (67, 70)])
@pytest.mark.parametrize("masked", [False, True])
def test_images_together_are_told_as_each_alone(height, width, masked):
    images = torch.stack([surface(seed=seed, channels=3, height=height, width=width) for seed in range(3)])
    corners = [[(8, 8)], [(30, 40), (4, 4)], []]
    judged = torch.stack([level(spots(*of_image, height=height, width=width)) for of_image in corners])
    valid = torch.ones(1, height, width)
    if masked:
        valid[:, :, 50:57] = 0.0
    restless = torch.tensor([1.0, 1.2, 1.0])
    together = likeness_to_defect([images, -images.flip(-1)], judged, valid, restless=restless)
    alone = [
        likeness_to_defect([image, -image.flip(-1)], map_, valid, restless=calm)
        for image, map_, calm in zip(images, judged, restless, strict=True)
    ]
    assert together.shape == judged.shape
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-4)
    assert together[0].any()
    assert not together[2].any()


def test_few_sure_pixels_tell_less_than_many():
    image = surface(seed=1)
    image[:, FOUND] += 3.0
    valid = everything(image)
    one, many = (
        likeness_to_defect([image], level(spots((10, 10), side=side)), valid, restless=CALM).min() for side in (2, 12)
    )
    assert many < -0.8
    assert one > 0.5 * many


def test_a_constant_source_and_a_defect_everywhere_stay_finite():
    image = torch.zeros(1, SIDE, SIDE)
    for judged in (level(FOUND), level(torch.ones(SIDE, SIDE, dtype=torch.bool))):
        assert likeness_to_defect([image], judged, everything(image), restless=CALM).isfinite().all()
