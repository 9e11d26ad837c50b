import io
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import tasks.pictures
from tasks.pictures import (
    JPEG_QUALITY,
    LONG_SIDE,
    OPACITY,
    QUANTILE_VALUES,
    REDUCING_GAP,
    colour_bar,
    heat_layer,
    photograph,
)
from tests.tasks.peak_memory import peak_memory


def shown(pixels):
    return np.asarray(Image.open(io.BytesIO(photograph(pixels))), dtype=float)


@pytest.mark.parametrize(("dtype", "offset"), [(np.uint16, 0), (np.float32, 0), (np.float64, 1e12)])
@pytest.mark.parametrize("shape", [(3, 5), (300, 200), (2000, 1500), (1200, 900, 3)], ids=str)
def test_twelve_bits_in_sixteen_are_stretched_from_black_to_white(shape, dtype, offset):
    ramp = np.linspace(offset, offset + 4095, shape[1]).astype(dtype)
    pixels = np.broadcast_to(ramp.reshape(1, -1, *[1] * (len(shape) - 2)), shape)
    found = shown(np.ascontiguousarray(pixels))
    expected = np.linspace(0, 255, found.shape[1]).reshape(1, -1, *[1] * (found.ndim - 2))
    assert np.abs(found - expected).mean() < 4


def test_a_constant_photograph_of_sixteen_bits_is_shown_too():
    assert shown(np.full((20, 30), 1000, dtype=np.uint16)).std() == 0


def drawn_whole(pixels):
    """The photograph as Pillow shrinks it in one piece, stretched before that."""
    if pixels.dtype != np.uint8:
        stride = math.ceil(math.sqrt(pixels.size / QUANTILE_VALUES))
        low, high = np.quantile(pixels[::stride, ::stride].astype(np.float32), [0.001, 0.999])
        pixels = np.clip((pixels.astype(np.float32) - low) * (255 / max(float(high - low), 1e-9)), 0, 255)
    picture = Image.fromarray(pixels.astype(np.uint8))
    height, width = pixels.shape[:2]
    size = tasks.pictures._shown_size(width, height)
    picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    "shape",
    [(3, 5), (700, 1024, 3), (1500, 900, 3), (4095, 600), (4603, 3501, 3), (60, 9000, 3), (20, 5877), (70_000, 33)],
    ids=str,
)
def test_a_photograph_drawn_in_parts_is_the_one_drawn_whole(shape, dtype):
    pixels = np.random.default_rng(0).integers(0, 250 if dtype == np.uint8 else 4096, shape).astype(dtype)
    pixels[: shape[0] // 2] //= 3
    pixels[0, 0] = 255 if dtype == np.uint8 else 65_535
    assert photograph(pixels) == drawn_whole(pixels)


@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 3), (3000, 2000, 3)], ids=str)
def test_what_was_left_out_is_striped_and_the_rest_as_it_is(shape):
    left_out = np.zeros(shape[:2], dtype=bool)
    left_out[:, : shape[1] // 2] = True
    pixels = np.full(shape, 240, dtype=np.uint8)
    found = np.asarray(Image.open(io.BytesIO(photograph(pixels, left_out))), dtype=float)
    half = found.shape[1] // 2
    assert np.abs(found[:, half + 8 :] - 240).max() <= 4
    assert found[:, : half - 8].max() < 200
    assert found[:, : half - 8].std() > 10


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("ground", [0, 60_000])
def test_what_was_left_out_has_no_say_in_how_bright_the_rest_is_shown(dtype, ground):
    pixels = np.random.default_rng(0).integers(1000, 1200, (60, 80)).astype(dtype)
    left_out = np.zeros(pixels.shape, dtype=bool)
    left_out[:, :20] = True
    pixels[left_out] = ground
    found = np.asarray(Image.open(io.BytesIO(photograph(pixels, left_out))), dtype=float)
    assert found[:, 28:].std() > 60


def test_a_photograph_that_is_left_out_altogether_is_shown_striped():
    pixels = np.full((20, 30), 1000, dtype=np.uint16)
    assert np.asarray(Image.open(io.BytesIO(photograph(pixels, np.ones_like(pixels, dtype=bool))))).std() > 10


@given(long=st.integers(1, 20_000), short=st.integers(1, 100) | st.integers(1, 2000), upright=st.booleans())
def test_a_photograph_is_shown_at_the_size_that_pillow_shrinks_a_map_to_but_for_a_pixel(long, short, upright):
    size = (short, long) if upright else (long, short)
    picture = Image.new("L", size)
    picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.NEAREST)
    np.testing.assert_allclose(tasks.pictures._shown_size(*size), picture.size, atol=1)


@pytest.mark.parametrize("shape", [(40, 60), (1300, 700)], ids=str)
def test_a_map_drawn_in_parts_is_the_one_drawn_whole(monkeypatch, shape):
    scores = np.random.default_rng(0).gamma(2, 3, shape).astype(np.float32)
    in_parts = heat_layer(scores, lowest=2, highest=9)
    monkeypatch.setattr(tasks.pictures, "PART_SIDE", max(shape))
    assert heat_layer(scores, lowest=2, highest=9) == in_parts


def test_a_map_is_drawn_as_its_scale_shows_it_and_a_quarter_of_the_way_half_as_opaque():
    scores = np.linspace(2, 10, 9, dtype=np.float32)[None]
    layer = np.asarray(Image.open(io.BytesIO(heat_layer(scores, lowest=2, highest=10))))[0]
    scale = np.array([re.findall(r"[\d.]+", colour) for colour in colour_bar()], dtype=float)
    np.testing.assert_array_equal(layer[:, :3], scale[:, :3])
    np.testing.assert_allclose(layer[:, 3] / 255, scale[:, 3], atol=0.01)
    assert scale[[0, 2, 8], 3] == pytest.approx([0, OPACITY / 2, OPACITY], abs=0.01)


def test_a_photograph_of_forty_megapixels_takes_little_beside_its_pixels():
    ready = """
import numpy as np
from tasks.pictures import photograph
photograph(np.zeros((64, 64, 3), dtype=np.uint16))
pixels = np.full((5200, 7700, 3), 7, dtype=np.uint16)
"""
    assert peak_memory("photograph(pixels)", after=ready) < 64 * 2**20
