import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from tasks.pictures import photograph


def shown(pixels):
    return np.asarray(Image.open(io.BytesIO(photograph(pixels))), dtype=float)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(3, 5), (300, 200), (2000, 1500), (1200, 900, 3)], ids=str)
def test_twelve_bits_in_sixteen_are_stretched_from_black_to_white(shape, dtype):
    ramp = np.linspace(0, 4095, shape[1]).astype(dtype)
    pixels = np.broadcast_to(ramp.reshape(1, -1, *[1] * (len(shape) - 2)), shape)
    found = shown(np.ascontiguousarray(pixels))
    expected = np.linspace(0, 255, found.shape[1]).reshape(1, -1, *[1] * (found.ndim - 2))
    assert np.abs(found - expected).mean() < 4


def test_a_constant_photograph_of_sixteen_bits_is_shown_too():
    assert shown(np.full((20, 30), 1000, dtype=np.uint16)).std() == 0


def test_stretching_takes_a_copy_in_single_precision_and_little_more():
    pixels = np.zeros((1500, 1000, 3), dtype=np.uint16)
    tracemalloc.start()
    photograph(pixels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * 4 * pixels.size
