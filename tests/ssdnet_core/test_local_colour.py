import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdnet_core.local_colour import local_colour
from tests.ssdnet_core.made_surfaces import all_but_holes, at_full_size, everything, highest, texture


def test_a_stain_that_changes_nothing_but_the_brightness_is_found_by_the_colour():
    image = texture(128, 128)
    stained = image.clone()
    stained[:, 50:74, 60:84] += 0.8
    row, column = highest(at_full_size(local_colour(stained, everything(image))))
    assert 47 <= row < 77
    assert 57 <= column < 87


def test_a_hue_stands_out_that_no_channel_shows_by_itself():
    grey = texture(128, 128, smooth=3.0)
    image = grey + 0.02 * texture(128, 128, channels=3, seed=1, smooth=3.0)
    stained = image.clone()
    stained[:, 50:74, 60:84] += 0.15 * torch.tensor([1.0, 0.0, -1.0])[:, None, None]
    row, column = highest(at_full_size(local_colour(stained, everything(image))))
    assert 47 <= row < 77
    assert 57 <= column < 87
    by_channel = [highest(at_full_size(local_colour(channel[None], everything(image)))) for channel in stained]
    assert not any(47 <= row < 77 and 57 <= column < 87 for row, column in by_channel)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 10), st.booleans())
def test_grey_in_three_channels_is_coloured_like_grey_in_one(seed, masked):
    grey = texture(56, 67, seed=seed)
    valid = all_but_holes(grey, seed=seed) if masked else everything(grey)
    three = local_colour(grey.expand(3, -1, -1), valid)
    torch.testing.assert_close(three, local_colour(grey, valid), rtol=1e-2, atol=1e-2)


GREY_LEVEL = 0.08
CORNERS = (16, 32), (64, 96), (96, 16)


def in_blocks_of_hue(image):
    """An image that is grey, but for a grey level of hue in a few blocks: what JPEG leaves of a faint one."""
    hued = image.expand(3, -1, -1).clone()
    for top, left in CORNERS:
        hued[0, top : top + 16, left : left + 16] += GREY_LEVEL
    return hued


def with_one_pixel(image):
    """An image with a channel that is constant but for one pixel of the next grey level."""
    filled = torch.cat([image, 0.9 * image + 0.1 * texture(128, 128, seed=1), torch.zeros_like(image)])
    filled[2, 72, 104] = GREY_LEVEL
    return filled


@pytest.mark.parametrize("taken", [in_blocks_of_hue, with_one_pixel])
def test_what_is_within_a_grey_level_of_the_surfaces_hue_does_not_stand_out(taken):
    image = taken(texture(128, 128, smooth=2.0))
    blind, knowing = (
        max(float(colour[0, (top + 8) // 4, (left + 8) // 4]) for top, left in CORNERS)
        for colour in (local_colour(image, everything(image), grey_level=level) for level in (0.0, GREY_LEVEL))
    )
    assert blind > 3 * knowing
    assert knowing < 20


def test_a_stain_of_many_grey_levels_is_as_much_of_one_whatever_they_are():
    image = texture(128, 128, channels=3)
    image[0, 50:74, 60:84] += 50 * GREY_LEVEL
    fine, coarse = (
        float(local_colour(image, everything(image), grey_level=grey_level).max()) for grey_level in (0.0, GREY_LEVEL)
    )
    assert coarse == pytest.approx(fine, rel=0.05)


def test_images_together_have_each_its_own_grey_level():
    images = torch.stack([in_blocks_of_hue(texture(128, 128, smooth=2.0, seed=seed)) for seed in range(2)])
    levels = torch.tensor([0.0, GREY_LEVEL])[:, None, None]
    together = local_colour(images, everything(images[0]), grey_level=levels)
    for image, level, found in zip(images, levels, together, strict=True):
        alone = local_colour(image, everything(image), grey_level=level)
        torch.testing.assert_close(found, alone, rtol=1e-3, atol=1e-3)


def test_light_that_falls_off_towards_the_corners_is_no_colour():
    image = texture(128, 128, channels=3)
    rows, columns = torch.linspace(-1, 1, 128)[:, None], torch.linspace(-1, 1, 128)
    plain, shaded = (
        at_full_size(local_colour(each, everything(image))) for each in (image, image - 1.5 * (rows**2 + columns**2))
    )
    corners = [float(each[:16, :16].mean() + each[-16:, -16:].mean()) for each in (plain, shaded)]
    assert corners[1] < 1.5 * corners[0]


@pytest.mark.parametrize("periods", [(9.3, 7.7), (8.0, 8.0), (11.0, 6.0)])
def test_the_border_of_a_regular_texture_is_coloured_like_its_middle(periods):
    """A window that the border cuts off holds a part of a period, which its inside averages away."""
    rows, columns = np.indices((256, 256))
    rng = np.random.default_rng(0)
    waves = 40 * np.sin(2 * np.pi * rows / periods[0]) + 40 * np.cos(2 * np.pi * columns / periods[1])
    image = torch.from_numpy((waves + 8 * rng.standard_normal((256, 256))) / 60).float()[None]
    colour = local_colour(image, everything(image))[0]
    border = torch.ones_like(colour, dtype=torch.bool)
    border[3:-3, 3:-3] = False
    assert colour[border].median() < colour[~border].median()
    assert colour[border].max() < colour[~border].max()
