import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdnet_core import Config, InvalidImageError
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
    assert torch.equal(working.preparation.box.cut(surface.valid), working.valid)
    assert surface.valid.sum() == working.valid.sum()
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


@pytest.mark.parametrize("channels", [1, 3])
def test_a_few_dead_pixels_far_below_zero_do_not_keep_a_dark_frame_in(channels):
    image = np.random.default_rng(0).uniform(0.4, 1.0, (128, 128)).astype(np.float32)
    image[:10] *= 0.02
    image = np.repeat(image[:, :, None], channels, axis=2)
    whole = find_surface(image, None, config=Config())
    image[50:66, 60] = -0.3
    some_dead = find_surface(image, None, config=Config())
    image[40:60, 60:80] = -0.3
    not_black = find_surface(image, None, config=Config())
    assert some_dead.frame == whole.frame == (13, 0, 0, 0)
    assert some_dead.dark_is_zero
    assert not not_black.dark_is_zero


@pytest.mark.parametrize("selvage", [0.0, 0.35])
def test_of_blank_ground_what_was_left_out_already_is_not_counted(selvage):
    image = np.random.default_rng(0).integers(0, 200, (128, 128)).astype(np.uint8)
    image[:, :10] = 255
    mask = np.zeros((128, 128), dtype=bool)
    mask[:, 10:60] = True
    found = find_surface(image, mask, config=Config().updated({"selvage": selvage}))
    assert found.blank == pytest.approx(np.mean(~mask & ~found.counted))
    assert 10 / 128 <= found.blank < 0.12


def test_a_hidden_value_too_small_for_single_precision_disturbs_nobody_who_raises_on_underflow():
    image = np.random.default_rng(0).uniform(0.2, 1.0, (64, 64))
    mask = np.zeros((64, 64), dtype=bool)
    mask[5, 5] = True
    plain = find_surface(image, mask, config=Config())
    image[5, 5] = 1e-300
    with np.errstate(all="raise"):
        assert torch.equal(find_surface(image, mask, config=Config()).colour, plain.colour)


def pattern(kind, side):
    """Return what a mask leaves of side x side pixels: half of them in fine regular patterns, or few of them."""
    rows, columns = np.indices((side, side))
    return {
        "other rows": rows % 2 == 0,
        "other columns": columns % 2 == 1,
        "checkerboard": (rows + columns) % 2 == 0,
        "one in four": (rows % 2 == 0) & (columns % 2 == 0),
        "one row in eight": rows % 8 == 0,
        "at random, a tenth": np.random.default_rng(0).random((side, side)) < 0.1,
    }[kind]


@pytest.mark.parametrize("kind", ["other rows", "other columns", "checkerboard"])
@pytest.mark.parametrize("side", [128, 125, 240, 256])
def test_a_mask_that_leaves_half_of_the_pixels_everywhere_leaves_the_surface(kind, side):
    image, counted = np.random.default_rng(0).integers(40, 200, (side, side), dtype=np.uint8), pattern(kind, side)
    surface = find_surface(image, ~counted, config=Config(working_size=64))
    assert float(surface.valid.mean()) > 0.65
    # A mean of what counts, whatever that is.
    assert abs(float(surface.colour[0][surface.valid[0] > 0].mean()) - image[counted].mean() / 255) < 0.01


@pytest.mark.parametrize("kind", ["one in four", "one row in eight", "at random, a tenth"])
def test_what_lies_too_scattered_to_be_shrunk_is_refused_and_inspected_at_its_own_size(kind):
    image, counted = np.random.default_rng(0).integers(40, 200, (256, 256), dtype=np.uint8), pattern(kind, 256)
    shares = rf"{counted.mean():.2%} of the image.*0\.\d\d% at the working size of 128 x 128.*short side, 256"
    with pytest.raises(InvalidImageError, match=shares):
        find_surface(image, ~counted, config=Config(working_size=128))
    surface = find_surface(image, ~counted, config=Config(working_size=256))
    assert np.array_equal(surface.valid[0].numpy() > 0, counted)


@settings(max_examples=30)
@given(st.integers(100, 300), st.integers(60, 100), st.floats(0.2, 1), st.floats(0.2, 1))
def test_a_surface_in_one_piece_is_never_too_scattered(side, working_size, height, width):
    image = np.random.default_rng(0).integers(40, 200, (side, side), dtype=np.uint8)
    mask = np.ones((side, side), dtype=bool)
    mask[: int(height * side), : int(width * side)] = False
    surface = find_surface(image, mask, config=Config(working_size=working_size))
    assert float(surface.valid.mean()) == pytest.approx(float((~mask).mean()), abs=0.02)
