import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdnet_core.frame import FRAME_MARGIN, find_frame, without_frame
from ssdnet_core.synthetic import sample
from tests.ssdnet_core.prepared_with import prepared_with

SHAPE = (64, 96)
DEEPEST = min(SHAPE) // 8

widths = st.tuples(*[st.integers(0, DEEPEST)] * 4)
seeds = st.integers(0, 2**32 - 1)

few_examples = settings(max_examples=25)


def surface(seed=0):
    """A surface of medium brightness: (1, H, W) in 0.4 to 0.6."""
    return torch.from_numpy(np.random.default_rng(seed).uniform(0.4, 0.6, (1, *SHAPE))).float()


def dark(seed=0):
    """What a camera sees where there is no light: (1, H, W), not of one value."""
    return torch.from_numpy(np.random.default_rng(seed).uniform(0, 0.04, (1, *SHAPE))).float()


def framed(image, strips, brightness):
    """Paint strips (top, bottom, left, right) along the border."""
    top, bottom, left, right = strips
    inside = torch.zeros(image.shape[-2:], dtype=torch.bool)
    inside[top : image.shape[-2] - bottom, left : image.shape[-1] - right] = True
    return torch.where(inside, image, brightness)


def frame_of(image, valid=None):
    return find_frame(image, torch.ones_like(image[:1]) if valid is None else valid)


@few_examples
@given(widths, st.sampled_from([0.0, 0.1, 1.0]), seeds)
def test_dark_and_bright_strips_along_the_border_are_found_to_the_pixel(strips, brightness, seed):
    found = frame_of(framed(surface(seed), strips, brightness))
    assert found == tuple(width + FRAME_MARGIN if width else 0 for width in strips)


@few_examples
@given(seeds, st.floats(0, 1.2))
def test_a_surface_has_no_frame_however_far_the_light_falls_off(seed, slope):
    light = torch.linspace(1 - slope / 2, 1 + slope / 2, SHAPE[1])
    assert frame_of(surface(seed) * light) == (0, 0, 0, 0)


@few_examples
@given(seeds, st.floats(0, 0.8), widths)
def test_a_frame_is_found_where_the_light_falls_off(seed, slope, strips):
    light = torch.linspace(1 - slope / 2, 1 + slope / 2, SHAPE[1])
    found = frame_of(framed(surface(seed) * light, strips, 0.05))
    assert found == tuple(width + FRAME_MARGIN if width else 0 for width in strips)


def nearly_even(seed=0):
    """A surface whose lines hardly differ: (1, H, W) about 0.5."""
    return 0.5 + 0.002 * torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("brightness", "found"), [(0.78, False), (0.72, True), (1 / 0.78, False), (1 / 0.72, True)])
def test_a_frames_edge_is_a_jump_by_a_quarter(brightness, found):
    image = nearly_even()
    strips = framed(torch.ones_like(image), (0, 0, 6, 0), brightness)
    assert frame_of(image * strips) == ((0, 0, 6 + FRAME_MARGIN, 0) if found else (0, 0, 0, 0))


@pytest.mark.parametrize(("times", "found"), [(1.8, False), (2.2, True), (-1.8, False), (-2.2, True)])
def test_a_frame_is_twice_as_far_off_as_any_two_lines_of_the_inside(times, found):
    step = 0.4
    logs = torch.zeros(SHAPE[1])
    # A step inside, and the strip that many of it darker or brighter than what it lies beside.
    logs[50:] = step
    logs[:6] = times * step
    image = nearly_even() * logs.exp()
    assert frame_of(image) == ((0, 0, 6 + FRAME_MARGIN, 0) if found else (0, 0, 0, 0))


def test_what_is_wider_than_an_eighth_is_a_second_surface_and_no_frame():
    assert frame_of(framed(surface(), (0, 0, DEEPEST + 1, 0), 0.0)) == (0, 0, 0, 0)


def test_a_spot_at_the_border_is_no_frame():
    image = surface()
    image[:, :6, 30:60] = 0
    assert frame_of(image) == (0, 0, 0, 0)


def test_a_masked_strip_is_not_found_again():
    image = framed(surface(), (5, 0, 0, 4), 0.0)
    valid = torch.ones_like(image)
    valid[:, :5] = 0
    valid[:, :, -4:] = 0
    assert frame_of(image, valid) == (0, 0, 0, 0)


@pytest.mark.parametrize("masked", [1, 2, 5])
def test_a_strip_is_found_behind_lines_of_which_nothing_counts(masked):
    valid = torch.ones(1, *SHAPE)
    valid[:, :masked] = 0.0
    top, *others = frame_of(framed(surface(), (8, 0, 0, 0), 0.0), valid)
    assert 8 <= top <= 8 + FRAME_MARGIN
    assert others == [0, 0, 0]
    assert frame_of(surface(), valid) == (0, 0, 0, 0)


def test_a_frame_is_found_where_every_other_pixel_is_masked():
    # Of each line exactly half of the pixels count.
    rows, columns = np.indices(SHAPE)
    valid = torch.from_numpy((rows + columns) % 2 == 0).float()[None]
    assert frame_of(framed(surface(), (5, 0, 0, 4), 0.0), valid) == (5 + FRAME_MARGIN, 0, 0, 4 + FRAME_MARGIN)


@pytest.mark.parametrize("period", [4, 16])
def test_regular_stripes_are_a_texture_and_no_frame(period):
    columns = torch.arange(SHAPE[1])
    stripes = torch.where(columns % period < period // 2, 0.8, 0.2).expand(1, *SHAPE)
    assert frame_of(stripes) == (0, 0, 0, 0)
    assert frame_of(1 - stripes) == (0, 0, 0, 0)


@few_examples
@given(widths)
def test_without_a_frame_the_strips_do_not_count_and_the_rest_does(strips):
    valid = torch.ones(1, *SHAPE)
    valid[:, 20:30, 40:50] = 0
    found = without_frame(valid, strips)
    for row, column in np.ndindex(*SHAPE):
        top, bottom, left, right = strips
        inside = top <= row < SHAPE[0] - bottom and left <= column < SHAPE[1] - right
        assert float(found[0, row, column]) == (float(valid[0, row, column]) if inside else 0.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_working_image_leaves_out_the_frame_where_asked(dtype):
    image = (255 * framed(surface(), (5, 0, 0, 4), dark()))[0].numpy().astype(dtype)
    asked = prepared_with(image, None, working_size=256, leave_out_frame=True)
    assert asked.preparation.frame == (5 + FRAME_MARGIN, 0, 0, 4 + FRAME_MARGIN)
    assert float(asked.valid.sum()) == (64 - 8) * (96 - 7)
    assert not asked.pixels[:, asked.valid[0] == 0].any()
    # Standardised over what is left.
    left = asked.pixels[:, asked.valid[0] > 0]
    assert float(left.mean()) == pytest.approx(0, abs=1e-4)
    assert float(left.std()) == pytest.approx(1, abs=0.05 if dtype != np.uint16 else 1)
    whole = prepared_with(image, None, working_size=256)
    assert whole.preparation.frame == (0, 0, 0, 0)
    assert bool((whole.valid == 1).all())


def test_values_below_zero_have_no_black_to_tell_a_frame_by():
    image = framed(surface(), (5, 0, 0, 4), dark())[0].numpy()
    assert any(prepared_with(image, None, working_size=256, leave_out_frame=True).preparation.frame)
    found = prepared_with(image, None, working_size=256, leave_out_frame=True).preparation.frame
    # Noise around zero, of which a dark image was subtracted.
    image[30, 30] = -0.02
    assert prepared_with(image, None, working_size=256, leave_out_frame=True).preparation.frame == found
    image[30:45, 30:45] = -0.4
    assert prepared_with(image, None, working_size=256, leave_out_frame=True).preparation.frame == (0, 0, 0, 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_frame_is_found_in_an_image_that_is_shrunk(dtype):
    image = np.random.default_rng(0).uniform(100, 160, (128, 192)).astype(dtype)
    image[:, :12] = np.random.default_rng(1).uniform(0, 10, (128, 12))
    working = prepared_with(image, None, working_size=64, leave_out_frame=True)
    assert working.preparation.frame[:2] == (0, 0)
    assert working.preparation.frame[3] == 0
    assert 6 <= working.preparation.frame[2] - FRAME_MARGIN <= 7


@pytest.mark.parametrize("seed", range(4))
def test_a_narrow_black_strip_is_found_though_shrinking_undershoots_beside_it(seed):
    image = sample("weave", "none", size=(160, 160), seed=seed).pixels.copy()
    image[:3] = np.random.default_rng(seed).integers(0, 2, (3, 160, 3))
    assert prepared_with(image, None, working_size=64, leave_out_frame=True).preparation.frame == (4, 0, 0, 0)


def test_the_tips_of_a_piece_are_no_frame():
    down, right = np.mgrid[-48:48, -48:48]
    piece = np.abs(down) + np.abs(right) < 46
    rng = np.random.default_rng(0)
    image = np.where(piece, rng.integers(60, 160, (96, 96)), 0).astype(np.uint8)
    # As dark as a tip may happen to be.
    image[:12] = image[:12] // 3
    working = prepared_with(image, None, working_size=96, leave_out_frame=True)
    assert working.preparation.blank > 0.5
    assert working.preparation.frame == (0, 0, 0, 0)


@few_examples
@given(seeds)
def test_what_lies_in_the_frame_has_no_influence_to_the_bit(seed):
    image = (255 * surface(1))[0].numpy().astype(np.uint8)
    results = []
    for run in range(2):
        image[:5] = np.random.default_rng([seed, run]).integers(0, 20, (5, SHAPE[1]))
        working = prepared_with(image, None, working_size=256, leave_out_frame=True)
        assert working.preparation.frame == (5 + FRAME_MARGIN, 0, 0, 0)
        results.append((working.pixels.numpy().tobytes(), working.mean.numpy().tobytes(), float(working.std)))
    assert results[0] == results[1]
