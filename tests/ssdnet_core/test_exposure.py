from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssdnet_core import Config, localize
from ssdnet_core.exposure import (
    MUCH_CLIPPED,
    NEARLY_FLAT,
    clipped_shares,
    commonest_share,
    grey_level,
    histograms,
    looked_at,
    range_over_channel,
    range_over_iqr,
)
from ssdnet_core.preparation import prepare
from ssdnet_core.synthetic import TEXTURE_KINDS, sample

DTYPES = [np.uint8, np.uint16, np.float32, np.float64]

images = hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3])))


@given(images, st.data(), st.sampled_from(DTYPES))
def test_shares_are_those_of_channels_counted_pixel_by_pixel(pixels, data, dtype):
    counted = data.draw(hnp.arrays(bool, pixels.shape[:2]).filter(np.any))
    kept = [pixels[place] for place in np.ndindex(counted.shape) if counted[place]]
    channels = list(zip(*kept, strict=True))
    varied = [channel for channel in channels if len(set(channel)) > 1]
    expected = [
        max((channel.count(extreme(channel)) / len(channel) for channel in varied), default=1.0)
        for extreme in (min, max)
    ]
    found = histograms(looked_at(pixels.astype(dtype), counted))
    assert clipped_shares(found) == pytest.approx(expected)
    commonest = [max(channel.count(value) for value in channel) / len(channel) for channel in channels]
    assert commonest_share(found) == pytest.approx(min(commonest))


@given(
    hnp.arrays(np.uint16, st.tuples(st.integers(1, 30), st.sampled_from([1, 3]))),
    st.sampled_from([np.uint16, np.float32]),
)
def test_steps_are_those_between_neighbours_in_the_channel_where_they_are_least(pixels, dtype):
    channels = [sorted(set(channel)) for channel in pixels.T.tolist()]
    most = max(map(len, channels))
    told = [occurring for occurring in channels if len(occurring) >= 4 and 2 * len(occurring) >= most]
    expected = min((usual_step(occurring) for occurring in told), default=None)
    if expected is None:
        pooled = sorted(set(pixels.ravel().tolist()))
        expected = min(usual_step(pooled), 65535 / 255) if len(pooled) < 4 else usual_step(pooled)
    assert grey_level(histograms(pixels.astype(dtype)), full_range=65535) == pytest.approx(expected / 65535)


def usual_step(occurring):
    return np.median([above - below for below, above in pairwise(occurring)]) if len(occurring) > 1 else 0.0


def test_of_a_large_image_the_share_is_nearly_that_of_all_pixels():
    rng = np.random.default_rng(0)
    pixels, counted = rng.integers(1, 255, (2100, 2200, 1), dtype=np.uint8), np.ones((2100, 2200), dtype=bool)
    pixels[rng.random(counted.shape) < 0.4] = 255
    assert clipped_shares(histograms(looked_at(pixels, counted)))[1] == pytest.approx(
        float((pixels == 255).mean()), abs=0.005
    )
    counted[:] = False
    counted[1, 1] = True
    assert clipped_shares(histograms(looked_at(pixels, counted))) == (0.0, 0.0)


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_large_regular_texture_is_not_met_in_step(period):
    pixels = np.random.default_rng(0).integers(1, 255, (1030, 1100, 1), dtype=np.uint8)
    pixels[:, ::period] = 0
    values = looked_at(pixels, np.ones((1030, 1100), dtype=bool))
    assert clipped_shares(histograms(values))[0] == pytest.approx(1 / period, abs=0.005)


@pytest.mark.parametrize("kind", TEXTURE_KINDS)
def test_a_well_exposed_surface_is_hardly_clipped(kind):
    pixels = sample(kind, "hole", seed=0).pixels.reshape(256 * 256, -1)
    assert max(clipped_shares(histograms(pixels))) < MUCH_CLIPPED / 2


@given(st.integers(0, 1000), st.sampled_from([1, 3]))
def test_eight_bits_have_the_same_steps_in_whatever_type_they_are_stored(seed, channels):
    eight = np.random.default_rng(seed).normal(120, 12, (500, channels)).clip(0, 255).astype(np.uint8)
    stored = {np.uint8: eight, np.uint16: eight.astype(np.uint16) * 257}
    for dtype, values in stored.items():
        assert grey_level(histograms(values), full_range=np.iinfo(dtype).max) == pytest.approx(1 / 255)
    # One of twelve bits of sixteen.
    assert grey_level(histograms(eight.astype(np.uint16) * 16), full_range=65535) == pytest.approx(16 / 65535)
    spread = float(np.ptp(eight / np.float32(255)))
    assert grey_level(histograms(eight / np.float32(255)), full_range=spread) * spread == pytest.approx(1 / 255)


@pytest.mark.parametrize("values", [[0.0, 1.0], [0.0, 0.5, 1.0]])
def test_a_drawing_of_few_values_has_no_coarser_steps_for_that(values):
    assert grey_level(histograms(np.array(values)[:, None]), full_range=1.0) == pytest.approx(1 / 255)


def test_values_that_are_continuous_or_all_the_same_have_no_steps():
    assert grey_level(histograms(np.random.default_rng(0).random((60_000, 1))), full_range=1.0) < 1e-4
    assert grey_level(histograms(np.full((9, 3), 7, dtype=np.uint8)), full_range=255.0) == 0


@given(st.integers(0, 1000), st.floats(1, 1e4))
def test_the_range_is_told_in_distances_between_the_quartiles(seed, factor):
    values = np.random.default_rng(seed).random((4000, 1))
    values[7] = factor
    spread = float(np.ptp(values))
    assert range_over_iqr(histograms(values), spread=spread) == pytest.approx(spread / 0.5, rel=0.07)
    for without in (np.full((9, 1), 3.0), values[:0]):
        assert range_over_iqr(histograms(without), spread=1.0) == 0


@given(st.integers(0, 1000), st.integers(1, 3), st.sampled_from([3, 200]))
def test_the_quartiles_are_those_of_all_pixels_of_all_channels(seed, channels, levels):
    pixels = np.random.default_rng(seed).integers(levels, size=(400, channels)) * [1, 3, 2][:channels]
    low, high = np.quantile(pixels, (0.25, 0.75), method="inverted_cdf")
    assume(high > low)
    assert range_over_iqr(histograms(pixels), spread=1.0) == 1 / (high - low)


@pytest.mark.parametrize(("others", "expected"), [([101.0, 98.0, 102.0], 200.0), ([300.0], 2.0), ([], 0.0)])
def test_where_most_have_one_value_the_range_is_told_in_distances_of_the_others_from_it(others, expected):
    values = np.array([100.0] * 20 + others)[:, None]
    assert range_over_iqr(histograms(values), spread=400.0 if others else 1.0) == expected


@given(st.integers(0, 1000), st.sampled_from([np.float32, np.float64]))
def test_the_range_is_told_in_ranges_of_the_widest_channel(seed, dtype):
    values = np.random.default_rng(seed).random((400, 3)) * [1, 4, 2] + [0, 100, -500]
    told = histograms(values.astype(dtype))
    assert range_over_channel(told, spread=600.0) == pytest.approx(600 / np.ptp(values[:, 1]), rel=1e-3)
    assert range_over_channel(told[:1], spread=600.0) == range_over_channel(histograms(values[:0]), spread=1.0) == 0


def test_a_channel_that_varies_by_its_rounding_alone_has_no_range():
    values = np.array([[3.0, 9000.0], [3.0, np.nextafter(np.float32(9000), np.float32(9001))]], dtype=np.float32)
    assert range_over_channel(histograms(values), spread=8997.0) == 0


@pytest.mark.parametrize("contrast", [2.0, 20.0])
def test_the_working_image_knows_a_step_of_its_image(contrast):
    image = np.random.default_rng(0).normal(120, contrast, (64, 64)).clip(0, 255).astype(np.uint8)
    working = prepare(image, None, config=Config().updated({"weaken_noise": False}))
    assert working.grey_level * float(working.std) == pytest.approx(1 / 255)
    # As the pixels are: two values one apart lie one step apart, where the light is the mean.
    level = (working.pixels + working.mean / working.std) * working.falloff
    shown = np.unique(level[0].numpy().round(2))
    assert len(shown) == len(np.unique(image))
    assert np.diff(shown).min() == pytest.approx(working.grey_level, abs=0.02)


@pytest.mark.parametrize("contrast", [1, 2, 12])  # Of 8, 15 and 78 values.
@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_picture_has_the_same_steps_in_any_type(contrast, channels):
    eight = picture(contrast, channels=channels)
    stored = [eight, eight.astype(np.uint16) * 257, (eight / 255).astype(np.float32), eight.astype(np.float64) - 300]
    prepared = [prepare(image, None, config=Config()) for image in stored]
    steps = [working.grey_level * float(working.std) * working.full_range for working in prepared]
    assert steps == pytest.approx([1, 257, 1 / 255, 1], rel=1e-3)  # In the units of the image.


@pytest.mark.parametrize("contrast", [2, 12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_picture_normalised_channel_by_channel_has_the_steps_of_its_channels(contrast, dtype):
    # As for networks that were trained on ImageNet: the channels' values lie between one another's.
    eight, deviation = picture(contrast, channels=3), np.array([0.229, 0.224, 0.225])
    image = ((eight / 255 - [0.485, 0.456, 0.406]) / deviation).astype(dtype)
    plain, normalised = (prepare(each, None, config=Config()) for each in (eight, image))
    step = normalised.grey_level * float(normalised.std) * normalised.full_range
    assert step == pytest.approx(1 / 255 / deviation.max(), rel=1e-3)
    # In standard deviations of the picture.
    assert normalised.grey_level == pytest.approx(plain.grey_level, rel=0.1)


@pytest.mark.parametrize("contrast", [2, 12])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_a_few_stray_values_leave_a_picture_the_steps_it_has(contrast, dtype):
    # As where dead pixels were replaced by the mean of those around them, here a pixel in a thousand.
    eight, rng = picture(contrast, channels=3), np.random.default_rng(1)
    image = (257 * eight.astype(float)).astype(dtype)
    places = rng.choice(64 * 64, size=4, replace=False)
    image.reshape(-1, 3)[places] += (257 * rng.uniform(0.1, 0.9, (4, 3))).astype(dtype)
    working = prepare(image, None, config=Config())
    assert working.grey_level * float(working.std) * working.full_range == pytest.approx(257, rel=1e-3)


def test_of_a_picture_in_floating_point_rounding_noise_hides_the_steps_until_it_is_rounded():
    eight = picture(12, channels=3)
    noisy = eight / 255 + np.random.default_rng(1).normal(0, 1e-7, eight.shape)
    rounded = np.rint(255 * noisy).astype(np.uint8)
    steps = [prepare(image, None, config=Config()).grey_level for image in (eight, noisy, rounded)]
    assert steps[1] < 1e-3 * steps[0]
    assert steps[2] == steps[0]


def test_a_channel_of_few_values_has_no_say_about_the_steps():
    rng = np.random.default_rng(0)
    image = np.stack([rng.integers(0, 200, 4096) / 255, 0.5 + 1e-6 * rng.integers(0, 9, 4096)], axis=1)
    assert grey_level(histograms(image), full_range=1.0) == pytest.approx(1 / 255)


def picture(contrast, *, channels):
    """Return 64 x 64 pixels of 8 bits, of another brightness in each channel."""
    values = np.random.default_rng(0).normal([120, 90, 150][:channels], contrast, (64, 64, channels))
    return values.clip(0, 255).astype(np.uint8)


def exposed(light, *, dtype=np.uint8):
    values = sample("leather", "none", size=(96, 96), seed=0).pixels.reshape(96, 96, -1)[..., 0].astype(float)
    centred = values - np.median(values)
    image = np.clip(127 + 2 * centred + light, 0, 255).astype(np.uint8)
    # Twelve bits of sixteen.
    return image if dtype == np.uint8 else image.astype(dtype) * 16


def framed(surface, frame):
    """Return the surface (128, 128) with a border of 16 pixels."""
    image = frame.astype(surface.dtype)
    image[16:-16, 16:-16] = surface[16:-16, 16:-16]
    return image


@pytest.mark.parametrize("working_size", [128, 64])
def test_a_frame_that_is_left_out_makes_no_image_look_clipped(working_size):
    rng = np.random.default_rng(0)
    surface = rng.integers(60, 200, (128, 128), dtype=np.uint8)
    # Nearly black, not of one value: so it is a frame and no blank ground.
    image = framed(surface, rng.random((128, 128)) < 0.1)
    assert (image == 0).mean() > MUCH_CLIPPED
    config = Config.preset("preview").updated({"working_size": working_size})
    of_noise, warning = localize(image, config=config).warnings
    assert "white noise" in of_noise
    assert warning.startswith("a frame was left out")
    taken_in = localize(image, config=config.updated({"leave_out_frame": False})).warnings
    assert any("darkest value" in warning for warning in taken_in)


@pytest.mark.parametrize("working_size", [128, 64])
def test_the_steps_are_those_of_the_surface_and_not_of_the_frame_beside_it(working_size):
    rng = np.random.default_rng(0)
    # Twelve bits of sixteen, beside every value there is of a few thousand.
    surface = 16 * rng.integers(1000, 3000, (128, 128), dtype=np.uint16)
    image = framed(surface, rng.integers(0, 3000, (128, 128)))
    working = prepare(image, None, config=Config().updated({"working_size": working_size}))
    assert all(working.preparation.frame)
    assert working.grey_level * float(working.std) == pytest.approx(16 / 65535)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("light", "told"), [(0, None), (128, "brightest value"), (-127, "darkest value")])
def test_an_image_that_is_half_clipped_is_warned_of(light, told, dtype):
    warnings = localize(exposed(light, dtype=dtype), config=Config().updated({"fit.steps": 2})).warnings
    assert [told in warning for warning in warnings if "clipped" in warning] == ([True] if told else [])


@pytest.mark.parametrize(("one_value", "warned"), [(0.9, False), (0.995, True)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_nearly_flat_image_is_warned_of_and_not_of_as_clipped(one_value, warned, channels):
    rng = np.random.default_rng(0)
    image = np.where(rng.random((96, 96, 1)) < one_value, 128, rng.choice([127, 129], (96, 96, 1))).astype(np.uint8)
    warnings = localize(image.repeat(channels, axis=2), config=Config.preset("preview")).warnings
    assert any("one value" in warning for warning in warnings) == warned
    assert not any("clipped" in warning for warning in warnings)


def test_an_image_of_which_one_channel_varies_is_not_flat():
    image = np.full((96, 96, 3), 128, dtype=np.uint8)
    image[..., 1] = exposed(0)
    working = prepare(image, None, config=Config())
    assert working.preparation.commonest_share < NEARLY_FLAT
    assert not any("one value" in warning for warning in localize(image, config=Config.preset("preview")).warnings)
