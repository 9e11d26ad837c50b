import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from ssdnet_core.bulk import distance_over_median
from ssdnet_core.derivatives import gaussian_derivatives
from ssdnet_core.local_energy import local_energy
from ssdnet_core.polynomial_trend import without_trend
from tests.ssdnet_core.drawn_values import few_examples, seeds
from tests.ssdnet_core.made_surfaces import at_full_size, everything, highest, texture


@pytest.mark.parametrize("seed", range(3))
def test_streaks_stand_out_where_the_contrast_of_the_surface_varies_by_as_much(seed):
    # Its derivatives grow and shrink together; those of the streaks do not, though each is as strong as elsewhere.
    noise, size = texture(256, 256, seed=seed), (256, 256)
    streaks = torch.from_numpy(
        ndimage.uniform_filter1d(texture(256, 256, seed=seed + 9, smooth=0.7).numpy(), 9, axis=2)
    )
    image = noise * (0.5 * texture(256, 256, seed=seed + 99, smooth=10.0)).exp()
    image[:, 100:148, 100:148] = (streaks / streaks.std())[:, 100:148, 100:148]
    top, left = highest(at_full_size(local_energy(image, everything(image)), size))
    assert 100 <= top < 148
    assert 100 <= left < 148


def averages(values, side):
    """Means over squares of a side, which divides that of (..., H, W)."""
    *leading, height, width = values.shape
    return values.reshape(*leading, height // side, side, width // side, side).mean((-3, -1))


def over_counted(filtered, values, weight):
    """The mean that a linear filter gives of the values with weights; 0 where it sees none."""
    total = filtered(weight)
    return filtered(values * weight) / np.maximum(total, 1e-6)


def gaussian(sigma):
    return lambda values: ndimage.gaussian_filter(values, (0, sigma, sigma), mode="constant", truncate=3.0)


def reference(image, valid):
    """Score A as docs/METHOD.md says it, scale by scale, of (C, H, W) with sides that are multiples of 8."""
    image, valid = image.double().numpy(), valid.double().numpy()
    total = np.zeros((1, image.shape[1] // 4, image.shape[2] // 4))
    for scale in (1, 2, 4, 8):
        side = max(4, scale)
        pixels = averages(image, scale)
        counted = (averages(valid, scale) > 0.5).astype(float)
        squares = gaussian_derivatives(torch.from_numpy(pixels)).square().numpy()
        strength = over_counted(lambda values, by=side // scale: averages(values, by), squares, counted)
        share = averages(counted, side // scale)
        level = np.log(over_counted(gaussian(max(2.0, 8 / side)), strength, share) + 3e-4)
        level, seen = (torch.from_numpy(values).float() for values in (level, share > 0.5))
        unusual = distance_over_median(without_trend(level, seen, degree=2), seen)
        total += ndimage.zoom(unusual.numpy(), (1, side // 4, side // 4), order=1, mode="nearest", grid_mode=True)
    return total


@few_examples
@given(
    st.integers(1, 3),
    st.integers(8, 16),
    st.integers(8, 16),
    st.sampled_from(["everything", "holes", "every second pixel of a part"]),
    seeds,
)
def test_the_score_is_that_of_the_formula(channels, rows, columns, counting, seed):
    height, width = 8 * rows, 8 * columns
    image = texture(height, width, channels=channels, seed=seed)
    valid = everything(image)
    if counting == "holes":
        valid = (torch.rand(valid.shape, generator=torch.Generator().manual_seed(seed)) > 0.1).float()
    elif counting == "every second pixel of a part":
        # Half of each square there, which is too little to count.
        valid[:, : height // 4, ::2] = 0
    torch.testing.assert_close(
        local_energy(image * valid, valid).double(),
        torch.from_numpy(reference(image * valid, valid)),
        rtol=1e-2,
        atol=1e-2,
    )
