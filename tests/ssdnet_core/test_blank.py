import io

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from ssdnet_core import Config, InvalidImageError
from ssdnet_core.blank import LEAST_RUN, LEAST_SURFACE, MARGIN, find_blank_ground
from ssdnet_core.surface import find_surface
from ssdnet_core.synthetic import TEXTURE_KINDS, sample
from tests.ssdnet_core.prepared_with import prepared_with

SHAPE = (64, 96)
QUARTER_TURNS = {"top": 0, "right": 1, "bottom": 2, "left": 3}

seeds = st.integers(0, 2**32 - 1)
levels = st.sampled_from([0, 114, 255])
few_examples = settings(max_examples=40)


def surface(seed=0, shape=SHAPE, channels=1):
    """A surface that has none of the ground's values: (H, W, C) uint8, 40 to 90."""
    return np.random.default_rng(seed).integers(40, 90, (*shape, channels), dtype=np.uint8)


def ground_of(pixels, counted=None, **options):
    return find_blank_ground(pixels, np.ones(pixels.shape[:2], dtype=bool) if counted is None else counted, **options)


def beside(where, depth, value, *, channels=1):
    """A surface with ground of a value along one side, ``depth`` pixels of it."""
    turns = QUARTER_TURNS[where]
    turned = np.rot90(surface(channels=channels), turns).copy()
    turned[:depth] = value
    truth = np.zeros(turned.shape[:2], dtype=bool)
    truth[:depth] = True
    return np.rot90(turned, -turns), np.rot90(truth, -turns)


def turned(angle, value, *, mode="L"):
    shape = (90, 120) if mode == "L" else (90, 120, 3)
    image = Image.fromarray(np.random.default_rng(0).integers(40, 90, shape, dtype=np.uint8))
    filled = Image.new("L", image.size, 255).rotate(angle, expand=True)
    fill = value if mode == "L" else (value,) * 3
    pixels = np.asarray(image.rotate(angle, resample=Image.Resampling.BILINEAR, expand=True, fillcolor=fill))
    return pixels if pixels.ndim == 3 else pixels[:, :, None], np.asarray(filled) == 0


@few_examples
@given(st.sampled_from(sorted(QUARTER_TURNS)), st.integers(2, 40), levels, st.sampled_from([1, 3]))
def test_a_blank_side_is_left_out_to_its_margin_and_no_further(where, depth, value, channels):
    pixels, truth = beside(where, depth, value, channels=channels)
    assert np.array_equal(ground_of(pixels), ndimage.maximum_filter(truth, 2 * MARGIN + 1))


@pytest.mark.parametrize("value", [0, 114, 255])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("angle", [4, 12, 30, -20])
def test_the_filled_corners_of_a_turned_image_are_left_out(angle, value, mode):
    pixels, truth = turned(angle, value, mode=mode)
    found = ground_of(pixels)
    assert (found >= truth).all()
    assert not found[ndimage.distance_transform_edt(~truth) > 3 * MARGIN].any()


@pytest.mark.parametrize("quality", [80, 90, 95])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("value", [0, 255])
def test_ground_that_jpeg_has_spoilt_around_the_surface_is_left_out_as_well(quality, mode, value):
    shape = (180, 240) if mode == "L" else (180, 240, 3)
    image = Image.fromarray(np.random.default_rng(0).integers(100, 160, shape, dtype=np.uint8))
    around = Image.new("L", image.size, 0).rotate(20, expand=True, fillcolor=1)
    fill = value if mode == "L" else (value,) * 3
    compressed = io.BytesIO()
    image.rotate(20, Image.Resampling.BICUBIC, expand=True, fillcolor=fill).save(compressed, "JPEG", quality=quality)
    pixels, truth = np.asarray(Image.open(compressed)), np.asarray(around) == 1
    found = ground_of(pixels.reshape(*truth.shape, -1))
    assert (truth & ~found).sum() < 0.01 * truth.sum()
    assert not found[ndimage.distance_transform_edt(~truth) > 3 * MARGIN].any()


@few_examples
@given(seeds, st.floats(0.3, 3), st.sampled_from([-1, 1]), st.sampled_from([0, 255]))
def test_the_corners_of_an_image_that_was_straightened_are_left_out_however_little_it_was_turned(
    seed, angle, turn, value
):
    image = Image.fromarray(surface(seed, shape=(256, 300))[..., 0])
    pixels = np.asarray(image.rotate(turn * angle, resample=Image.Resampling.BICUBIC, fillcolor=value))
    found = ground_of(pixels[..., None])
    assert (found >= (pixels == value)).all()
    assert found.mean() < 0.01 * angle + 0.03


@pytest.mark.parametrize(("run", "told"), [(LEAST_RUN - 1, False), (LEAST_RUN, True)])
def test_corners_of_one_value_are_ground_if_it_runs_on_from_each_of_them(run, told):
    pixels = surface()
    for quarter in range(4):
        np.rot90(pixels, quarter)[0, : run if quarter else 20] = 0
    assert (ground_of(pixels) is not None) == told


def test_a_piece_on_a_ground_of_its_own_shape_is_all_that_is_left():
    down, right = np.mgrid[-48:48, -60:60]
    piece = down**2 + right**2 < 44**2
    pixels = np.where(piece[..., None], surface(shape=(96, 120)), 255).astype(np.uint8)
    left = ~ground_of(pixels)
    assert not (left & ~piece).any()
    assert left.sum() > 0.8 * piece.sum()


@pytest.mark.parametrize("kind", TEXTURE_KINDS)
@pytest.mark.parametrize("defect", ["none", "hole"])
def test_a_surface_that_fills_the_image_has_no_ground(kind, defect):
    for seed in range(4):
        assert ground_of(sample(kind, defect, seed=seed).pixels.reshape(256, 256, -1)) is None


@few_examples
@given(seeds, st.integers(4, 30), st.integers(4, 30), levels)
def test_a_hole_at_the_border_or_in_a_corner_is_no_ground(seed, height, width, value):
    pixels = surface(seed)
    rng = np.random.default_rng(seed)
    top, left = rng.choice([0, 64 - height]), rng.integers(96 - width + 1)
    pixels[top : top + height, left : left + width] = value
    assert ground_of(pixels) is None


@pytest.mark.parametrize(("pitch", "width"), [(12, 3), (20, 4)])
def test_clipped_joints_that_cut_the_surface_into_pieces_are_its_pattern(pitch, width):
    pixels = surface(shape=(120, 160))
    rows, columns = np.indices(pixels.shape[:2])
    joints = (rows % pitch < width) | (columns % pitch < width)
    pixels[joints] = 0
    pixels[2 * pitch : 3 * pitch, pitch : 2 * pitch] = 0
    assert ground_of(pixels) is None
    # Two pieces on a ground are none.
    apart = surface(shape=(120, 160))
    apart[:, 70:80] = apart[:8] = 0
    assert ground_of(apart) is not None


def test_one_line_of_dead_pixels_is_no_ground():
    pixels = surface()
    pixels[0] = 0
    assert ground_of(pixels) is None


def test_a_defect_of_the_ground_s_value_inside_the_surface_stays():
    pixels, truth = beside("left", 20, 0)
    pixels[30:40, 50:60] = 0
    assert np.array_equal(ground_of(pixels), ndimage.maximum_filter(truth, 2 * MARGIN + 1))


def test_a_scratch_that_runs_into_the_ground_stays():
    pixels, _ = beside("left", 20, 0)
    pixels[30:32, 20:60] = 0
    found = ground_of(pixels)
    assert not found[:, 20 + MARGIN + 1 :].any()


def test_ground_that_fades_into_the_surface_has_no_edge_and_stays():
    light = np.clip(np.arange(240) - 30, 0, None) / 210
    fading = (light * np.random.default_rng(0).uniform(150, 200, (64, 240)))[..., None].astype(np.float32)
    assert ground_of(fading) is None
    fading[:, 30:] += 60
    assert ground_of(fading) is not None


@few_examples
@given(st.floats(0, 1))
def test_ground_with_too_little_surface_on_it_is_the_surface(share):
    depth = round(share * 96)
    assume(depth >= 2)
    found = ground_of(beside("left", depth, 0)[0])
    left = 96 - depth - MARGIN
    assert (found is not None) == (left >= LEAST_SURFACE * 96)


def test_a_constant_image_and_a_dark_field_with_scratches_have_no_ground():
    pixels = np.zeros((*SHAPE, 1), dtype=np.uint8)
    assert ground_of(pixels) is None
    pixels[20:23, 10:80] = 200
    assert ground_of(pixels) is None


def test_a_side_counts_from_the_first_line_that_does():
    pixels, truth = beside("left", 30, 255)
    pixels[:, :5] = surface(1)[:, :5]
    counted = np.ones(SHAPE, dtype=bool)
    counted[:, :5] = False
    found = ground_of(pixels, counted)
    assert np.array_equal(found & counted, ndimage.maximum_filter(truth, 2 * MARGIN + 1) & counted)
    assert ground_of(pixels) is None


@pytest.mark.parametrize("width", [2 * MARGIN, 20])
def test_ground_ends_where_a_mask_begins_as_over_the_selvage(width):
    pixels, truth = beside("left", 30, 255)
    counted = np.ones(SHAPE, dtype=bool)
    counted[:, 30 : 30 + width] = False
    assert np.array_equal(ground_of(pixels, counted) & counted, truth)


@few_examples
@given(st.sampled_from(sorted(QUARTER_TURNS)), st.integers(0, 20))
def test_a_selvage_along_the_ground_is_left_out_as_far_as_was_asked(where, selvage):
    pixels, truth = beside(where, 15, 255)
    assert np.array_equal(ground_of(pixels, selvage=selvage), ndimage.maximum_filter(truth, 2 * (MARGIN + selvage) + 1))
    assert ground_of(surface(), selvage=selvage) is None


def test_a_selvage_is_a_share_of_the_short_side_and_cannot_be_all():
    image = np.kron(beside("left", 30, 0)[0][..., 0], np.ones((4, 4), dtype=np.uint8))
    [valid] = find_surface(image, None, config=Config(working_size=64, selvage=0.25)).valid
    assert not valid[:, : 30 + MARGIN + 16].any()
    assert bool((valid[:, 30 + MARGIN + 16 :] == 1).all())
    corners, _ = turned(30, 0)
    with pytest.raises(InvalidImageError, match=r"selvage of 0\.5 of its short side .*set a smaller selvage"):
        prepared_with(corners[..., 0], None, working_size=256, leave_out_frame=True, selvage=0.5)


@pytest.mark.parametrize(("rows", "told"), [(20, False), (30, False), (34, True)])
def test_a_side_of_which_less_than_half_counts_tells_nothing(rows, told):
    pixels, counted = surface(), np.ones(SHAPE, dtype=bool)
    pixels[:rows, :4] = 0
    counted[rows:, :4] = False
    assert (ground_of(pixels, counted) is not None) == told


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_the_working_image_is_that_of_a_mask_over_the_ground(dtype):
    pixels, truth = beside("right", 30, 255)
    image = pixels[..., 0].astype(dtype)
    masked = ndimage.maximum_filter(truth, 2 * MARGIN + 1)
    found, told = (
        prepared_with(image, None, working_size=256, leave_out_frame=True),
        prepared_with(image, masked, working_size=256),
    )
    assert found.pixels.equal(told.pixels)
    assert found.valid.equal(told.valid)
    assert found.preparation.blank == pytest.approx(masked.mean())
    whole = prepared_with(image, None, working_size=256)
    assert whole.preparation.blank == 0.0
    assert bool((whole.valid == 1).all())


def test_the_margin_is_one_of_the_working_image():
    image = np.kron(beside("left", 30, 0)[0][..., 0], np.ones((4, 4), dtype=np.uint8))
    working = prepared_with(image, None, working_size=64, leave_out_frame=True)
    assert not working.valid[0, :, : 30 + MARGIN].any()
    assert bool((working.valid[0, :, 30 + MARGIN :] == 1).all())


@pytest.mark.parametrize("scale", [5, 16])
def test_a_large_image_has_the_ground_that_it_has_when_small(scale):
    pixels, _ = turned(12, 255)
    large = np.kron(pixels, np.ones((scale, scale, 1), dtype=np.uint8))
    large = large[: -scale // 2, : -scale // 3]
    small, found = ground_of(pixels), ground_of(large, margin=MARGIN * scale)
    off = np.kron(small, np.ones((scale, scale), dtype=bool))[: large.shape[0], : large.shape[1]] != found
    assert not off[ndimage.distance_transform_edt(~_edge(found)) > scale].any()


def _edge(area):
    return area & ~ndimage.binary_erosion(area, border_value=1)
