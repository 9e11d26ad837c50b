import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdnet_core import Config, localize
from ssdnet_core.border_cost import DEPTH, SQUARE, border_cost, in_whole_context
from ssdnet_core.config import ReconstructionConfig
from ssdnet_core.fitting import fit
from ssdnet_core.reconstruction import BlindNetwork

CONFIG = ReconstructionConfig()
REACH = DEPTH * SQUARE

few_examples = settings(max_examples=10)


def off_by(error):
    """A network that is off at every pixel by ``error(rows, columns)``, numbers of pixels from the nearest borders."""

    def network(seen):
        height, width = seen.shape[-2:]
        rows, columns = (torch.minimum(torch.arange(side), torch.arange(side).flip(0)) for side in (height, width))
        channels = seen.shape[1] // 2
        return error(rows[:, None], columns[None]).expand(*seen.shape[:1], channels, height, width)

    return BlindNetwork(network, side=1, multiple=16, dtype=torch.float32)


def cost_of(error, shape=(256, 256), valid=None, config=CONFIG, pixels=None):
    pixels = torch.zeros(1, 1, *shape) if pixels is None else pixels
    valid = torch.ones_like(pixels[:, :1]) if valid is None else valid
    network = off_by(error)
    prediction = network.reconstruct(pixels, valid=valid, config=config)
    return border_cost(network, pixels, valid=valid, prediction=prediction, config=config)


def even(rows, columns):
    return torch.ones(len(rows), columns.shape[1])


def at_borders(rows, columns, corner=3.0):
    error = torch.ones(len(rows), columns.shape[1])
    side = (rows < REACH) | (columns < REACH)
    return torch.where((rows < REACH) & (columns < REACH), corner, torch.where(side, 2.0, error))


@pytest.mark.parametrize("shape", [(256, 256), (259, 301), (128, 1024)])
def test_a_border_that_costs_nothing_changes_nothing(shape):
    assert torch.allclose(cost_of(even, shape), torch.ones(1, 1, *shape))


@pytest.mark.parametrize("shape", [(256, 256), (272, 304), (512, 160)])
def test_what_the_border_costs_is_found_at_sides_and_in_corners(shape):
    cost = cost_of(at_borders, shape)[0, 0]
    middle = REACH // 2
    assert float(cost[middle, shape[1] // 2]) == pytest.approx(2, rel=0.02)
    assert float(cost[shape[0] // 2, -middle]) == pytest.approx(2, rel=0.02)
    for corner in ((middle, middle), (-middle, middle), (middle, -middle), (-middle, -middle)):
        assert float(cost[corner]) == pytest.approx(3, rel=0.02)
    inside = cost[REACH + SQUARE : -REACH - SQUARE, REACH + SQUARE : -REACH - SQUARE]
    assert torch.equal(inside, torch.ones_like(inside))


def test_residuals_divided_by_the_cost_are_as_in_the_middle():
    pixels = torch.zeros(1, 1, 256, 256)
    valid = torch.ones_like(pixels)
    network = off_by(lambda rows, columns: 1 + 2 * torch.exp(-torch.minimum(rows, columns) / 6.0))
    prediction = network.reconstruct(pixels, valid=valid, config=CONFIG)
    cost = border_cost(network, pixels, valid=valid, prediction=prediction, config=CONFIG)
    before, after = (values[0, 0, :REACH, 64:-64] for values in (prediction, prediction / cost))
    assert float(before.max()) > 2.8
    # Within a square the error falls, and what it costs further in is not known.
    assert float(after.max()) < 1.25


def test_a_border_that_is_predicted_better_than_the_middle_stays_as_it_is():
    assert torch.equal(cost_of(lambda rows, columns: 1 / at_borders(rows, columns)), torch.ones(1, 1, 256, 256))


@pytest.mark.parametrize("place", [(96, 96), (64, 128), (70, 70), (128, 150)])
def test_a_defect_in_the_middle_is_no_cost_of_the_border(place):
    pixels = torch.zeros(1, 1, 256, 256)
    pixels[..., place[0] : place[0] + 40, place[1] : place[1] + 40] = 5.0
    cost = cost_of(even, pixels=pixels)
    assert torch.allclose(cost, torch.ones_like(cost), atol=1e-3)


@few_examples
@given(st.sampled_from([128, 144, 256]), st.sampled_from([160, 208]), st.integers(0, 2**16))
def test_the_cost_is_at_least_one_and_symmetrical(height, width, seed):
    table = 1 + torch.rand(REACH + 1, REACH + 1, generator=torch.Generator().manual_seed(seed))
    cost = cost_of(lambda rows, columns: table[rows.clamp_max(REACH), columns.clamp_max(REACH)], (height, width))
    assert cost.shape == (1, 1, height, width)
    assert float(cost.min()) >= 1
    assert torch.allclose(cost, cost.flip(-1))
    assert torch.allclose(cost, cost.flip(-2))


@pytest.mark.parametrize(
    ("shape", "block", "known"),
    [((128, 128), 16, True), ((127, 300), 16, False), ((300, 127), 16, False), ((256, 256), 64, False)],
)
def test_an_image_too_small_for_borders_inside_it_tells_nothing(shape, block, known):
    cost = cost_of(even, shape, config=ReconstructionConfig(block=block))
    assert (cost is not None) == known


def hidden(kind):
    mask = np.zeros((256, 256), dtype=bool)
    y, x = np.indices(mask.shape)
    if kind == "frame":
        mask |= np.minimum(np.minimum(y, x), np.minimum(255 - y, 255 - x)) < 24
    elif kind == "hole":
        mask[100:160, 90:140] = True
    elif kind == "thin frame":
        # With what lies beyond the image a whole block.
        mask[:4] = mask[:, -7:] = True
    elif kind == "scattered":
        mask |= np.random.default_rng(1).uniform(size=mask.shape) < 0.4
        mask[60:75, 30:200] = True
    return mask


@pytest.mark.parametrize("kind", ["none", "frame", "hole", "thin frame", "scattered"])
def test_the_context_ends_where_a_block_or_more_is_hidden(kind):
    mask = hidden(kind)
    valid = torch.from_numpy(~mask).float()[None, None]
    cost = cost_of(at_borders, valid=valid)[0, 0].numpy()
    # By brute force: all squares of a block's side, also beyond the image, of which nothing counts.
    framed = np.pad(mask, REACH, constant_values=True)
    outside = np.zeros_like(framed)
    for top, left in np.argwhere(np.lib.stride_tricks.sliding_window_view(framed, (REACH, REACH)).all((2, 3))):
        outside[top : top + REACH, left : left + REACH] = True
    random = np.random.default_rng(0)
    checked = [*np.argwhere(~mask)[::997], *random.choice(np.argwhere(~mask), 60)]
    for y, x in checked:
        down, right = outside[:, x + REACH], outside[y + REACH]
        distances = [np.abs(np.flatnonzero(line) - place - REACH).min() for line, place in ((down, y), (right, x))]
        near = [distance <= REACH - SQUARE // 2 for distance in distances]
        far = [distance > REACH + SQUARE // 2 for distance in distances]
        if all(known or beyond for known, beyond in zip(near, far, strict=True)):
            assert cost[y, x] == pytest.approx(1 + sum(near), rel=0.03), (y, x, distances)


def test_what_does_not_count_has_no_say():
    generator = torch.Generator().manual_seed(1)
    valid = (torch.rand(1, 1, 256, 256, generator=generator) > 0.3).float()
    valid[..., 100:140, 64:90] = 0
    costs = []
    for value in (0.0, 1e3):
        # A network's input never shows what does not count; the pixels handed over may hold anything there.
        pixels = torch.where(valid > 0, 0.0, value)
        costs.append(cost_of(at_borders, valid=valid, pixels=pixels))
    assert torch.equal(*costs)
    assert float(costs[0][0, 0, 8, 128]) == pytest.approx(2, rel=0.05)


def test_what_does_not_count_keeps_its_prediction():
    image, prediction = torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 6.0)
    valid = torch.ones(1, 1, 4, 4)
    valid[..., 0, 0] = 0
    found = in_whole_context(prediction, image, valid=valid, cost=torch.full((1, 1, 4, 4), 3.0))
    assert float(found[0, 0, 0, 0]) == 6
    assert torch.allclose(found[0, 0, 1:], torch.full((3, 4), 2.0))


def test_images_together_have_the_costs_that_each_has_alone():
    config = Config().updated({"fit.steps": 40, "network.width": 16})
    pixels = torch.stack([torch.from_numpy(waves(seed)[:160, :192]) for seed in range(3)])[:, None] / 40.0 - 3.2
    valid = torch.ones_like(pixels)
    valid[1, :, 40:80, 100:] = 0

    def cost(images):
        chosen = pixels[images] * valid[images], valid[images]
        network = BlindNetwork.of(fit(*chosen, config=config, dtype=torch.float32), config.network)
        prediction = network.reconstruct(chosen[0], valid=chosen[1], config=CONFIG)
        return border_cost(network, chosen[0], valid=chosen[1], prediction=prediction, config=CONFIG)

    together = cost([0, 1, 2])
    assert float(together.amax((1, 2, 3)).min()) > 1.3
    for number in range(3):
        torch.testing.assert_close(together[number], cost([number])[0], rtol=0.02, atol=0.02)


def waves(seed):
    """A regular texture, as of cloth, of which the border cuts a period."""
    random = np.random.default_rng(seed)
    y, x = np.indices((256, 256))
    phases = random.uniform(0, 2 * np.pi, 2)
    surface = 128 + 40 * np.sin(2 * np.pi * x / 9.3 + phases[0]) + 40 * np.sin(2 * np.pi * y / 7.7 + phases[1])
    return np.clip(np.rint(surface + random.normal(0, 8, surface.shape)), 0, 255).astype(np.uint8)


@pytest.mark.slow
def test_a_good_regular_texture_raises_fewer_alarms_for_it():
    alarms = {
        counted: sum(
            localize(waves(seed), config=Config().updated({"reconstruction.border_cost": counted})).defective
            for seed in range(6)
        )
        for counted in (False, True)
    }
    assert alarms[False] >= 4
    assert alarms[True] <= 1
