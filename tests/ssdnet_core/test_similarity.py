import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from ssdnet_core import bands
from ssdnet_core.filters import BANK_SIZE, enlarge
from ssdnet_core.similarity import STABILISER, dissimilarity, inner_product, inner_products
from tests.ssdnet_core.drawn_values import drawn, few_examples
from tests.ssdnet_core.made_surfaces import at_full_size, blind, everything, highest, texture

seeds = st.integers(0, 2**32 - 10)
scales = st.sampled_from([1, 2, 4])


def features_by_scipy(image):
    """Return the coefficients of each 7 x 7 neighbourhood in an orthonormal basis of the patterns of zero mean."""
    spanning = np.hstack([np.ones((BANK_SIZE**2, 1)), np.eye(BANK_SIZE**2)[:, 1:]])
    patterns = np.linalg.qr(spanning)[0][:, 1:].T.reshape(-1, BANK_SIZE, BANK_SIZE)
    return np.stack(
        [ndimage.correlate(plane, each, mode="nearest") for plane in image.double().numpy() for each in patterns]
    )


def windowed_by_scipy(values, weight, sigma):
    radius = max(1, math.ceil(3 * sigma))
    blurred, reach = (
        ndimage.gaussian_filter(each, sigma, mode="constant", radius=radius) for each in (values * weight, weight)
    )
    return blurred / np.maximum(reach, 1e-9)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_inner_products_are_those_of_the_features(channels):
    image, prediction = drawn(channels, 20, 27), drawn(channels, 20, 27, seed=1)
    one, other = features_by_scipy(image), features_by_scipy(prediction)
    expected = [(one * other).sum(0), (one**2).sum(0), (other**2).sum(0)]
    np.testing.assert_allclose(inner_products(image, prediction).numpy(), np.stack(expected), atol=1e-3)


@pytest.mark.parametrize("grid", [2, 4])
def test_averages_before_the_window_change_the_map_little(grid):
    image = torch.from_numpy(ndimage.gaussian_filter(drawn(1, 96, 80).numpy(), (0, 1, 1)))
    prediction = image + 0.1 * drawn(1, 96, 80, seed=1)
    fine, coarse = (
        dissimilarity(image, prediction, valid=everything(image), scale=1, sigma=6.0, grid=each) for each in (1, grid)
    )
    assert coarse.shape == (1, 96 // grid, 80 // grid)
    error = (enlarge(coarse, (96, 80)) - fine).abs()
    # Most in the corners, beyond the last square's centre.
    assert float(error.max()) < 0.5 * float(fine.std())
    assert float(error.mean()) < 0.1 * float(fine.std())


def test_an_image_in_several_bands_is_as_unlike_as_in_one(monkeypatch):
    image, prediction = drawn(2, 61, 40), drawn(2, 61, 40, seed=1)
    valid = (drawn(1, 61, 40, seed=2) > -1).float()
    for scale in (1, 2):
        whole = dissimilarity(image, prediction, valid=valid, scale=scale, sigma=3.0, grid=2)
        with monkeypatch.context() as patch:
            patch.setattr(bands, "BAND_PIXELS", 300)
            cut = dissimilarity(image, prediction, valid=valid, scale=scale, sigma=3.0, grid=2)
        np.testing.assert_allclose(cut.numpy(), whole.numpy(), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [0.6, 2.0])
def test_the_dissimilarity_is_one_minus_the_cosine_of_windowed_inner_products(channels, sigma):
    image, prediction = (
        drawn(channels, 24, 31, seed=1),
        drawn(channels, 24, 31, seed=2) + drawn(channels, 24, 31, seed=1),
    )
    weight = torch.ones(1, 24, 31)
    weight[:, 5:15, 8:20] = 0
    of_image, of_prediction = features_by_scipy(image), features_by_scipy(prediction)
    pairs = ((of_image, of_prediction), (of_image, of_image), (of_prediction, of_prediction))
    inner, energy, predicted = (
        windowed_by_scipy((one * other).sum(0), weight[0].numpy(), sigma) for one, other in pairs
    )
    floor = STABILISER * np.median(energy[weight[0].numpy() > 0])
    expected = 1 - (inner + floor) / np.sqrt((energy + floor) * (predicted + floor))
    found = dissimilarity(image, prediction, valid=weight, scale=1, sigma=sigma)[0].numpy()
    near = ndimage.binary_dilation(weight[0].numpy() > 0, iterations=1)
    np.testing.assert_allclose(found[near], expected[near], atol=2e-3)


@few_examples
@given(seeds, scales, st.sampled_from([1, 3]), st.integers(32, 50), st.integers(32, 50))
def test_an_image_is_not_unlike_itself_and_the_map_is_shrunk_rounding_up(seed, scale, channels, height, width):
    image = drawn(channels, height, width, seed=seed)
    unlike = dissimilarity(image, image.clone(), valid=everything(image), scale=scale, sigma=2.0)
    assert unlike.shape == (1, math.ceil(height / scale), math.ceil(width / scale))
    assert float(unlike.abs().max()) < 1e-5


@few_examples
@given(seeds, scales, st.floats(-20, 20), st.booleans())
def test_the_dissimilarity_lies_between_zero_and_two(seed, scale, mix, masked):
    image = drawn(1, 40, 44, seed=seed)
    valid = everything(image)
    if masked:
        valid[:, 5:30, 8:40] = 0
    unlike = dissimilarity(image, mix * image + drawn(1, 40, 44, seed=seed + 1), valid=valid, scale=scale, sigma=1.5)
    assert float(unlike.min()) > -1e-4
    assert float(unlike.max()) < 2 + 1e-4


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_wrong_prediction_is_unlike_where_it_is_wrong(scale):
    smoothed = ndimage.gaussian_filter(drawn(1, 96, 96).numpy(), (0, 1, 1))
    image = torch.from_numpy(smoothed / smoothed.std())
    prediction = image + 0.05 * drawn(1, 96, 96, seed=1)
    prediction[:, 40:64, 56:80] = image.flip(2)[:, 40:64, 56:80]
    unlike = dissimilarity(image, prediction, valid=everything(image), scale=scale, sigma=6 / scale)[0]
    row, column = divmod(int(unlike.argmax()), unlike.shape[1])
    assert 40 <= (row + 0.5) * scale < 64
    assert 56 <= (column + 0.5) * scale < 80
    assert float(unlike.max()) > 5 * float(unlike.median())


def test_brightness_alone_is_no_dissimilarity():
    image = drawn(3, 48, 48)
    assert float(dissimilarity(image, image + 3.0, valid=everything(image), scale=1, sigma=2.0).max()) < 1e-3


def test_flat_places_have_no_random_directions():
    # Left: faint noise, predicted as other faint noise. Right: texture, predicted as other texture.
    strength = torch.ones(1, 64, 128)
    strength[:, :, :48] = 0.02
    image, prediction = strength * drawn(1, 64, 128, seed=1), strength * drawn(1, 64, 128, seed=2)
    unlike = dissimilarity(image, prediction, valid=everything(image), scale=1, sigma=2.0)[0]
    assert float(unlike[:, :36].max()) < 0.05
    assert float(unlike[:, 60:].mean()) > 0.5


def test_the_opposite_is_more_unlike_than_something_unrelated():
    image = drawn(1, 64, 64)
    opposite, unrelated = (
        float(dissimilarity(image, each, valid=everything(image), scale=1, sigma=2.0).mean())
        for each in (-image, drawn(1, 64, 64, seed=1))
    )
    assert opposite > 1.3 > 1.0 > unrelated > 0.5


@few_examples
@given(
    st.sampled_from([(1,), (3,), (2, 2)]),
    st.sampled_from([1, 3]),
    scales,
    st.sampled_from([1, 2]),
    seeds,
    st.booleans(),
)
def test_images_together_are_as_unlike_their_predictions_as_each_alone(group, channels, scale, grid, seed, masked):
    count = math.prod(group)
    # Each of another contrast, and predicted worse than the one before.
    levels = torch.arange(1.0, 1 + count)[:, None, None, None]
    image = levels * drawn(count, channels, 33, 38, seed=seed)
    prediction = image + 0.2 * levels**2 * drawn(count, channels, 33, 38, seed=seed + 1)
    valid = torch.ones(1, 33, 38)
    if masked:
        valid[:, 5:20, 8:30] = 0
    pairs = list(zip(image, prediction, strict=True))
    image, prediction = (values.unflatten(0, group) for values in (image, prediction))
    products = torch.stack([inner_products(*pair) for pair in pairs]).unflatten(0, group)
    torch.testing.assert_close(inner_products(image, prediction), products, rtol=1e-4, atol=1e-3)
    options = {"scale": scale, "sigma": 2.0, "grid": grid}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "BAND_PIXELS", 300)
        together = dissimilarity(image, prediction, valid=valid, **options)
        alone = torch.stack([dissimilarity(*pair, valid=valid, **options) for pair in pairs])
    torch.testing.assert_close(together, alone.unflatten(0, group), rtol=1e-4, atol=1e-4)


def test_the_inner_product_score_needs_the_prediction():
    image = texture(128, 128)
    prediction = blind(image)
    turned = prediction.clone()
    turned[:, 50:74, 60:84] = prediction.flip(1)[:, 50:74, 60:84]
    row, column = highest(at_full_size(inner_product(image, turned, valid=everything(image))))
    assert 47 <= row < 77
    assert 57 <= column < 87


def test_a_ring_along_the_border_that_is_predicted_worse_does_not_stand_out():
    image = texture(128, 128)
    prediction = blind(image)
    ring = torch.ones_like(image, dtype=torch.bool)
    ring[:, 8:-8, 8:-8] = False
    worse = torch.where(ring, prediction + 0.8 * texture(128, 128, seed=7), prediction)
    scores = inner_product(image, worse, valid=everything(image))[0]
    assert float(scores[0].median()) < float(scores[4:-4, 4:-4].quantile(0.9))
