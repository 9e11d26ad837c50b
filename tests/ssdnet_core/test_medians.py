import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssdnet_core import medians
from ssdnet_core.medians import median, row_medians, row_quantiles, sampled, sampled_places, values_that_count
from tests.ssdnet_core.drawn_values import drawn, few_examples, punched, seeds, sides


@few_examples
@given(st.integers(1, 4), sides, sides, seeds, st.booleans())
def test_the_median_is_numpys_over_the_pixels_that_count(channels, height, width, seed, everything):
    values = drawn(channels, height, width, seed=seed)
    valid = torch.ones(1, height, width) if everything else punched(height, width, seed=seed)
    found = median(values, valid)
    assert found.shape == (channels, 1, 1)
    expected = np.quantile(values.numpy()[:, valid[0].numpy() > 0], 0.5, axis=1, method="lower")
    np.testing.assert_array_equal(found[:, 0, 0].numpy(), expected)


@few_examples
@given(st.integers(1, 4), st.integers(1, 50), seeds)
def test_the_medians_of_rows_are_torchs_and_the_rows_stay_as_they_are(channels, count, seed):
    values = drawn(channels, count, seed=seed)
    before = values.clone()
    assert torch.equal(row_medians(values), values.median(dim=1).values)
    assert torch.equal(values, before)


@few_examples
@given(st.integers(1, 4), st.integers(1, 50), st.floats(0, 1), seeds)
def test_the_quantiles_of_rows_are_numpys_lower_ones(channels, count, share, seed):
    values = drawn(channels, count, seed=seed)
    expected = np.quantile(values.numpy(), share, axis=1, method="lower")
    np.testing.assert_array_equal(row_quantiles(values, share).numpy(), expected)


@few_examples
@given(st.sampled_from([(1,), (3,), (2, 2)]), st.integers(1, 3), sides, sides, seeds, st.booleans(), st.booleans())
def test_the_medians_of_images_together_are_those_of_each_alone(group, channels, height, width, seed, everything, few):
    values = drawn(*group, channels, height, width, seed=seed)
    valid = torch.ones(1, height, width) if everything else punched(height, width, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(medians, "MEDIAN_SAMPLE", 7 if few else medians.MEDIAN_SAMPLE)
        alone = torch.stack([median(image, valid) for image in values.flatten(0, -4)])
        assert torch.equal(median(values, valid), alone.unflatten(0, group))


@few_examples
@given(sides, sides, seeds)
def test_the_counted_pixels_are_those_above_zero(height, width, seed):
    values, valid = drawn(2, height, width, seed=seed), punched(height, width, seed=seed)
    np.testing.assert_array_equal(values_that_count(values, valid).numpy(), values.numpy()[:, valid[0].numpy() > 0])


def test_a_sample_is_always_the_same_and_all_if_there_are_no_more():
    columns = torch.arange(1000.0).expand(2, -1)
    torch.manual_seed(1)
    once, again = sampled(columns, 200), sampled(columns, 200)
    assert torch.equal(once, again)
    assert once.shape == (2, 200)
    assert sampled(columns, 1000) is columns


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_the_places_of_a_sample_are_those_of_the_columns_drawn(total, count):
    places = sampled_places(total, count)
    assert torch.equal(sampled(torch.arange(total), count), places)
    assert len(places) == min(total, count)


def test_the_sample_is_as_large_as_the_calibrated_law_rests_on():
    # The standard error of the median of normally distributed values.
    assert math.sqrt(math.pi / 2 / medians.MEDIAN_SAMPLE) == pytest.approx(0.00125, abs=5e-5)


@pytest.mark.parametrize("period", [2, 3, 8, 64])
def test_the_median_of_many_is_close_to_that_of_all_even_of_a_regular_texture(monkeypatch, period):
    # A regular sample might see one phase of the texture only.
    monkeypatch.setattr(medians, "MEDIAN_SAMPLE", 4096)
    columns = torch.arange(256) % period / period
    values = (columns + 0.01 * drawn(256, 256))[None]
    middle = float(median(values, torch.ones(1, 256, 256)))
    ranks = (values < middle).float().mean()
    # Five standard deviations of a sample's middle rank.
    assert abs(float(ranks) - 0.5) < 5 * 0.5 / 64
