import contextlib
import functools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage

from ssdnet_core import (
    Config,
    DeviceUnavailableError,
    DivergedError,
    InvalidConfigError,
    InvalidImageError,
    derivatives,
    evidence,
    filters,
    fitting,
    localization,
    localize,
    localize_group,
    polynomial_trend,
    sensor_noise,
)
from ssdnet_core.localization import Localization, enlarge_map
from ssdnet_core.synthetic import TEXTURE_KINDS, sample
from tests.ssdnet_core.light_fits import LIGHT, light, textile
from tests.ssdnet_core.one_map import evaluate_map

QUICK = {"network.width": 24, "fit.steps": 30, "fit.crop": 64, "precision": "float32", "device": "cpu"}
GOOD_SEEDS = range(4)
COMPONENTS = ("local_energy", "local_colour", "residual_pattern", "inner_product")


def grey(pixels):
    return np.rint(pixels.mean(axis=2)).astype(np.uint8)


def in_noise(pixels):
    noisy = pixels + 40 * np.random.default_rng(0).standard_normal(pixels.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def hole_mask(shape):
    mask = np.zeros(shape, dtype=bool)
    mask[10:25, 30:50] = True
    return mask


def everything_of(result):
    """Return all of a result as bytes, but for the time it took."""
    return (
        result.working_map.tobytes(),
        result.working_background.tobytes(),
        result.anomaly_map.tobytes(),
        result.background.tobytes(),
        repr((result.score, result.defective, result.regions, result.original_shape, result.warnings)),
    )


def alone(component):
    """Return the changes that leave one score."""
    return {f"score.{name}": float(name == component) for name in COMPONENTS}


def overlaps(region, truth):
    return truth[region.top : region.bottom, region.left : region.right].any()


@pytest.mark.parametrize(("kind", "seed"), [("weave", 1), ("leather", 1)])
def test_a_planted_defect_is_found_in_a_few_steps(kind, seed):
    image = textile(kind, "hole", size=(96, 96), seed=seed)
    result = localize(image.pixels, config=Config().updated(QUICK))
    assert evaluate_map(result.anomaly_map, image.truth).auroc > 0.9
    row, column = np.unravel_index(result.anomaly_map.argmax(), image.truth.shape)
    assert ndimage.binary_dilation(image.truth, iterations=4)[row, column]


@pytest.mark.parametrize("component", ["residual_pattern", "inner_product"])
def test_the_scores_that_need_the_network_find_it_by_themselves(component):
    # Here the prediction has to be right: the energy of the image, which finds most holes, has no say.
    image = textile("weave", "hole", size=(96, 96), seed=1)
    result = localize(image.pixels, config=Config().updated({**QUICK, **alone(component)}))
    assert evaluate_map(result.anomaly_map, image.truth).auroc > 0.85


def test_a_defect_in_a_larger_image_is_found_at_its_own_place():
    image = textile("weave", "hole", size=(192, 224), seed=3)
    result = localize(image.pixels, config=Config().updated({**QUICK, "working_size": 96}))
    assert result.working_map.shape == (96, 112)
    assert result.anomaly_map.shape == (192, 224)
    assert evaluate_map(result.anomaly_map, image.truth).auroc > 0.9
    assert result.defective
    first = result.regions[0]
    assert overlaps(first, image.truth)
    rows, columns = np.nonzero(image.truth)
    assert abs(first.centroid[0] - rows.mean()) < 20
    assert abs(first.centroid[1] - columns.mean()) < 20


def test_verdict_score_and_regions_agree():
    verdicts = set()
    for defect, expected in (("none", 1e-6), ("none", 0.1), ("hole", 1e-3), ("hole", 50.0), ("none", 100.0)):
        result = light(textile("weave", defect, seed=1).pixels, verdict__expected_false_alarms=expected)
        verdicts.add(result.defective)
        assert result.defective == (result.score >= -math.log10(expected))
        assert result.defective == bool(result.regions)
        assert isinstance(result.defective, bool)
    assert verdicts == {True, False}


def test_regions_lie_inside_the_image_and_are_the_places_of_the_highest_scores():
    image = textile("weave", "hole", seed=1)
    result = light(image.pixels, verdict__expected_false_alarms=10.0)
    peaks = [region.peak for region in result.regions]
    assert peaks == sorted(peaks, reverse=True)
    for region in result.regions:
        assert 0 <= region.top < region.bottom <= 64
        assert 0 <= region.left < region.right <= 64
        assert 1 <= region.area <= (region.bottom - region.top) * (region.right - region.left)
    first = result.regions[0]
    inside = result.anomaly_map[first.top : first.bottom, first.left : first.right]
    assert inside.max() == result.anomaly_map.max()


@pytest.mark.parametrize("working_size", [64, 48])
def test_the_pixels_of_each_region_have_its_number(working_size):
    image = textile("weave", "hole", seed=1)
    result = light(image.pixels, verdict__expected_false_alarms=10.0, working_size=working_size)
    assert result.labels.shape == (64, 64)
    assert sorted(set(result.labels.ravel())) == list(range(len(result.regions) + 1))
    for number, region in enumerate(result.regions, start=1):
        rows, columns = np.nonzero(result.labels == number)
        # Boxes are rounded outwards.
        assert region.top <= rows.min() <= rows.max() < region.bottom
        assert region.left <= columns.min() <= columns.max() < region.right
        assert len(rows) == pytest.approx(region.area, rel=0.3)
        if working_size == 64:
            assert len(rows) == region.area


def test_an_image_without_an_alarm_has_no_numbered_pixels():
    result = light(textile().pixels)
    assert not result.defective
    assert not result.labels.any()


def test_regions_below_the_least_area_are_left_out():
    image = textile("weave", "hole", seed=1).pixels
    every = light(image, verdict__expected_false_alarms=100.0).regions
    largest = max(region.area for region in every)
    for least in (largest, largest + 1):
        large = light(image, verdict__expected_false_alarms=100.0, verdict__min_area=least).regions
        assert large == tuple(region for region in every if region.area >= least)


def test_the_verdict_does_not_depend_on_what_sharpens_the_map():
    image = sample("weave", "hole", size=(128, 128), seed=1).pixels
    plain, sharpened = (light(image, score__likeness=weight) for weight in (0.0, 1.0))
    assert sharpened.defective
    assert (plain.score, plain.defective) == (sharpened.score, sharpened.defective)
    truth = sample("weave", "hole", size=(128, 128), seed=1).truth
    contrasts = [each.anomaly_map[truth].mean() / each.anomaly_map[~truth].mean() for each in (plain, sharpened)]
    assert contrasts[1] > 1.3 * contrasts[0]
    assert sharpened.regions


def test_without_a_suspect_the_map_is_not_sharpened():
    image = textile(size=(128, 128), seed=6).pixels
    plain, sharpened = (light(image, score__likeness=weight) for weight in (0.0, 1.0))
    assert everything_of(plain) == everything_of(sharpened)


def test_the_same_image_gives_the_same_bytes_twice():
    image = textile("weave", "hole").pixels
    torch.manual_seed(1)
    once = light(image)
    torch.manual_seed(2)
    np.random.seed(3)
    assert everything_of(light(image)) == everything_of(once)


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def make_anew_what_is_kept():
    """Forget what is kept from call to call: it may not be made otherwise under the caller's."""
    filters.orthonormal_bank.cache_clear()
    filters.gaussian_windows.cache_clear()
    derivatives._derivative_kernels.cache_clear()
    polynomial_trend._terms.cache_clear()
    sensor_noise._waves.cache_clear()


@functools.cache
def all_that_makes_tensors(precision):
    """Return images, masks, settings and all of the results: in tiles, masked, without structure, sharpened."""
    once = {"fit.steps": 1, "reconstruction.shifts": 1}
    cases = [
        (
            textile("weave", "hole", size=(64, 800), seed=1).pixels,
            None,
            {"working_size": 40, "reconstruction.tile": 384, **once},
        ),
        (
            textile("weave", "hole", seed=1).pixels,
            hole_mask((64, 64)),
            {"loss.perceptual_weight": 0.5, "working_size": 48},
        ),
        (np.full((64, 64), 80, np.uint8), None, {}),
        (in_noise(textile("leather", size=(96, 96)).pixels), None, {}),
        # With an alarm, so that the map is sharpened.
        (textile("leather", "hole", size=(96, 96), seed=1).pixels, None, {}),
    ]
    made = []
    for number, (pixels, hidden, changes) in enumerate(cases):
        config = Config().updated({**LIGHT, "precision": precision, **changes})
        found = localize(pixels, hidden, config=config)
        assert found.defective or number < len(cases) - 1
        assert any("noise" in warning for warning in found.warnings) == (number == 3)
        made.append((pixels, hidden, config, everything_of(found)))
    return made


@pytest.mark.parametrize(
    "callers",
    [
        lambda: default_dtype(torch.float64),
        lambda: default_dtype(torch.float16),
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.device("meta"),
    ],
    ids=["float64", "float16", "autocast", "another device"],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_callers_defaults_of_torch_change_no_byte(callers, precision):
    for pixels, hidden, config, plain in all_that_makes_tensors(precision):
        make_anew_what_is_kept()
        with callers():
            assert everything_of(localize(pixels, hidden, config=config)) == plain
        assert everything_of(localize(pixels, hidden, config=config)) == plain


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("masked", [False, True])
def test_a_callers_mode_without_gradients_changes_no_byte(mode, masked):
    image, hidden = textile("weave", "hole", seed=1).pixels, hole_mask((64, 64)) if masked else None
    config = Config().updated({**LIGHT, "loss.perceptual_weight": 0.5})
    plain = everything_of(localize(image, hidden, config=config))
    make_anew_what_is_kept()
    with mode():
        assert everything_of(localize(image, hidden, config=config)) == plain
    assert everything_of(localize(image, hidden, config=config)) == plain


def test_the_chances_of_a_false_alarm_are_those_of_the_working_pixels_that_count(monkeypatch):
    areas = []
    for name in ("significance", "alarm_level"):
        plain = getattr(localization, name)

        def noted(value, *, area, restless, plain=plain):
            areas.append(area)
            return plain(value, area=area, restless=restless)

        monkeypatch.setattr(localization, name, noted)
    mask = np.zeros((128, 160), dtype=bool)
    mask[:64] = True
    light(textile(size=(128, 160)).pixels, mask, working_size=64)
    assert areas == [32 * 80, 32 * 80]


def test_another_seed_gives_another_map():
    image = textile("weave", "hole").pixels
    assert not np.array_equal(light(image).working_map, light(image, seed=1).working_map)


@pytest.mark.parametrize(
    ("dtype", "working_size"),
    [(np.uint8, 256), (np.uint8, 40), (np.uint16, 40), (np.float32, 256), (np.float32, 40), (np.float64, 40)],
)
def test_what_lies_under_the_mask_has_no_influence_to_the_bit(working_size, dtype):
    image, mask = textile("weave", "hole").pixels.astype(dtype), hole_mask((64, 64))
    changed = image.copy()
    if np.issubdtype(dtype, np.integer):
        changed[mask] = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, changed[mask].shape, dtype)
    else:
        changed[mask] = np.random.default_rng(0).choice([np.nan, np.inf, -np.inf, 1e30, 0.0], changed[mask].shape)
    one, other = (light(each, mask, working_size=working_size) for each in (image, changed))
    assert everything_of(one) == everything_of(other)
    assert np.isfinite(one.anomaly_map).all()
    assert np.isfinite(one.background).all()


def test_a_masked_defect_raises_no_alarm_and_no_region_lies_in_the_mask():
    image = textile("weave", "hole", size=(96, 96), seed=1)
    mask = ndimage.binary_dilation(image.truth, iterations=6)
    seen, hidden = (localize(image.pixels, each, config=Config().updated(QUICK)) for each in (None, mask))
    assert seen.score > hidden.score + 2
    assert not hidden.defective
    # Only where false alarms may be many are there regions.
    config = Config().updated({**QUICK, "verdict.expected_false_alarms": 10.0})
    asked = localize(image.pixels, mask, config=config)
    assert asked.regions
    assert not asked.labels[mask].any()


@pytest.mark.parametrize("kind", ["other rows", "checkerboard"])
def test_a_hole_is_found_where_every_other_pixel_is_masked_and_the_image_shrunk(kind):
    rows, columns = np.indices((256, 256))
    mask = (rows if kind == "other rows" else rows + columns) % 2 == 0
    config = Config.preset("preview").updated({"working_size": 128})
    image = textile("leather", "hole", size=(256, 256), seed=1)
    result = localize(image.pixels, mask, config=config)
    assert result.defective
    assert overlaps(result.regions[0], image.truth)


@pytest.mark.parametrize("pixels", [np.full((64, 64), 80, np.uint8), np.full((40, 90, 3), (3, 90, 200), np.uint16)])
@pytest.mark.parametrize("masked", [False, True])
def test_a_constant_image_is_not_defective_and_says_so(pixels, masked):
    mask = np.zeros(pixels.shape[:2], dtype=bool)
    if masked:
        mask[8:30, 20:50] = True
        pixels = pixels.copy()
        pixels[mask] = 7
    result = light(pixels, mask if masked else None)
    assert not result.defective
    assert result.regions == ()
    assert not result.anomaly_map.any()
    assert result.score < 0
    assert len(result.warnings) == 1
    assert "constant" in result.warnings[0]
    np.testing.assert_allclose(result.background[~mask], pixels[~mask], rtol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_a_constant_image_is_not_defective_whatever_the_verdicts_settings(masked):
    mask = np.ones((32, 32), dtype=bool)
    mask[3:23, 3:23] = False
    image = np.full((32, 32), 80, np.uint8)
    result = light(image, mask) if masked else light(image, verdict__expected_false_alarms=100.0)
    assert not result.defective
    assert result.regions == ()


def test_four_pixels_are_no_ground_for_a_verdict():
    image, mask = np.random.default_rng(0).integers(60, 200, (96, 96), dtype=np.uint8), np.ones((96, 96), dtype=bool)
    mask[40:42, 40:42] = False
    with pytest.raises(InvalidImageError, match=r"only 4 of the 256 pixels that are needed count .* mask less"):
        light(image, mask)


def test_a_dark_frame_is_left_out_and_said_so():
    image = textile("brushed_metal", size=(96, 96)).pixels.copy()
    image[:, :5] = np.random.default_rng(0).integers(0, 6, (96, 5, 3))
    left_out, taken_in = (light(image, leave_out_frame=choice) for choice in (True, False))
    assert any("frame" in warning and "left" in warning for warning in left_out.warnings)
    assert taken_in.warnings == ()
    assert left_out.score < taken_in.score
    # Only where false alarms may be many has the surface regions.
    asked = light(image, verdict__expected_false_alarms=10.0)
    assert min(region.left for region in asked.regions) >= 5
    assert any(region.left < 5 for region in light(image, leave_out_frame=False, verdict__min_area=20).regions)


def test_blank_ground_beside_the_surface_is_left_out_and_said_so():
    image = textile("brushed_metal", size=(96, 96)).pixels.copy()
    image[:, :30] = 255
    left_out, taken_in = (light(image, leave_out_frame=choice) for choice in (True, False))
    assert "blank ground beside the surface was left out: 34.4% of the image" in left_out.warnings
    assert not any("blank" in warning for warning in taken_in.warnings)
    assert left_out.score < taken_in.score


def test_a_border_left_out_has_no_influence_and_no_region():
    image = textile("weave", "hole", seed=1).pixels
    changed = image.copy()
    changed[:, :6] = 255
    changed[-6:] = 0
    one, other = (light(each, border=0.1, verdict__expected_false_alarms=10.0) for each in (image, changed))
    assert everything_of(one) == everything_of(other)
    for region in one.regions:
        assert 6 <= region.top < region.bottom <= 58
        assert 6 <= region.left < region.right <= 58


@pytest.mark.parametrize("working_size", [256, 40])
def test_grey_images_with_and_without_a_channel_axis_give_the_same_bytes(working_size):
    image = grey(textile("weave", "hole").pixels)
    one, other = (light(each, working_size=working_size) for each in (image, image[:, :, None]))
    assert everything_of(one) == everything_of(other)


def test_sixteen_bits_give_nearly_the_map_of_eight():
    image = textile("weave", "hole").pixels
    one, other = (light(each) for each in (image, image.astype(np.uint16) * 257))
    np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, rtol=0.02, atol=0.02)
    np.testing.assert_allclose(one.background * 257, other.background, rtol=0.01)
    assert one.defective == other.defective


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floating_point_values_of_any_unit_give_nearly_the_map_of_integers(dtype):
    image = textile("weave", "hole").pixels
    plain = light(image)
    for factor, offset in ((1.0, 0.0), (1 / 255, -0.5), (1e3, 1e4)):
        other = light((image * dtype(factor) + dtype(offset)).astype(dtype))
        difference = np.abs(plain.anomaly_map - other.anomaly_map)
        assert np.median(difference) < 0.05
        assert np.corrcoef(plain.anomaly_map.ravel(), other.anomaly_map.ravel())[0, 1] > 0.98
        # Rounding decides at the kinks of activations: single pixels may be farther off.
        of_background = np.abs((other.background - offset) / factor - plain.background)
        assert np.median(of_background) < 1
        assert np.quantile(of_background, 0.99) < 5


def test_float32_and_float64_are_the_same_image():
    image = textile("weave", "hole").pixels.astype(np.float32)
    one, other = (light(each) for each in (image, image.astype(np.float64)))
    np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, rtol=1e-3, atol=1e-3)


def test_a_grey_image_in_colour_has_nearly_the_map_of_the_grey_one():
    image = textile("weave", "hole", size=(96, 96), seed=1)
    plain = grey(image.pixels)
    one, other = (
        localize(each, config=Config().updated(QUICK)) for each in (plain, np.repeat(plain[:, :, None], 3, axis=2))
    )
    assert np.corrcoef(one.anomaly_map.ravel(), other.anomaly_map.ravel())[0, 1] > 0.8
    assert one.defective == other.defective


@pytest.mark.parametrize(
    ("shape", "colour"),
    [((64, 64), False), ((90, 130), True), ((33, 47), True), ((32, 32), False), ((32, 32), True), ((32, 200), False)],
)
def test_map_and_background_have_the_images_own_size(shape, colour):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3) if colour else shape, dtype=np.uint8)
    result = light(pixels, working_size=64)
    assert result.anomaly_map.shape == shape
    assert result.anomaly_map.dtype == np.float32
    assert result.working_map.dtype == np.float32
    assert result.working_map.min() >= 0
    assert result.background.shape == pixels.shape
    assert result.background.dtype == np.float32
    assert result.original_shape == shape
    assert min(result.working_map.shape) == min(64, *shape)
    assert result.working_background.shape == (*result.working_map.shape, 3 if colour else 1)
    assert result.seconds > 0


def test_a_long_strip_keeps_its_length():
    strip = sample("weave", "none", size=(1024, 64), seed=0).pixels
    result = light(strip)
    assert result.working_map.shape == (1024, 64)
    assert np.isfinite(result.anomaly_map).all()


@pytest.mark.parametrize(("dtype", "factor"), [(np.uint16, 257), (np.float32, 1e-3)])
def test_the_background_is_in_the_images_units_and_close_to_a_good_texture(dtype, factor):
    rows, columns = np.indices((64, 64))
    waves = 128 + 50 * np.sin(2 * np.pi * rows / 8) + 50 * np.cos(2 * np.pi * columns / 8)
    image = np.rint(waves).astype(dtype) * dtype(factor)
    result = localize(image, config=Config().updated({**QUICK, "fit.steps": 80}))
    error = np.abs(result.background - image).mean()
    assert error < 0.4 * np.abs(image - image.mean()).mean()
    assert result.background.mean() == pytest.approx(image.mean(), rel=0.03)


def test_masked_pixels_of_the_background_are_filled_with_texture():
    rows, columns = np.indices((64, 64))
    waves = 128 + 50 * np.sin(2 * np.pi * rows / 8) + 50 * np.cos(2 * np.pi * columns / 8)
    image, mask = np.rint(waves).astype(np.uint8), np.zeros((64, 64), dtype=bool)
    mask[20:30, 24:36] = True
    spoiled = np.where(mask, 0, image).astype(np.uint8)
    result = localize(spoiled, mask, config=Config().updated({**QUICK, "fit.steps": 80}))
    error = np.abs(result.background - image)[mask].mean()
    assert error < 0.6 * np.abs(image.astype(float) - image.mean())[mask].mean()
    assert abs(result.background[mask].mean() - image[mask].mean()) < 15


def test_the_paper_preset_runs_with_the_perceptual_loss(monkeypatch):
    calls = []
    plain = fitting.reconstruction_loss

    def noted(*arguments, **options):
        calls.append(options["config"].perceptual_weight)
        return plain(*arguments, **options)

    monkeypatch.setattr(fitting, "reconstruction_loss", noted)
    image = textile("weave", "hole").pixels
    maps = {}
    for preset in ("default", "paper"):
        result = localize(image, config=Config.preset(preset).updated(LIGHT))
        assert np.isfinite(result.anomaly_map).all()
        maps[preset] = result.anomaly_map
    assert calls == [0.0] * LIGHT["fit.steps"] + [Config.preset("paper").loss.perceptual_weight] * LIGHT["fit.steps"]
    assert not np.array_equal(maps["default"], maps["paper"])


def test_bfloat16_gives_nearly_the_map_of_float32():
    image = textile("weave", "hole", size=(96, 96), seed=1)
    exact, rough = (
        localize(image.pixels, config=Config().updated({**QUICK, "precision": precision}))
        for precision in ("float32", "bfloat16")
    )
    assert rough.anomaly_map.dtype == np.float32
    assert np.corrcoef(exact.anomaly_map.ravel(), rough.anomaly_map.ravel())[0, 1] > 0.9
    assert exact.defective == rough.defective


def test_an_inspection_imports_neither_torchs_compiler_nor_an_algebra_system():
    """Each takes a second of every worker; torch imports them where its optimisers or tensors without values are."""
    code = (
        "import sys, numpy, ssdnet_core as core\n"
        f"core.localize(numpy.eye(64, dtype=numpy.uint8), config=core.Config().updated({LIGHT}))\n"
        "print('torch' in sys.modules, sys.modules.keys() & {'torch._dynamo', 'sympy'})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "True set()\n"


def test_the_settings_may_be_left_out(monkeypatch):
    seen = []
    plain = localization.prepare

    def noted(*arguments, config):
        seen.append(config)
        return plain(*arguments, config=config)

    monkeypatch.setattr(localization, "prepare", noted)
    assert isinstance(localize(np.full((40, 40), 5, np.uint8)), Localization)
    assert seen == [Config()]


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        ("photo.png", None, r"str.*np\.asarray"),
        (np.zeros((64, 64, 4), np.uint8), None, r"\(64, 64, 4\).*alpha"),
        (np.zeros((64, 64), np.int64), None, r"int64.*uint8"),
        (np.zeros((64, 20), np.uint8), None, r"20 x 64.*32 x 32"),
        (np.full((64, 64), np.nan), None, r"NaN.*mask"),
        (np.zeros((64, 64), np.uint8), np.ones((64, 64), bool), r"no pixel of the image is left"),
        (np.zeros((64, 64), np.uint8), np.ones((64, 63), bool), r"\(64, 63\).*\(64, 64\)"),
        (np.zeros((64, 64), np.uint8), np.zeros((64, 64)), r"float64.*bool"),
    ],
)
def test_what_cannot_be_inspected_is_refused_with_the_value_and_the_remedy(image, mask, message):
    with pytest.raises(InvalidImageError, match=message):
        localize(image, mask)


@pytest.mark.parametrize("settings", [{"fit": {"steps": 5}}, {}])
def test_settings_that_are_no_config_are_refused_with_what_makes_one(settings):
    with pytest.raises(InvalidConfigError, match=r"dict.*Config\(\).*parse_config"):
        localize(textile().pixels, config=settings)
    with pytest.raises(InvalidConfigError, match=r"dict.*Config\(\).*parse_config"):
        localize_group([textile().pixels], config=settings)


def test_a_device_that_does_not_exist_is_refused():
    for image in (textile().pixels, np.full((40, 40), 5, np.uint8)):  # Of the second nothing would be fitted.
        with pytest.raises(DeviceUnavailableError, match=r"'cuda:99'"):
            light(image, device="cuda:99")


@pytest.mark.parametrize("component", [None, *COMPONENTS])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_gets_no_verdict_but_what_to_try(monkeypatch, value, component):
    plain = evidence.reconstruct_in_tiles

    def diverged(*arguments, **options):
        prediction = plain(*arguments, **options).clone()
        prediction[-1, 0, 20, 30] = value
        return prediction

    monkeypatch.setattr(evidence, "reconstruct_in_tiles", diverged)
    config = Config().updated({**LIGHT, **(alone(component) if component else {})})
    with pytest.raises(DivergedError, match=r"is (nan|inf), .*diverged.*seed.*precision=float32.*device=cpu"):
        localize(textile("weave", "hole").pixels, config=config)
    with pytest.raises(DivergedError, match=r"is (nan|inf), "):
        localize_group([textile(seed=seed).pixels for seed in range(2)], config=config, size=2)


def test_a_prediction_that_is_no_number_is_told_by_the_background_where_all_scores_see_the_image_alone(monkeypatch):
    monkeypatch.setattr(
        evidence, "reconstruct_in_tiles", lambda networks, pixels, **_: torch.full_like(pixels, math.nan)
    )
    config = Config().updated({**LIGHT, **alone("local_colour"), "score.likeness": 0.0})
    with pytest.raises(DivergedError, match="a value of the background is nan"):
        localize(textile().pixels, config=config)


@pytest.mark.parametrize(("height", "width"), [(40, 40), (61, 97), (200, 80)])
def test_an_enlarged_map_keeps_its_place_range_and_type(height, width):
    working = np.zeros((40, 40), np.float64)
    working[10:20, 24:32] = 5
    enlarged = enlarge_map(working, (height, width))
    assert enlarged.shape == (height, width)
    assert enlarged.dtype == np.float32
    assert enlarged.min() == 0
    assert enlarged.max() == pytest.approx(5)
    row, column = ndimage.center_of_mass(enlarged)
    assert (row + 0.5) / height == pytest.approx(15 / 40, abs=0.01)
    assert (column + 0.5) / width == pytest.approx(28 / 40, abs=0.01)


def test_the_image_is_left_alone_and_may_be_read_only():
    image, mask = textile("weave", "hole").pixels, hole_mask((64, 64))
    before = image.copy()
    image.setflags(write=False)
    mask.setflags(write=False)
    light(image, mask)
    np.testing.assert_array_equal(image, before)


@pytest.mark.slow
@pytest.mark.parametrize("defect", ["hole", "cut"])
@pytest.mark.parametrize("kind", TEXTURE_KINDS)
def test_with_the_default_settings_holes_and_cuts_are_found_in_every_texture(kind, defect):
    image = sample(kind, defect, size=(256, 256), seed=1)
    result = localize(image.pixels, config=Config())
    assert evaluate_map(result.anomaly_map, image.truth).auroc > 0.95
    assert result.defective
    assert overlaps(result.regions[0], image.truth)


@functools.cache
def localize_good(kind, seed):
    """Inspect a good image with the default settings; several tests ask about the same ones."""
    return localize(sample(kind, "none", seed=seed).pixels)


@pytest.mark.slow
def test_good_textures_are_seldom_called_defective():
    # One false alarm in ten images is asked for: of twenty, six or more come in 1 % of cases.
    scores = {(kind, seed): localize_good(kind, seed).score for kind in TEXTURE_KINDS for seed in GOOD_SEEDS}
    assert sum(score >= 1 for score in scores.values()) <= 5, scores


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEXTURE_KINDS)
def test_with_the_default_settings_the_background_is_nearer_to_a_good_texture_than_its_mean(kind):
    assert background_error(kind, localize_good(kind, 0)) < 1


@pytest.mark.slow
def test_a_longer_fit_brings_the_background_closer():
    image = sample("brushed_metal", "none", seed=0).pixels
    longer, shorter = (
        background_error("brushed_metal", localize(image, config=Config().updated({"fit.steps": steps})))
        for steps in (200, 40)
    )
    assert longer < 0.6 * shorter


def background_error(kind, result):
    """Return the background's mean distance from a good image, as a share of the image's from its mean colour."""
    image = sample(kind, "none", seed=0).pixels
    return np.abs(result.background - image).mean() / np.abs(image - image.mean(axis=(0, 1))).mean()


@pytest.mark.slow
def test_the_paper_preset_finds_a_hole():
    image = sample("weave", "hole", seed=0)
    result = localize(image.pixels, config=Config.preset("paper"))
    assert evaluate_map(result.anomaly_map, image.truth).auroc > 0.95
    assert result.defective
    assert overlaps(result.regions[0], image.truth)


@pytest.mark.slow
def test_with_the_default_settings_the_same_bytes_come_twice():
    image = sample("leather", "cut", size=(160, 160), seed=0).pixels
    assert everything_of(localize(image)) == everything_of(localize(image))


def test_a_region_too_small_to_count_makes_no_defect():
    image = sample("weave", "hole", size=(96, 96), seed=1)
    found = light(image.pixels)
    assert found.defective
    largest = max(region.area for region in found.regions)
    stricter = light(image.pixels, verdict__min_area=largest + 1)
    assert not stricter.defective
    assert stricter.score == found.score


def test_a_block_that_would_hide_the_whole_image_is_refused_with_both_sizes():
    with pytest.raises(InvalidConfigError, match=r"block of 64 .* 96 x 48 .* reconstruction\.block <= 24"):
        light(np.random.default_rng(0).integers(0, 255, (48, 96), dtype=np.uint8), reconstruction__block=64)


def test_the_fast_preset_alarms_on_a_hole_after_two_thirds_of_the_steps():
    image, config = textile("leather", "hole", size=(128, 128), seed=1), Config.preset("fast")
    assert 3 * config.fit.steps == 2 * Config().fit.steps
    result = localize(image.pixels, config=config)
    assert result.defective
    assert evaluate_map(result.anomaly_map, image.truth).auroc > 0.95


def test_a_preview_finds_a_hole_without_any_network():
    image = textile("leather", "hole", size=(128, 128), seed=1)
    result = localize(image.pixels, config=Config.preset("preview"))
    assert evaluate_map(result.anomaly_map, image.truth).auroc > 0.9
    # Nothing is known but the mean colour.
    background = result.background.reshape(-1, 3)
    np.testing.assert_allclose(background, background[:1].repeat(len(background), axis=0), rtol=1e-6)
    np.testing.assert_allclose(background[0], image.pixels.reshape(-1, 3).mean(axis=0), atol=0.5)


def test_a_preview_sees_nothing_of_what_the_mask_hides():
    image, mask = textile("weave", "none", size=(96, 128)).pixels, hole_mask((96, 128))
    changed = np.where(mask[:, :, None], 255 - image, image)
    one, other = (localize(each, mask, config=Config.preset("preview")) for each in (image, changed))
    assert everything_of(one) == everything_of(other)


def test_what_is_handed_out_may_be_written_into():
    result = localize(sample("leather", "hole", size=(64, 64), seed=0).pixels, config=Config.preset("preview"))
    kept = result.working_map.copy(), result.working_background.copy()
    for values in (result.anomaly_map, result.background, enlarge_map(result.working_map, (64, 64))):
        values += 1
    assert np.array_equal(result.working_map, kept[0])
    assert np.array_equal(result.working_background, kept[1])
