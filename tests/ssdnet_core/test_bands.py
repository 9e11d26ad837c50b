import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssdnet_core import bands as module
from ssdnet_core.bands import bands

sides = st.integers(1, 60)


@given(sides, sides, st.integers(0, 9), st.integers(1, 8), st.integers(1, 500))
def test_the_inner_rows_tile_the_image_and_each_band_sees_its_neighbours(height, width, reach, multiple, pixels):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BAND_PIXELS", pixels)
        cut = list(bands(height, width, reach=reach, multiple=multiple))
    rows = [row for band in cut for row in range(height)[band.inner]]
    assert rows == list(range(height))
    for band in cut:
        inner, outer = range(height)[band.inner], range(height)[band.outer]
        assert outer[band.kept] == inner
        assert outer == range(max(0, inner.start - reach), min(height, inner.stop + reach))
        assert inner.start % multiple == 0
        assert len(inner) <= max(multiple, pixels // width)


def test_an_image_of_512_by_512_is_one_band():
    assert len(list(bands(512, 512, reach=3))) == 1
    assert len(list(bands(4000, 4000, reach=3, multiple=4))) > 50
