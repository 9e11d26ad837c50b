import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from ssdnet_core.folding import channels_of, folded, places_of, unfolded

counts = st.integers(1, 3)
sides = st.sampled_from([1, 2, 4])

few_examples = settings(max_examples=40)


def numbered(*shape):
    return torch.arange(float(torch.Size(shape).numel())).view(shape)


@few_examples
@given(counts, counts, counts, counts, counts, sides)
def test_unfolding_undoes_folding(crops, images, channels, rows, columns, side):
    values = numbered(crops, images, channels, rows * side, columns * side)
    assert torch.equal(unfolded(folded(values, side=side)), values)


@few_examples
@given(counts, counts, counts, counts, counts, sides)
def test_a_place_holds_the_pixels_of_its_square(crops, images, channels, rows, columns, side):
    values = numbered(crops, images, channels, rows * side, columns * side)
    places = folded(values, side=side)
    assert places.shape == (crops, rows, columns, images, channels, side**2)
    square = values[-1, -1, -1, (rows - 1) * side :, (columns - 1) * side :]
    assert torch.equal(places[-1, -1, -1, -1, -1], square.flatten())


@few_examples
@given(counts, counts, counts, counts, counts, sides)
def test_the_network_gets_what_pixel_unshuffle_gives_without_another_copy(crops, images, channels, rows, columns, side):
    values = numbered(crops, images, channels, rows * side, columns * side)
    places = folded(values, side=side)
    seen = channels_of(places)
    assert torch.equal(seen, functional.pixel_unshuffle(values.flatten(1, 2), side))
    assert seen.data_ptr() == places.data_ptr()
    assert places.is_contiguous()
    assert torch.equal(places_of(seen, like=places), places)
