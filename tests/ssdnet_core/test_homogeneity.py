import numpy as np
import pytest
import torch
from scipy import ndimage

from ssdnet_core import Config, localize
from ssdnet_core.homogeneity import SEVERAL_TEXTURES, unlikeness_of_parts
from ssdnet_core.synthetic import TEXTURE_KINDS, sample
from tests.ssdnet_core.prepared_with import prepared_with


def noise(height, width, *, smooth, seed=0):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((height, width)), smooth)
    return torch.from_numpy(values / values.std()).float()[None]


def unlikeness(image, valid=None):
    return unlikeness_of_parts(image, torch.ones_like(image[:1]) if valid is None else valid)


@pytest.mark.parametrize("kind", TEXTURE_KINDS)
@pytest.mark.parametrize("defect", ["none", "hole"])
def test_one_texture_is_one_texture_with_and_without_a_defect(kind, defect):
    working = prepared_with(sample(kind, defect, seed=0).pixels, None, working_size=256)
    assert unlikeness_of_parts(working.pixels, working.valid) < SEVERAL_TEXTURES


@pytest.mark.parametrize("share", [0.25, 0.5])
@pytest.mark.parametrize("axis", [1, 2])
def test_two_textures_side_by_side_are_several(share, axis):
    image = noise(256, 256, smooth=0.8)
    other = noise(256, 256, smooth=3.0, seed=1)
    count = int(share * 256)
    image.narrow(axis, 0, count)[:] = other.narrow(axis, 0, count)
    assert unlikeness(image) > SEVERAL_TEXTURES
    # Masked, the other texture does not count.
    valid = torch.ones_like(image)
    valid.narrow(axis, 0, count)[:] = 0
    assert unlikeness(image * valid, valid) < SEVERAL_TEXTURES


@pytest.mark.parametrize(("side", "told"), [(128, True), (124, False)])
def test_the_smallest_parts_of_which_something_is_said_are_eight_averages_long(side, told):
    image = noise(side, side, smooth=0.8)
    image[:, :, side // 2 :] = noise(side, side, smooth=3.0, seed=1)[:, :, side // 2 :]
    assert (unlikeness(image) > SEVERAL_TEXTURES) == told


def test_light_that_falls_off_makes_no_second_texture():
    image = noise(256, 256, smooth=1.0)
    light = torch.linspace(0.75, 1.25, 256)
    assert unlikeness(image * light) < SEVERAL_TEXTURES


def test_of_an_image_with_small_parts_nothing_is_said():
    image = torch.cat([noise(64, 32, smooth=0.5), noise(64, 32, smooth=4.0)], dim=2)
    assert unlikeness(image) == 0


@pytest.mark.parametrize("size", [(128, 160), (64, 64)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_the_parts_of_images_together_are_as_unlike_as_those_of_each_alone(size, channels, masked):
    images = torch.stack(
        [
            torch.cat([noise(*size, smooth=0.7, seed=number + channel) for channel in range(channels)])
            for number in (1, 5, 9)
        ]
    )
    images[1, :, :, : size[1] // 2] = noise(*size, smooth=3.0)[:, :, : size[1] // 2]
    images[2] *= torch.linspace(0.5, 1.5, size[0])[:, None]
    valid = torch.ones(1, *size)
    if masked:
        valid[:, 10:60, 5:50] = 0
    alone = torch.stack([unlikeness_of_parts(image, valid) for image in images])
    assert alone.shape == (3,)
    torch.testing.assert_close(unlikeness_of_parts(images, valid), alone, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(unlikeness_of_parts(images[:1], valid), alone[:1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_pixels_missing_on_one_side_make_no_second_texture(seed):
    image = sample("brushed_metal", "none", seed=seed).pixels
    mask = np.random.default_rng(seed).uniform(size=image.shape[:2]) < 0.3
    mask[:, image.shape[1] // 2 :] = False
    assert not localize(image, mask, config=Config.preset("preview")).warnings


def test_an_image_of_which_little_counts_has_a_finite_unlikeness():
    image, valid = noise(256, 256, smooth=1.0), torch.zeros(1, 256, 256)
    valid[:, 100:110, 100:110] = 1
    assert bool(unlikeness(image, valid).isfinite())


@pytest.mark.parametrize("width", [28, 42, 85])
@pytest.mark.parametrize("seed", range(4))
def test_a_narrow_diagonal_band_of_one_texture_is_one_texture(width, seed):
    # At its sides it cuts corners off parts that hardly count.
    image, (rows, columns) = noise(256, 256, smooth=1.0, seed=seed), np.indices((256, 256))
    valid = torch.from_numpy(np.abs(rows - columns) < width / 2).float()[None]
    assert unlikeness(image * valid, valid) < SEVERAL_TEXTURES / 2


@pytest.mark.parametrize("share", [0.2, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_of_scattered_pixels_of_which_no_part_has_enough_nothing_is_said(share, seed):
    image = noise(256, 256, smooth=1.0, seed=seed)
    valid = torch.from_numpy(np.random.default_rng(seed).random((1, 256, 256)) < share).float()
    assert unlikeness(image * valid, valid) == 0


def test_two_textures_along_a_narrow_band_are_several():
    image, (rows, columns) = noise(256, 256, smooth=0.8), np.indices((256, 256))
    image[:, 128:] = noise(256, 256, smooth=3.0, seed=1)[:, 128:]
    valid = torch.from_numpy(np.abs(rows - columns) < 40).float()[None]
    assert unlikeness(image * valid, valid) > SEVERAL_TEXTURES
