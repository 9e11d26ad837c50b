import io

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ssdnet_core.synthetic import sample
from tasks.decoding import DecodeError
from tasks.drawn_masks import white_pixels

SHAPE = (6, 8)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@given(st.integers(128, 255), st.integers(0, 2**16), st.sampled_from([(), (3,)]), st.booleans())
def test_white_is_what_lies_above_half_of_the_brightest_in_any_channel(brightest, seed, channels, labels):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, brightest, (*SHAPE, *channels), dtype=np.uint8)
    # Half of it is black or white, as of a mask with broad soft edges.
    sharp = rng.random(SHAPE) < 0.5
    sharp.ravel()[: sharp.size // 2] = True
    pixels[sharp] = brightest * rng.integers(0, 2, (int(sharp.sum()), *channels), dtype=np.uint8)
    pixels[2, 3] = brightest
    white = white_pixels(png(pixels), shape=SHAPE, labels=labels)
    for place in np.ndindex(SHAPE):
        assert white[place] == (2 * int(pixels[place].max()) > brightest)


@pytest.mark.parametrize("labels", [True, False])
def test_a_photograph_is_no_mask(labels):
    photograph = sample("leather", "none", size=(64, 64)).pixels
    with pytest.raises(DecodeError, match=r"\d\d% of its pixels are neither black nor white: is it a photograph"):
        white_pixels(png(photograph), shape=(64, 64), labels=labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("labels", [True, False])
def test_a_black_mask_has_no_white(dtype, labels):
    assert not white_pixels(png(np.zeros(SHAPE, dtype=dtype)), shape=SHAPE, labels=labels).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_zero_and_one_are_black_and_white_where_labels_are_taken(dtype):
    pixels = np.eye(*SHAPE, dtype=dtype)
    file = io.BytesIO()
    tifffile.imwrite(file, pixels)
    np.testing.assert_array_equal(white_pixels(file.getvalue(), shape=SHAPE, labels=True), pixels > 0)
    with pytest.raises(DecodeError, match=r"1 where it is brightest|float32"):
        white_pixels(file.getvalue(), shape=SHAPE, labels=False)


@pytest.mark.parametrize(("size", "told"), [((8, 6), True), ((8, 7), False)])
def test_a_mask_of_another_size_is_told_of_orientations_where_one_may_be_why(size, told):
    with pytest.raises(DecodeError, match=r"its image 8 x 6.*: make them equal") as raised:
        white_pixels(png(np.zeros(size, dtype=np.uint8)), shape=SHAPE, labels=True)
    assert ("EXIF orientation" in str(raised.value)) is told
