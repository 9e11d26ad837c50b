import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssdnet_core.border_rings import without_ring_excess
from tests.ssdnet_core.drawn_values import drawn, few_examples, seeds


def border_depth(height, width):
    rows, columns = np.indices((height, width))
    return np.minimum(np.minimum(rows, height - 1 - rows), np.minimum(columns, width - 1 - columns))


@few_examples
@given(st.integers(26, 45), st.integers(26, 45), st.sampled_from([(1, 2, 12), (2, 1, 6), (4, 1, 3)]), seeds)
def test_rings_are_lowered_by_what_their_median_exceeds_the_images(height, width, rings, seed):
    grid, ring_width, reach = rings
    depth = border_depth(height, width)
    values = drawn(2, height, width, seed=seed) + torch.from_numpy(np.maximum(0, 6 - depth)).float()
    found = without_ring_excess(values, torch.ones(1, height, width), grid=grid).numpy()
    middle = {"q": 0.5, "method": "lower"}
    for channel, before in enumerate(values.numpy()):
        expected = before.copy()
        for start in range(0, reach, ring_width):
            ring = (depth >= start) & (depth < start + ring_width)
            expected[ring] -= max(0.0, np.quantile(before[ring], **middle) - np.quantile(before, **middle))
        np.testing.assert_allclose(found[channel], expected, atol=1e-5)


def test_the_excess_of_rings_is_removed_and_a_defect_at_the_border_stays():
    rows = torch.from_numpy(np.maximum(0, 8 - border_depth(64, 64))).float()
    values = rows + 0.1 * drawn(1, 64, 64)
    values[:, :6, 20:26] += 10
    levelled = without_ring_excess(values, torch.ones(1, 64, 64))[0]
    defect = torch.zeros(64, 64, dtype=torch.bool)
    defect[:6, 20:26] = True
    assert float(levelled[defect].min()) > 8
    assert float(levelled[~defect].max()) < 1.5


def test_a_quiet_border_is_not_raised():
    values = drawn(1, 48, 48)
    values[:, :2] -= 5
    lowered = without_ring_excess(values, torch.ones(1, 48, 48))
    assert bool((lowered <= values).all())


def test_what_lies_further_inside_is_left_alone():
    depth = border_depth(64, 64)
    for ring in range(12, 32, 2):
        values = torch.from_numpy(np.where(depth // 2 == ring // 2, 5.0, 0.0)).float()[None]
        assert torch.equal(without_ring_excess(values, torch.ones(1, 64, 64)), values)
