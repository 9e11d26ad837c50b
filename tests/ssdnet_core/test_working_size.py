from hypothesis import given
from hypothesis import strategies as st

from ssdnet_core.working_size import MIN_SIDE, working_shape

sides = st.integers(MIN_SIDE, 5000)
shapes = st.tuples(sides, sides)
working_sizes = st.integers(32, 2048)


@given(shapes, working_sizes)
def test_the_short_side_comes_down_to_the_working_size_and_nothing_is_enlarged(shape, size):
    worked = working_shape(shape, working_size=size)
    assert min(worked) == min(size, min(shape))
    assert all(after <= before for after, before in zip(worked, shape, strict=True))


@given(shapes, working_sizes)
def test_the_proportions_are_kept_to_half_a_pixel(shape, size):
    worked = working_shape(shape, working_size=size)
    scale = min(worked) / min(shape)
    assert all(abs(after - before * scale) <= 0.5 for after, before in zip(worked, shape, strict=True))


@given(shapes, working_sizes)
def test_no_side_falls_below_the_shortest_that_can_be_worked_on(shape, size):
    assert min(working_shape(shape, working_size=size)) >= MIN_SIDE


@given(shapes, working_sizes)
def test_height_and_width_are_treated_alike(shape, size):
    assert working_shape(shape[::-1], working_size=size) == working_shape(shape, working_size=size)[::-1]


def test_a_long_strip_keeps_its_length():
    assert working_shape((1024, 64), working_size=256) == (1024, 64)
    assert working_shape((4096, 256), working_size=128) == (2048, 128)
    assert working_shape((300, 32), working_size=32) == (300, 32)
