import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ssdnet_core import InvalidImageError
from ssdnet_core.preparation import MIN_COUNTED, STD_FLOOR
from ssdnet_core.sensor_noise import NO_NOISE
from ssdnet_core.surface import KEPT_ABOVE
from ssdnet_core.synthetic import sample
from tests.ssdnet_core.prepared_with import prepared_with

BIG = 8192

seeds = st.integers(0, 2**32 - 1)
sides = st.integers(32, 70)
channel_counts = st.sampled_from([None, 1, 3])
dtypes = st.sampled_from([np.uint8, np.uint16, np.float32, np.float64])

few_examples = settings(max_examples=30)


def texture(shape, dtype=np.uint8, seed=0):
    """Noise between a fifth and four fifths of the range."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.2, 0.8, shape)
    if np.issubdtype(dtype, np.integer):
        return np.rint(values * np.iinfo(dtype).max).astype(dtype)
    return values.astype(dtype)


def holes(shape, share, seed=0):
    """Rectangles that cover about the share asked, never everything."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, dtype=bool)
    while mask.mean() < share:
        top, left = (int(rng.integers(side)) for side in shape)
        mask[top : top + int(rng.integers(1, 20)), left : left + int(rng.integers(1, 20))] = True
    mask[:3, :3] = False
    return mask


def same_bytes(one, other):
    assert one.full_range == other.full_range
    for name in ("pixels", "valid", "mean", "std"):
        assert getattr(one, name).numpy().tobytes() == getattr(other, name).numpy().tobytes(), name


def given_back(working):
    """Return the image's own values in units of the full range, (C, h, w), from what the network sees."""
    return (working.pixels * working.std + working.mean) * working.falloff


def below_black(shape, seed=0):
    """Noise around zero, which then is not black: no light is taken off."""
    return texture(shape, np.float64, seed) - 0.5


def bicubic(plane, size):
    """Pillow's antialiased bicubic interpolation of an (H, W) plane to (h, w)."""
    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize(size[::-1], Image.Resampling.BICUBIC))


@few_examples
@given(sides, sides, channel_counts, dtypes, seeds, st.booleans())
def test_pixels_are_standardised_over_what_counts(height, width, channels, dtype, seed, masked):
    image = texture((height, width) if channels is None else (height, width, channels), dtype, seed)
    mask = holes((height, width), 0.3, seed) if masked else None
    working = prepared_with(image, mask, working_size=BIG)

    counts = np.ones((height, width), dtype=bool) if mask is None else ~mask
    planes = image.reshape(height, width, -1).astype(np.float64)
    spread = planes[counts].max() - planes[counts].min()
    full_range = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else spread
    planes = planes / full_range / working.falloff.numpy().transpose(1, 2, 0)
    mean = planes[counts].mean(axis=0)
    std = np.sqrt(((planes[counts] - mean) ** 2).mean()) + STD_FLOOR
    expected = np.where(counts[:, :, None], (planes - mean) / std, 0.0).transpose(2, 0, 1)

    assert working.pixels.dtype == torch.float32
    np.testing.assert_allclose(working.pixels.numpy(), expected, atol=1e-4)
    np.testing.assert_array_equal(working.valid.numpy(), counts[None].astype(np.float32))
    assert working.full_range == pytest.approx(float(full_range), rel=1e-6)
    assert working.preparation.original_shape == (height, width)
    assert not working.preparation.constant


@few_examples
@given(sides, sides, channel_counts, dtypes, seeds)
def test_mean_std_range_and_falloff_give_the_image_back(height, width, channels, dtype, seed):
    image = texture((height, width) if channels is None else (height, width, channels), dtype, seed)
    working = prepared_with(image, None, working_size=BIG)
    back = (given_back(working) * working.full_range).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(
        back, image.reshape(height, width, -1).astype(np.float64), atol=1e-5 * working.full_range
    )


@pytest.mark.parametrize("shape", [(90, 70), (70, 90, 3), (64, 300), (80, 80, 3)])
def test_a_large_image_is_shrunk_like_pillow_does_it(shape):
    image = texture(shape)
    working = prepared_with(image, None, working_size=40)
    size = tuple(working.pixels.shape[-2:])
    assert min(size) == 40
    planes = image.reshape(*shape[:2], -1)
    expected = np.stack([bicubic(plane / 255, size) for plane in planes.transpose(2, 0, 1)])
    np.testing.assert_allclose(given_back(working).numpy(), expected, atol=1e-3)
    assert bool((working.valid == 1).all())


def test_a_shrunk_image_with_holes_is_the_weighted_mean_of_what_counts():
    image, mask = texture((96, 80)), np.zeros((96, 80), dtype=bool)
    mask[20:41, 31:60] = True
    working = prepared_with(image, mask, working_size=40)
    weight = bicubic(~mask, (48, 40))
    counts = weight > KEPT_ABOVE
    mean = bicubic(np.where(mask, 0, image / 255), (48, 40))[counts] / weight[counts]
    np.testing.assert_array_equal(working.valid[0].numpy(), counts)
    assert 0 < counts.sum() < counts.size
    back = given_back(working)[0].numpy()
    np.testing.assert_allclose(back[counts], mean, atol=1e-3)
    assert not working.pixels[0].numpy()[~counts].any()


def test_a_hole_does_not_darken_its_surroundings_when_the_image_is_shrunk():
    image = np.full((96, 96), 200, dtype=np.uint8)
    image[::2, ::2] = 202
    mask = holes(image.shape, 0.3)
    working = prepared_with(image, mask, working_size=48)
    back = given_back(working)[0].numpy()[working.valid[0].numpy() > 0] * 255
    assert back.min() > 198
    assert back.max() < 204


@few_examples
@given(dtypes, seeds, st.sampled_from([BIG, 37, 48]), st.booleans())
def test_what_lies_under_the_mask_has_no_influence_to_the_bit(dtype, seed, working_size, colour):
    shape = (50, 64)
    image = texture((*shape, 3) if colour else shape, dtype, seed)
    mask = holes(shape, 0.3, seed)
    changed = image.copy()
    if np.issubdtype(dtype, np.integer):
        changed[mask] = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, changed[mask].shape, dtype)
    else:
        strange = [np.nan, np.inf, -np.inf, 1e30, -1e-30, 0.0]
        changed[mask] = np.random.default_rng(seed).choice(strange, changed[mask].shape)
    assert not np.array_equal(image, changed)
    same_bytes(
        prepared_with(image, mask, working_size=working_size), prepared_with(changed, mask, working_size=working_size)
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("working_size", [BIG, 40])
def test_hidden_values_beyond_single_precision_are_not_even_warned_of(offset, working_size):
    image, mask = texture((64, 70), np.float64) + offset, holes((64, 70), 0.2)
    spoilt = image.copy()
    spoilt[mask] = np.random.default_rng(0).choice([1e308, -1e308, np.inf, np.nan], int(mask.sum()))
    same_bytes(
        *(prepared_with(each, mask, working_size=working_size, leave_out_frame=True) for each in (image, spoilt))
    )


@few_examples
@given(seeds, st.sampled_from([BIG, 40]))
def test_an_empty_mask_is_no_mask(seed, working_size):
    image = texture((50, 60, 3), seed=seed)
    empty = np.zeros((50, 60), dtype=bool)
    without, with_it = (prepared_with(image, mask, working_size=working_size) for mask in (None, empty))
    np.testing.assert_allclose(without.pixels.numpy(), with_it.pixels.numpy(), atol=1e-5)
    assert torch.equal(without.valid, with_it.valid)


@pytest.mark.parametrize("working_size", [BIG, 40])
@pytest.mark.parametrize("masked", [False, True])
def test_a_border_is_a_mask_along_each_side(working_size, masked):
    image, mask = texture((60, 100, 3)), holes((60, 100), 0.2) if masked else np.zeros((60, 100), dtype=bool)
    outside = np.ones((60, 100), dtype=bool)
    outside[6:-6, 10:-10] = False
    by_border = prepared_with(image, mask if masked else None, working_size=working_size, border=0.1)
    same_bytes(by_border, prepared_with(image, mask | outside, working_size=working_size))
    assert by_border.preparation.original_shape == (60, 100)


def test_no_border_leaves_the_image_whole():
    assert (prepared_with(texture((60, 100)), None, working_size=BIG, border=0.0).valid == 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mask_and_border_together_may_not_leave_nothing(dtype):
    mask = np.zeros((64, 64), dtype=bool)
    mask[10:-10, 10:-10] = True
    with pytest.raises(InvalidImageError, match="mask"):
        prepared_with(texture((64, 64), dtype), mask, working_size=BIG, border=0.25)


def test_values_in_the_border_do_not_count():
    image = texture((64, 64), np.float32)
    strange = image.copy()
    strange[:5] = np.nan
    same_bytes(*(prepared_with(each, None, working_size=BIG, border=0.1) for each in (image, strange)))


def test_mask_and_image_are_shrunk_in_register():
    image, mask = texture((128, 128)), np.zeros((128, 128), dtype=bool)
    mask[32:64, 80:120] = True
    working = prepared_with(image, mask, working_size=64)
    expected = np.ones((64, 64), dtype=bool)
    expected[16:32, 40:60] = False
    np.testing.assert_array_equal(working.valid[0].numpy() > 0, expected)


@few_examples
@given(seeds, st.floats(1e3, 1e8), st.sampled_from([-1, 1]), st.sampled_from([BIG, 40]))
def test_an_offset_far_beyond_the_contrast_is_taken_off_in_double_precision(seed, offset, sign, working_size):
    image = below_black((50, 64, 3), seed)
    plain = prepared_with(image, None, working_size=working_size)
    other = prepared_with(image + sign * offset, None, working_size=working_size, leave_out_frame=True)
    np.testing.assert_allclose(plain.pixels.numpy(), other.pixels.numpy(), atol=2e-3)
    assert float(other.mean.mean() * other.full_range) == pytest.approx(sign * offset, rel=1e-3)


@pytest.mark.parametrize("working_size", [BIG, 40])
def test_an_offset_of_single_precision_is_taken_off_before_it_is_shrunk(working_size):
    image = (texture((50, 64, 3), np.float64) + 1e5).astype(np.float32)
    one, other = (prepared_with(image.astype(dtype), None, working_size=working_size) for dtype in ("f4", "f8"))
    np.testing.assert_allclose(one.pixels.numpy(), other.pixels.numpy(), atol=1e-4)


@few_examples
@given(seeds, st.floats(-50, 0), st.floats(0.01, 100), st.sampled_from([BIG, 40]))
def test_where_zero_is_not_black_an_image_may_have_any_offset_and_contrast(seed, offset, contrast, working_size):
    image = below_black((50, 64, 3), seed)
    plain = prepared_with(image, None, working_size=working_size)
    # Offsets in units of the contrast: beyond that single precision has its say.
    other = prepared_with(contrast * (image + offset), None, working_size=working_size)
    np.testing.assert_allclose(plain.pixels.numpy(), other.pixels.numpy(), atol=2e-3)


@few_examples
@given(seeds, st.floats(0.3, 1.6))
def test_a_brighter_image_is_the_same_image(seed, brighter):
    image = texture((50, 64, 3), np.float32, seed)
    plain, changed = (prepared_with(each, None, working_size=BIG).pixels for each in (image, brighter * image))
    # The floor of the standard deviation is in units of the range.
    np.testing.assert_allclose(plain.numpy(), changed.numpy(), atol=1e-3)


@few_examples
@given(seeds, st.sampled_from([1, 3]), st.booleans())
def test_in_light_that_falls_off_an_image_is_what_it_is_in_even_light(seed, channels, masked):
    surface = texture((128, 144, channels), np.float64, seed)
    down, right = np.linspace(-1, 1, 128)[:, None], np.linspace(-1, 1, 144)
    light = 1 - 0.25 * (down**2 + right**2) + 0.2 * right
    mask = holes((128, 144), 0.2, seed) if masked else None
    even, lit = (
        prepared_with(np.rint(65535 / 1.2 * each).astype(np.uint16), mask, working_size=BIG)
        for each in (surface, light[:, :, None] * surface)
    )
    assert float(lit.falloff.max() / lit.falloff.min()) > 2
    apart = (lit.pixels - even.pixels).square().mean().sqrt()
    assert float(apart) < 0.25 * float(even.pixels.std())


@few_examples
@given(seeds, st.integers(0, 65535), st.permutations(range(3)))
def test_a_channel_of_one_value_shows_no_light_and_the_others_are_what_they_are_beside_any(seed, value, order):
    light = np.linspace(1, 0.6, 144)[:, None]
    image = np.rint(65535 * light * texture((128, 144, 3), np.float64, seed)).astype(np.uint16)
    black, clipped = image.copy(), image.copy()
    black[..., 0], clipped[..., 0] = 0, value
    other, working = (prepared_with(each[..., order], None, working_size=BIG) for each in (black, clipped))
    alone, lit = order.index(0), [place for place, channel in enumerate(order) if channel]
    assert float(working.falloff[lit].max() / working.falloff[lit].min()) > 1.2
    assert bool((working.falloff[alone] == 1).all())
    assert float(working.pixels[alone].abs().max()) < 1e-4
    np.testing.assert_allclose(working.pixels.numpy(), other.pixels.numpy(), atol=1e-4)
    np.testing.assert_allclose(working.contrast.numpy(), other.contrast.numpy(), atol=1e-4)


@pytest.mark.parametrize("value", [-9999.0, 50.0])
def test_blank_ground_that_is_left_out_has_no_part_in_the_range(value):
    image = texture((64, 96), np.float32)
    image[:, :30] = value
    working = prepared_with(image, None, working_size=BIG, leave_out_frame=True)
    assert working.preparation.blank > 0.3
    assert working.full_range == pytest.approx(float(np.ptp(image[:, 33:])))


def test_a_colour_cast_is_removed():
    image = below_black((50, 64, 3))
    cast = image - np.array([0.1, 0.2, 0.15])
    plain, changed = (prepared_with(each, None, working_size=BIG).pixels.numpy() for each in (image, cast))
    # The floor of the standard deviation is in units of the range, which the cast makes wider.
    np.testing.assert_allclose(plain, changed, atol=2e-3)


def test_half_the_contrast_of_an_integer_image_is_nearly_the_same_image():
    image = texture((50, 64), np.uint8) // 2 * 2
    plain, changed = (prepared_with(each, None, working_size=BIG).pixels for each in (image, image // 2))
    assert float((plain - changed).abs().max()) < 0.02


def test_colour_channels_keep_their_relative_contrast():
    image = texture((64, 64, 3), np.uint8)
    image[:, :, 2] = 120 + (image[:, :, 2] // 16)
    stds = prepared_with(image, None, working_size=BIG).pixels.std((-2, -1))
    assert float(stds[2] / stds[0]) == pytest.approx(1 / 16, rel=0.1)


def test_sixteen_bits_are_read_like_eight():
    image = texture((50, 64, 3))
    wide = image.astype(np.uint16) * 257
    one, other = (prepared_with(each, None, working_size=40).pixels for each in (image, wide))
    np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5)


@pytest.mark.parametrize("working_size", [BIG, 40])
def test_grey_images_with_and_without_a_channel_axis_are_the_same(working_size):
    image = texture((50, 64))
    same_bytes(*(prepared_with(each, None, working_size=working_size) for each in (image, image[:, :, None])))


def test_the_memory_layout_of_the_image_does_not_matter():
    image, mask = texture((60, 50, 3), np.float32), holes((60, 50), 0.2)
    plain = prepared_with(image, mask, working_size=BIG)
    same_bytes(plain, prepared_with(np.asfortranarray(image), mask, working_size=BIG))
    same_bytes(plain, prepared_with(image[::-1, ::-1].copy()[::-1, ::-1], mask[::-1].copy()[::-1], working_size=BIG))


def test_the_memory_layout_of_the_mask_does_not_matter():
    image, mask = texture((60, 50, 3), np.float32), holes((60, 50), 0.2)
    same_bytes(*(prepared_with(image, each, working_size=BIG) for each in (mask, np.asfortranarray(mask))))


@pytest.mark.parametrize("working_size", [BIG, 40])
def test_image_and_mask_are_left_alone(working_size):
    image, mask = texture((60, 50, 3), np.float32), holes((60, 50), 0.2)
    image_before, mask_before = image.copy(), mask.copy()
    prepared_with(image, mask, working_size=working_size)
    np.testing.assert_array_equal(image, image_before)
    np.testing.assert_array_equal(mask, mask_before)


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_read_only_floating_point_image_is_accepted_without_a_warning():
    image = texture((60, 50, 1), np.float32)
    image.setflags(write=False)
    once_is_not_enough = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        prepared_with(image, None, working_size=BIG)
    finally:
        torch.set_warn_always(once_is_not_enough)


@pytest.mark.parametrize("working_size", [BIG, 40])
@pytest.mark.parametrize(
    "image",
    [
        np.full((64, 64), 77, np.uint8),
        np.zeros((64, 64), np.uint16),
        np.full((64, 64, 3), (10, 200, 55), np.uint8),
        np.full((64, 64), 0.1, np.float32),
        np.full((64, 64), -1e6 / 3, np.float64),
        np.zeros((64, 64), np.float64),
    ],
)
def test_an_image_without_structure_is_constant(image, working_size):
    working = prepared_with(image, None, working_size=working_size)
    assert working.preparation.constant
    assert (working.contrast == 1).all()
    back = (working.pixels * working.std + working.mean) * working.full_range
    expected = np.broadcast_to(image.reshape(64, 64, -1)[0, 0][:, None, None], back.shape)
    np.testing.assert_allclose(back.numpy(), expected, rtol=1e-4)


def test_an_image_is_constant_when_all_its_structure_is_masked():
    image, mask = np.full((64, 64), 30, np.uint8), np.zeros((64, 64), dtype=bool)
    mask[10:30, 10:50] = True
    image[mask] = texture((20, 40)).ravel()
    assert prepared_with(image, mask, working_size=BIG).preparation.constant
    assert not prepared_with(image, None, working_size=BIG).preparation.constant


def test_one_grey_level_in_one_pixel_is_structure():
    image = np.full((64, 64), 30, np.uint8)
    image[20, 30] += 1
    assert not prepared_with(image, None, working_size=BIG).preparation.constant


def test_faint_noise_is_not_blown_up_to_a_texture():
    rng = np.random.default_rng(0)
    faint = np.rint(128 + 0.3 * rng.standard_normal((64, 64))).astype(np.uint8)
    for weaken in (False, True):
        assert float(prepared_with(faint, None, working_size=BIG, weaken_noise=weaken).pixels.std()) < 0.8


def test_weaker_noise_leaves_the_contrast_as_it_was_and_the_image_nearer_to_what_it_shows():
    clean = sample("wood", "none").pixels
    noise = 25 * np.random.default_rng(0).standard_normal(clean.shape)
    noisy = np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
    as_it_is, weaker = (prepared_with(noisy, None, weaken_noise=weaken) for weaken in (False, True))
    assert weaker.preparation.noise.share > 0.2
    assert as_it_is.preparation.noise == NO_NOISE
    assert float(weaker.pixels.std()) == pytest.approx(float(as_it_is.pixels.std()), rel=1e-3)
    shown = torch.from_numpy(clean).permute(2, 0, 1) / 255
    before, after = ((given_back(working) - shown).square().mean() for working in (as_it_is, weaker))
    assert after < 0.5 * before


def test_an_image_with_little_noise_is_what_it_was_to_the_bit():
    image = sample("leather", "stain").pixels
    as_it_is, weaker = (prepared_with(image, None, weaken_noise=weaken) for weaken in (False, True))
    assert torch.equal(as_it_is.pixels, weaker.pixels)
    assert torch.equal(as_it_is.std, weaker.std)


def between_minus_one_and_one(factor, dtype):
    with np.errstate(over="ignore"):
        return (np.random.default_rng(0).uniform(-1, 1, (64, 64)) * factor).astype(dtype)


@pytest.mark.parametrize(("factor", "dtype"), [(1e29, "f4"), (1e-29, "f4"), (1e29, "f8"), (5e-30, "f8")])
@pytest.mark.parametrize("working_size", [BIG, 40])
def test_very_large_and_very_small_floating_point_values_are_standardised(factor, dtype, working_size):
    working = prepared_with(between_minus_one_and_one(factor, dtype), None, working_size=working_size)
    assert float(working.pixels.std()) == pytest.approx(1, abs=0.05)
    assert not working.preparation.constant


@pytest.mark.parametrize(
    ("factor", "dtype"), [(1e39, "f8"), (1e31, "f4"), (3e38, "f4"), (1e39, "f4"), (1e-31, "f8"), (1e-300, "f8")]
)
def test_floating_point_values_beyond_the_arithmetics_range_are_refused(factor, dtype):
    with pytest.raises(InvalidImageError, match=r"beyond the range of 1e-30 to 1e\+30: scale it|NaN or infinite"):
        prepared_with(between_minus_one_and_one(factor, dtype), None, working_size=BIG)


def mask_of(shape, *, masked):
    return np.full(shape, masked)


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        ([[1, 2], [3, 4]], None, r"list.*np\.asarray"),
        (np.zeros(64, np.uint8), None, r"\(64,\).*\(H, W\)"),
        (np.ma.zeros((64, 64), np.uint8), None, r"masked array.*filled.*getmaskarray"),
        (np.zeros((64, 64), np.uint8).view(np.matrix), None, r"matrix.*np\.asarray"),
        (np.zeros((2, 64, 64, 3), np.uint8), None, r"\(2, 64, 64, 3\).*\(H, W, 3\)"),
        (np.zeros((64, 64, 4), np.uint8), None, r"\(64, 64, 4\).*:3\].*alpha channel as the mask: .*3\] < 128"),
        (np.zeros((64, 64, 2), np.uint16), None, r"\(64, 64, 2\).*:1\].*alpha channel as the mask: .*1\] < 32768"),
        (np.zeros((64, 64, 4), np.float32), None, r"\(64, 64, 4\).*alpha channel as the mask: .*3\] < 0\.5"),
        (np.zeros((64, 64, 0), np.uint8), None, r"\(64, 64, 0\)"),
        (np.zeros((3, 64, 64), np.uint8), None, r"\(3, 64, 64\).*\(H, W, 3\)"),
        (np.zeros((64, 64), np.int32), None, r"int32.*uint8, uint16, float32 or float64"),
        (np.zeros((64, 64), np.bool_), None, r"bool.*uint8, uint16, float32 or float64"),
        (np.zeros((64, 64), np.float16), None, r"float16.*float32"),
        (np.zeros((64, 64), np.complex64), None, r"complex64"),
        (np.zeros((64, 64), object), None, r"object"),
        (np.zeros((31, 64), np.uint8), None, r"64 x 31.*32 x 32"),
        (np.zeros((64, 31, 3), np.uint8), None, r"31 x 64.*32 x 32"),
        (np.zeros((0, 0), np.uint8), None, r"0 x 0.*32 x 32"),
        (np.zeros((64, 50), np.uint8), mask_of((50, 64), masked=False), r"\(50, 64\).*\(64, 50\).*True where"),
        (np.zeros((64, 50), np.uint8), mask_of((64, 50, 1), masked=False), r"\(64, 50, 1\).*\(64, 50\)"),
        (np.zeros((64, 50), np.uint8), np.zeros((64, 50), np.uint8), r"dtype uint8.*bool"),
        (np.zeros((64, 50), np.uint8), np.ma.zeros((64, 50), bool), r"masked array.*filled\(True\)"),
        (np.zeros((64, 50), np.uint8), mask_of((64, 50), masked=False).view(np.matrix), r"matrix.*np\.asarray"),
        (np.zeros((64, 50), np.uint8), mask_of((64, 50), masked=True), r"no pixel of the image is left"),
        (np.full((64, 50), np.nan), None, r"NaN or infinite.*mask"),
        (np.where(np.eye(64) > 0, np.inf, 0.0), None, r"NaN or infinite.*mask"),
    ],
)
def test_what_cannot_be_inspected_is_refused_with_the_value_and_the_remedy(image, mask, message):
    with pytest.raises(InvalidImageError, match=message):
        prepared_with(image, mask, working_size=BIG)


def test_one_nan_that_the_mask_does_not_cover_is_refused():
    image, mask = texture((64, 64), np.float32), np.zeros((64, 64), dtype=bool)
    image[5, 5] = image[9, 9] = np.nan
    mask[5, 5] = True
    with pytest.raises(InvalidImageError, match="NaN"):
        prepared_with(image, mask, working_size=BIG)
    mask[9, 9] = True
    assert bool(prepared_with(image, mask, working_size=BIG).pixels.isfinite().all())


def test_a_mask_that_leaves_nothing_at_the_working_size_is_refused():
    mask = np.ones((512, 512), dtype=bool)
    mask[100, 200] = False
    with pytest.raises(InvalidImageError, match="at the working size"):
        prepared_with(texture((512, 512)), mask, working_size=32)
    mask[100:108, 200:208] = False
    with pytest.raises(InvalidImageError, match=r"only 64 of .* count at the working size of 512 x 512"):
        prepared_with(texture((512, 512)), mask, working_size=BIG)


def test_as_many_pixels_as_a_median_needs_are_enough_and_one_fewer_is_refused():
    image, mask = texture((64, 64)), np.ones((64, 64), dtype=bool)
    mask[20:36, 20:36] = False
    assert prepared_with(image, mask, working_size=BIG).valid.sum() == MIN_COUNTED == 256
    mask[20, 20] = True
    with pytest.raises(InvalidImageError, match="only 255 of the 256 pixels that are needed count"):
        prepared_with(image, mask, working_size=BIG)


def test_a_mask_that_is_no_array_is_refused_like_an_image_that_is_none():
    with pytest.raises(InvalidImageError, match="list"):
        prepared_with(texture((64, 64)), [[False] * 64] * 64, working_size=BIG)


@pytest.mark.parametrize("shape", [(128, 256), (256, 128)])
def test_means_have_finer_steps_by_the_factor_by_which_an_image_was_shrunk(shape):
    working = prepared_with(texture(shape), None, working_size=64)
    assert working.averaged_level == pytest.approx(working.grey_level / 2)
    assert working.grey_level > 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_range_of_integers_is_that_of_the_values_that_count_wherever_it_lies(dtype):
    image, mask = texture((64, 64), dtype) // 2, holes((64, 64), 0.2)
    white = np.iinfo(dtype).max
    ranges = {
        prepared_with(np.where(mask, hidden, image + offset).astype(dtype), mask).preparation.range_over_iqr
        for hidden in (0, white)
        for offset in (0, white // 3)
    }
    assert len(ranges) == 1


def test_integers_have_no_range_over_that_of_a_channel():
    image = np.stack([np.full((64, 64), 250, np.uint8), 1 + np.arange(4096).reshape(64, 64) % 2], axis=2).take(
        (0, 1, 0), 2
    )
    assert prepared_with(image.astype(np.uint8), None).preparation.range_over_channel == 0


@pytest.mark.parametrize("turns", range(4))
def test_a_strip_along_a_single_side_has_no_part_in_what_is_told_of_the_values(turns):
    rng = np.random.default_rng(0)
    image = rng.integers(60, 200, (256, 256), dtype=np.uint8)
    # Nearly black, not of one value: so it is a frame and no blank ground.
    image[:, :32] = rng.random((256, 32)) < 0.1
    working = prepared_with(np.rot90(image, turns), None, leave_out_frame=True, working_size=128)
    assert sorted(strip > 0 for strip in working.preparation.frame) == [False, False, False, True]
    assert working.preparation.clipped[0] < 0.02
