import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdnet_core.light import BRIGHTEST, DARKEST, FALLOFF_DEGREE, FALLOFF_RADIAL, LIGHT_DEGREE, contrast_in_light
from tests.ssdnet_core.made_surfaces import all_but_holes, everything, reflection, texture
from tests.ssdnet_core.prepared_with import prepared_with

seeds = st.integers(0, 2**32 - 10)

few_examples = settings(max_examples=10)


def lamp(height, width):
    return 1 + 0.6 * reflection(height, width)


def standardised(image):
    return (image - image.mean((-2, -1), keepdim=True)) / image.std()


def contrast_of(image, valid=None, **light):
    valid = everything(image) if valid is None else valid
    return contrast_in_light(standardised(image), image.mean(0, keepdim=True), valid=valid, **light)


@few_examples
@given(seeds, st.sampled_from([1, 3]), st.booleans())
def test_what_light_multiplies_has_its_contrast(seed, channels, masked):
    surface = 0.4 + 0.05 * texture(128, 144, channels=channels, seed=seed)
    light = lamp(128, 144)
    valid = all_but_holes(surface, seed=seed) if masked else everything(surface)
    found = contrast_of(surface * light, valid)
    assert found.shape == (1, 128, 144)
    expected = light / light[valid > 0].mean()
    assert float((found / expected).log()[valid > 0].abs().mean()) < 0.05


@few_examples
@given(seeds)
def test_what_light_is_added_to_has_the_same_contrast_everywhere(seed):
    # As the noise of a sensor has, which a dark corner shows as well.
    image = 0.3 * lamp(128, 144) + 0.03 * texture(128, 144, seed=seed, smooth=0.3)
    assert float(contrast_of(image).log().abs().max()) < 0.12


@few_examples
@given(seeds)
def test_in_even_light_the_contrast_is_even(seed):
    found = contrast_of(0.4 + 0.05 * texture(128, 144, seed=seed)).log().abs()
    assert float(found.mean()) < 0.02
    # In a corner a polynomial ends as it likes.
    assert float(found.max()) < 0.15


@pytest.mark.parametrize("kind", [{"degree": FALLOFF_DEGREE, "radial": FALLOFF_RADIAL}, {"degree": LIGHT_DEGREE}])
def test_a_defect_is_no_light(kind):
    surface = 0.4 + 0.05 * texture(128, 144)
    stained = surface.clone()
    stained[:, 30:60, 40:80] *= 0.4
    light = lamp(128, 144)
    plain, found = (contrast_of(each * light, **kind) for each in (surface, stained))
    assert float((found / plain).log().abs().max()) < 0.1


def test_a_dark_corner_is_no_light_that_falls_off():
    # Lights of higher degrees follow it: of them the image is not freed.
    surface = 0.4 + 0.05 * texture(256, 256)
    stained = surface.clone()
    stained[:, :64, :64] *= 0.6
    falloff = contrast_of(stained, degree=FALLOFF_DEGREE, radial=FALLOFF_RADIAL)
    any_light = contrast_of(stained, degree=LIGHT_DEGREE)
    assert abs(float(falloff[:, :64, :64].mean().log())) < 0.02
    assert float(any_light[:, :64, :64].mean().log()) < -0.1


def test_light_that_falls_steeply_in_all_corners_falls_off():
    surface = 0.4 + 0.05 * texture(128, 144)
    down, right = torch.linspace(-1, 1, 128)[:, None], torch.linspace(-1, 1, 144)
    light = (1 - 0.5 * ((down**2 + right**2) / 2) ** 3)[None]
    found = contrast_of(light * surface, degree=FALLOFF_DEGREE, radial=FALLOFF_RADIAL)
    apart = (found * light.mean() / light).log().abs()
    assert float(apart.mean()) < 0.05
    assert float(apart[:, :16, :16].mean()) < 0.1


def test_the_steepness_of_light_is_hardly_taken_for_strength_of_a_brushed_surface():
    # Taken for it, the contrast would be the same everywhere, and .27 from the light in this corner.
    down, right = torch.linspace(-1, 1, 128)[:, None], torch.linspace(-1, 1, 144)
    light = (1 - 0.6 * ((down**2 + right**2) / 2) ** 4)[None]
    apart = []
    for seed in range(6):
        brushed = 0.03 * texture(128, 1, seed=seed) + 0.003 * texture(128, 144, seed=seed + 1)
        found = contrast_of(light * (0.4 + brushed), degree=FALLOFF_DEGREE, radial=FALLOFF_RADIAL)
        apart.append(float((found * light.mean() / light).log().abs()[:, :16, :16].mean()))
    assert np.mean(apart) < 0.18


@few_examples
@given(seeds, st.floats(0, 1e3))
def test_what_does_not_count_has_no_influence(seed, value):
    image = (0.4 + 0.05 * texture(64, 72, seed=seed)) * lamp(64, 72)
    valid = all_but_holes(image, seed=seed)
    one, other = (
        contrast_in_light(each, each, valid=valid) for each in (image * valid, torch.where(valid > 0, image, value))
    )
    assert torch.equal(one[valid > 0], other[valid > 0])


@pytest.mark.parametrize("image", [torch.zeros(1, 64, 64), torch.full((3, 64, 64), 0.2), -texture(64, 64).abs()])
def test_of_any_brightness_the_contrast_is_finite_and_bounded(image):
    found = contrast_in_light(image, image.mean(0, keepdim=True), valid=everything(image))
    assert bool(found.isfinite().all())
    assert DARKEST <= float(found.min()) <= float(found.max()) <= BRIGHTEST


def test_where_zero_is_not_black_no_light_is_told():
    values = (texture(96, 96, smooth=2.0)[0] * lamp(96, 96)[0]).double().numpy()
    working = prepared_with(values, None, working_size=96)
    assert bool((working.falloff == 1).all() and (working.contrast == 1).all())
    lit = ((0.4 + 0.05 * texture(96, 96)[0]) * lamp(96, 96)[0]).double().numpy()
    working = prepared_with(np.round(255 * lit).astype(np.uint8), None, working_size=96)
    told = working.falloff * working.contrast
    assert float(told.max() / told.min()) > 1.3
