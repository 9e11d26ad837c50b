import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdnet_core import Config
from ssdnet_core.preparation import prepare
from ssdnet_core.surface import find_surface


def on_ground(seed, *, width, value, channels=()):
    """A surface of noise beside blank ground of so many columns."""
    image = np.random.default_rng(seed).integers(40, 200, (96, 128, *channels), dtype=np.uint8)
    image[:, :width] = value
    return image


@settings(max_examples=20)
@given(
    seed=st.integers(0, 999),
    width=st.sampled_from([0, 9, 30]),
    value=st.sampled_from([0, 2, 255]),
    channels=st.sampled_from([(), (3,)]),
    masked=st.booleans(),
    changes=st.fixed_dictionaries(
        {
            "working_size": st.sampled_from([64, 96]),
            "border": st.sampled_from([0.0, 0.1]),
            "selvage": st.sampled_from([0.0, 0.2]),
            "leave_out_frame": st.booleans(),
        }
    ),
)
def test_the_same_pixels_count_in_the_surface_as_in_the_working_image(seed, width, value, channels, masked, changes):
    image, config = on_ground(seed, width=width, value=value, channels=channels), Config(**changes)
    mask = np.zeros(image.shape[:2], dtype=bool)
    if masked:
        mask[20:50, 60:90] = True
    surface, working = find_surface(image, mask, config=config), prepare(image, mask, config=config)
    assert torch.equal(surface.valid, working.valid)
    assert surface.frame == working.preparation.frame
    assert surface.blank == working.preparation.blank


def test_ground_and_mask_do_not_count_and_the_rest_does():
    image = on_ground(0, width=30, value=255)
    mask = np.zeros(image.shape, dtype=bool)
    mask[20:50, 60:90] = True
    surface = find_surface(image, mask, config=Config(working_size=96))
    assert 30 / 128 <= surface.blank <= 36 / 128
    assert not surface.counted[:, :30].any()
    assert not surface.counted[mask].any()
    assert surface.counted[:20, 36:].all()


@pytest.mark.parametrize(
    ("image", "black"),
    [
        (np.full((64, 64), 0.5) + np.eye(64) / 4, True),
        (np.full((64, 64), -0.5) + np.eye(64) / 4, False),
        (np.full((64, 64), 1e6) + np.eye(64), False),
    ],
)
def test_zero_is_black_unless_values_lie_below_it_or_far_off(image, black):
    assert find_surface(image, None, config=Config()).dark_is_zero is black
