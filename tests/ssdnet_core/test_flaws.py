import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ssdnet_core.errors import InvalidConfigError, InvalidImageError
from ssdnet_core.flaws import DEFECT_KINDS, SMALLEST_SIDE, InvisibleDefectError, plant
from ssdnet_core.synthetic import TEXTURE_KINDS, sample

DEFECTS = DEFECT_KINDS[1:]

few = settings(max_examples=25)
shapes = st.one_of(
    st.tuples(st.integers(SMALLEST_SIDE, 140), st.integers(SMALLEST_SIDE, 140)),
    st.tuples(st.integers(SMALLEST_SIDE, 140), st.integers(SMALLEST_SIDE, 140), st.just(3)),
)


def photograph(shape, seed=0):
    """Return a good surface: a made texture, grey or in colour."""
    pixels = sample(TEXTURE_KINDS[seed % len(TEXTURE_KINDS)], "none", size=shape[:2], seed=seed).pixels
    return pixels if len(shape) == 3 else pixels[:, :, 1].copy()


@few
@given(shapes, st.sampled_from(DEFECT_KINDS), st.integers(0, 2**31))
def test_a_photograph_is_changed_inside_the_truth_only_and_its_shape_stays(shape, defect, seed):
    good = photograph(shape, seed)
    pixels, truth = plant(good, defect, seed=seed)
    assert pixels.shape == shape
    assert pixels.dtype == np.uint8
    assert truth.shape == shape[:2]
    assert np.array_equal(pixels[~truth], good[~truth])
    assert truth.any() == (defect != "none")


@few
@given(shapes, st.sampled_from(DEFECTS), st.integers(0, 2**31))
def test_what_is_called_a_defect_can_be_seen(shape, defect, seed):
    good = photograph(shape, seed)
    pixels, truth = plant(good, defect, seed=seed)
    change = np.abs(pixels.astype(int) - good).reshape(*shape[:2], -1).max(axis=2)
    assert change[truth].max() > 8
    assert 10 <= truth.sum() < 0.5 * truth.size


@pytest.mark.parametrize("value", [255, 1, 230])
def test_on_clipped_photographs_what_is_called_a_stain_can_be_seen_or_it_is_refused(value):
    good, refused = np.full((96, 96), value, np.uint8), 0
    for seed in range(12):
        try:
            pixels, truth = plant(good, "stain", seed=seed)
        except InvisibleDefectError:
            refused += 1
        else:
            assert np.abs(pixels.astype(int) - good)[truth].max() > 2
    # A stain darkens white, or lightens it without a trace; on what is all but black nothing of it shows.
    assert {230: refused == 0, 255: 0 < refused < 12, 1: refused == 12}[value]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(3))
def test_a_channel_that_is_black_stays_so_outside_a_patch_and_what_is_not_stays_a_number(seed):
    good = photograph((96, 96, 3), seed)
    good[:, :, 2] = 0
    good[:48, :, 1] = 0
    pixels, truth = plant(good, "patch", seed=seed)
    assert np.array_equal(pixels[~truth], good[~truth])


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_same_arguments_give_the_same_bytes_and_another_seed_another_place(defect):
    good = photograph((96, 96, 3))
    first, again, other = (plant(good, defect, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert (first[1] != other[1]).any()


@pytest.mark.parametrize("defect", ["scratch", "cut", "thread"])
def test_lines_are_wider_on_larger_photographs(defect):
    widths = []
    for side in (256, 768):
        truths = [plant(np.full((side, side), 128, np.uint8), defect, seed=seed)[1] for seed in range(4)]
        widths.append(np.mean([truth.sum() for truth in truths]) / side)
    assert widths[1] > 2 * widths[0]


@pytest.mark.parametrize("defect", ["scratch", "cut", "thread"])
@pytest.mark.parametrize("seed", range(4))
def test_a_line_is_long_and_in_one_piece(defect, seed):
    _, truth = plant(np.full((256, 256), 128, np.uint8), defect, seed=seed)
    _, pieces = ndimage.label(ndimage.binary_dilation(truth, iterations=2))
    rows, columns = np.nonzero(truth)
    assert pieces == 1
    assert np.hypot(np.ptp(rows), np.ptp(columns)) > 0.25 * 256


@pytest.mark.parametrize("seed", range(4))
def test_a_patch_is_as_bright_as_what_it_covers_where_the_light_falls_off(seed):
    good = np.rint(np.linspace(0.3, 1, 192)[:, None] * photograph((192, 192), seed)).astype(np.uint8)
    pixels, truth = plant(good, "patch", seed=seed)
    assert pixels[truth].mean() == pytest.approx(good[truth].mean(), rel=0.05)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((80, 80), np.uint16), "uint16"),
        (np.zeros((80, 80, 4), np.uint8), r"\(80, 80, 4\)"),
        (np.zeros(80, np.uint8), r"\(80,\)"),
        (np.zeros((40, 96), np.uint8), "96 x 40: each side must be 64"),
        (np.zeros((96, 96), np.uint8), "black all over"),
        (np.full((96, 96), 90, np.uint8), "a patch does not show on it"),
    ],
)
def test_what_is_no_photograph_is_refused_with_what_it_is(pixels, message):
    with pytest.raises(InvalidImageError, match=message):
        plant(pixels, "patch")


@pytest.mark.parametrize(("defect", "seed", "message"), [("dent", 0, "no defect 'dent'"), ("hole", -1, "seed -1")])
def test_unknown_defects_and_negative_seeds_are_refused(defect, seed, message):
    with pytest.raises(InvalidConfigError, match=message):
        plant(photograph((96, 96)), defect, seed=seed)
