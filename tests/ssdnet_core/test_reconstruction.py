import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdnet_core.config import NetworkConfig, ReconstructionConfig
from ssdnet_core.network import ReconstructionNetwork, stride
from ssdnet_core.reconstruction import BlindNetwork, phase_masks
from tests.ssdnet_core.drawn_values import drawn
from tests.ssdnet_core.whole_images import NetworkOfWholeImages

SMALL = NetworkConfig(width=8, unshuffle=4)
MULTIPLE = stride(SMALL)
PLACEMENTS = [(16, 1), (16, 2), (16, 4), (8, 2), (12, 2), (32, 1)]

placements = st.sampled_from(PLACEMENTS)
seeds = st.integers(0, 2**32 - 10)
sides = st.integers(40, 70)

few_examples = settings(max_examples=25)


def fresh(channels=1, *, unshuffle=4):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NetworkOfWholeImages(channels, NetworkConfig(width=8, unshuffle=unshuffle)).requires_grad_(True)


def everything(image):
    return torch.ones_like(image[:1])


def reconstruct(network, image, valid=None, *, block=16, shifts=2, side=1, multiple=MULTIPLE, dtype=torch.float32):
    network = network.to(dtype) if isinstance(network, torch.nn.Module) else network
    (prediction,) = BlindNetwork(network, side=side, multiple=multiple, dtype=dtype).reconstruct(
        image[None],
        valid=(everything(image) if valid is None else valid)[None],
        config=ReconstructionConfig(block=block, shifts=shifts),
    )
    return prediction


def copying(seen):
    """A network that repeats what it sees."""
    return seen[:, :-1]


def summing(seen):
    """A network in which every pixel depends on everything that can be seen, anywhere."""
    rows = torch.arange(seen.shape[-2])[:, None] + 1.0
    columns = torch.arange(seen.shape[-1]) + 1.0
    everywhere = (seen[:, :-1] * torch.sin(rows * columns)).sum((-2, -1), keepdim=True)
    return everywhere * torch.cos(rows + columns)


class Noting:
    """A network that notes what it is shown."""

    def __init__(self, network=copying):
        self.network, self.shown = network, []

    def __call__(self, seen):
        self.shown.append(seen.clone())
        return self.network(seen)


def cell(row, column, *, block, shifts):
    """Return the pixels that are hidden together with a pixel in every placement of the grid."""
    step = block // shifts
    top, left = row // step * step, column // step * step
    return (..., slice(top, top + step), slice(left, left + step))


@few_examples
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 20), st.integers(0, 20))
def test_each_pixel_is_in_exactly_one_of_the_four_masks(height, width, block, shift):
    masks = phase_masks((height, width), block=block, shift=shift)
    assert masks.shape == (4, 1, height, width)
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert bool((masks.sum(0) == 1).all())


@few_examples
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 20), st.integers(0, 20))
def test_the_masks_are_every_other_block_of_the_shifted_grid(height, width, block, shift):
    masks = phase_masks((height, width), block=block, shift=shift)
    for row, column in np.ndindex(height, width):
        odd_row, odd_column = (row + shift) // block % 2, (column + shift) // block % 2
        assert masks[2 * odd_row + odd_column, 0, row, column] == 1


@pytest.mark.parametrize(("block", "shifts"), PLACEMENTS)
def test_a_network_that_repeats_what_it_sees_predicts_nothing(block, shifts):
    image = drawn(3, 53, 61)
    assert not reconstruct(copying, image, block=block, shifts=shifts).any()


@few_examples
@given(placements, sides, sides, st.data())
def test_the_prediction_of_a_pixel_does_not_see_the_pixel(placement, height, width, data):
    block, shifts = placement
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    image = drawn(2, height, width)
    changed = image.clone()
    changed[:, row, column] = data.draw(st.sampled_from([1e6, -3.0, 0.0, 1e-20]))
    before, after = (reconstruct(summing, each, block=block, shifts=shifts) for each in (image, changed))
    assert torch.equal(before[:, row, column], after[:, row, column])
    assert not torch.equal(before, after)


@few_examples
@given(placements, sides, sides, seeds, st.data())
def test_the_prediction_of_a_block_does_not_see_what_is_hidden_with_it(placement, height, width, seed, data):
    block, shifts = placement
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    here = cell(row, column, block=block, shifts=shifts)
    image = drawn(1, height, width, seed=seed)
    changed = image.clone()
    changed[here] = 1e3 * drawn(1, height, width, seed=seed + 1)[here]
    before, after = (reconstruct(summing, each, block=block, shifts=shifts) for each in (image, changed))
    assert torch.equal(before[here], after[here])
    assert not torch.equal(before, after)


@pytest.mark.parametrize(("block", "shifts"), PLACEMENTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("place", [(0, 0), (17, 40), (44, 52)])
def test_a_real_network_does_not_see_the_block_either_to_the_bit(block, shifts, dtype, place):
    network, image = fresh(), drawn(1, 45, 53)
    here = cell(*place, block=block, shifts=shifts)
    changed = image.clone()
    changed[here] = 50 * drawn(1, 45, 53, seed=1)[here]
    before, after = (reconstruct(network, each, block=block, shifts=shifts, dtype=dtype) for each in (image, changed))
    assert before[here].numpy().tobytes() == after[here].numpy().tobytes()
    assert not torch.equal(before, after)


def test_a_whole_block_is_hidden_when_the_grid_is_not_shifted():
    network, image = fresh(), drawn(1, 64, 64)
    for top in range(0, 64, 16):
        for left in range(0, 64, 16):
            changed = image.clone()
            changed[:, top : top + 16, left : left + 16] += 30
            before, after = (reconstruct(network, each, shifts=1) for each in (image, changed))
            same = before == after
            assert bool(same[:, top : top + 16, left : left + 16].all())
            assert not same.all()


@pytest.mark.parametrize(("block", "shifts"), PLACEMENTS)
def test_every_placement_hides_each_pixel_once_with_its_whole_block(block, shifts):
    network, height, width = Noting(), 48, 64
    image = torch.ones(1, height, width)
    reconstruct(network, image, block=block, shifts=shifts)
    hidden = torch.cat([shown[:, 1] for shown in network.shown])
    assert len(hidden) == 4 * shifts
    expected = set()
    for shift in range(0, block, block // shifts):
        rows, columns = ((torch.arange(side) + shift) // block for side in (height, width))
        for odd_row in (0, 1):
            for odd_column in (0, 1):
                mask = (rows % 2 == odd_row)[:, None] & (columns % 2 == odd_column)
                expected.add(mask.float().numpy().tobytes())
    assert {mask.numpy().tobytes() for mask in hidden} == expected
    assert bool((hidden.sum(0) == shifts).all())


def test_what_is_hidden_is_zero_and_flagged_and_the_rest_is_shown_as_it_is():
    network, image = Noting(), drawn(3, 50, 61)
    valid = everything(image)
    valid[:, 10:20, 30:35] = 0
    reconstruct(network, image, valid)
    for shown in network.shown:
        pixels, hidden = shown[:, :3], shown[:, 3:]
        assert not pixels[hidden.expand_as(pixels) > 0].any()
        inside = hidden[..., :50, :61]
        assert torch.equal(pixels[..., :50, :61], (image * (1 - inside)))
        assert bool((inside[:, :, valid[0] == 0] == 1).all())
        # What is padded on to fill the stride is hidden, not black.
        assert shown.shape[-2:] == (64, 64)
        assert bool((hidden[..., 50:, :] == 1).all())
        assert bool((hidden[..., 61:] == 1).all())


def test_each_hidden_block_has_visible_neighbours_on_all_sides():
    network = Noting()
    reconstruct(network, torch.ones(1, 96, 96), shifts=1)
    for hidden in torch.cat([shown[:, 1] for shown in network.shown]):
        blocks = hidden[8::16, 8::16]
        for dimension in (0, 1):
            assert not (blocks.narrow(dimension, 0, 5) * blocks.narrow(dimension, 1, 5)).any()
        assert float(blocks.mean()) == 0.25


@pytest.mark.parametrize(("block", "shifts"), PLACEMENTS)
@pytest.mark.parametrize("shape", [(64, 64), (45, 53), (32, 33), (65, 97)])
def test_a_network_that_knows_the_image_reconstructs_it(block, shifts, shape):
    image = drawn(3, *shape)

    def knowing(seen):
        padded = torch.full((3, *seen.shape[-2:]), 9.0)
        padded[:, : shape[0], : shape[1]] = image
        return padded.expand(len(seen), -1, -1, -1)

    found = reconstruct(knowing, image, block=block, shifts=shifts)
    assert found.shape == image.shape
    np.testing.assert_allclose(found.numpy(), image.numpy(), atol=1e-5)


@pytest.mark.parametrize(("block", "shifts"), [(16, 2), (16, 1), (12, 2)])
def test_the_prediction_is_the_mean_over_the_placements_each_hiding_its_block(block, shifts):
    # Block by block, with nothing but the every-other blocks of its placement hidden.
    network, image = fresh(2), drawn(2, 45, 53)
    padded = torch.zeros(2, 48, 64)
    padded[:, :45, :53] = image
    outside = torch.ones(1, 48, 64)
    outside[:, :45, :53] = 0
    expected = torch.zeros(2, 48, 64)
    rows, columns = torch.arange(48)[:, None], torch.arange(64)
    for shift in range(0, block, block // shifts):
        for odd in np.ndindex(2, 2):
            mask = ((rows + shift) // block % 2 == odd[0]) & ((columns + shift) // block % 2 == odd[1])
            hidden = torch.maximum(mask.float()[None], outside)
            with torch.no_grad():
                predicted = network(torch.cat([padded * (1 - hidden), hidden])[None])[0]
            expected[:, mask] += predicted[:, mask] / shifts
    found = reconstruct(network, image, block=block, shifts=shifts)
    np.testing.assert_allclose(found.numpy(), expected[:, :45, :53].numpy(), atol=1e-4)


@few_examples
@given(placements, st.sampled_from([1, 2, 4]), sides, sides, seeds)
def test_folded_images_are_reconstructed_as_whole_ones_are(placement, unshuffle, height, width, seed):
    block, shifts = placement
    whole, image = fresh(2, unshuffle=unshuffle), drawn(2, height, width, seed=seed)
    valid = (torch.rand(1, height, width, generator=torch.Generator().manual_seed(seed)) > 0.1).float()
    network = ReconstructionNetwork(2, NetworkConfig(width=8, unshuffle=unshuffle))
    network.load_state_dict(whole.state_dict())
    expected = reconstruct(whole, image, valid, block=block, shifts=shifts)
    found = reconstruct(network, image, valid, block=block, shifts=shifts, side=unshuffle)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@few_examples
@given(placements, seeds, st.sampled_from([0.1, 0.5]), st.floats(-1e6, 1e6))
def test_any_value_under_invalid_pixels_gives_the_same_bytes(placement, seed, share, value):
    block, shifts = placement
    image = drawn(2, 45, 53, seed=seed)
    valid = (torch.rand(1, 45, 53, generator=torch.Generator().manual_seed(seed)) > share).float()
    changed = torch.where(valid > 0, image, value)
    before, after = (reconstruct(summing, each, valid, block=block, shifts=shifts) for each in (image, changed))
    assert before.numpy().tobytes() == after.numpy().tobytes()


def test_invalid_pixels_are_predicted_as_well():
    network, image = fresh(), drawn(1, 64, 64)
    valid = everything(image)
    valid[:, 20:30, 20:30] = 0
    prediction = reconstruct(network, image, valid)
    assert bool(prediction.isfinite().all())
    assert float(prediction[:, 20:30, 20:30].std()) > 0


@pytest.mark.parametrize(("unshuffle", "shape"), [(1, (33, 35)), (2, (45, 32)), (4, (37, 101)), (4, (32, 32))])
def test_sides_that_are_no_multiple_of_the_stride_are_reconstructed(unshuffle, shape):
    network, image = fresh(3, unshuffle=unshuffle), drawn(3, *shape)
    found = reconstruct(network, image, multiple=stride(NetworkConfig(unshuffle=unshuffle)))
    assert found.shape == image.shape
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("unshuffle", [1, 4])
def test_the_geometry_and_the_arithmetic_of_a_network_are_known_from_its_settings_and_weights(unshuffle, dtype):
    config, image = NetworkConfig(width=8, unshuffle=unshuffle), drawn(2, 45, 53)
    network = ReconstructionNetwork(2, config).to(dtype)
    [found] = BlindNetwork.of(network, config).reconstruct(
        image[None], valid=everything(image)[None], config=ReconstructionConfig(block=16, shifts=2)
    )
    expected = reconstruct(network, image, side=unshuffle, multiple=stride(config), dtype=dtype)
    assert torch.equal(found, expected)


def test_nothing_is_learned_and_nothing_is_changed():
    network, image = fresh(), drawn(1, 40, 40)
    valid = everything(image)
    before, counted = image.clone(), valid.clone()
    weights = [parameter.detach().clone() for parameter in network.parameters()]
    found = reconstruct(network, image, valid)
    assert found.requires_grad is False
    assert found.dtype == torch.float32
    assert torch.equal(image, before)
    assert torch.equal(valid, counted)
    assert all(torch.equal(*pair) for pair in zip(weights, network.parameters(), strict=True))


def test_bfloat16_predicts_nearly_what_float32_does():
    network, image = fresh(), drawn(1, 48, 48)
    exact, rough = (reconstruct(network, image, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert rough.dtype == torch.float32
    assert float((exact - rough).abs().max()) < 0.1
    assert not torch.equal(exact, rough)
