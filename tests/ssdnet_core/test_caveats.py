"""What is warned of, and what is not: by whole inspections, since it depends on how an image was prepared."""

import numpy as np
import pytest

from ssdnet_core import Config, localize
from ssdnet_core.local_colour import local_colour
from ssdnet_core.local_energy import local_energy
from ssdnet_core.preparation import prepare
from ssdnet_core.synthetic import sample
from tests.ssdnet_core.light_fits import light, textile


def test_an_image_with_structure_has_no_warning():
    assert light(textile().pixels).warnings == ()


@pytest.mark.parametrize(
    ("channels", "sigma", "warned"),
    [(3, 8, "white noise is 13%"), (1, 8, None), (1, 16, "white noise, or grain"), (3, 16, "white noise is")],
)
def test_a_sensors_noise_is_warned_of_and_what_may_be_grain_only_where_it_is_much(channels, sigma, warned):
    pixels = sample("weave", "none").pixels
    noise = sigma * np.random.default_rng(0).standard_normal((*pixels.shape[:2], channels))
    warnings = light(np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)).warnings
    assert [warning.startswith(warned or "") for warning in warnings] == ([True] if warned else [])


@pytest.mark.parametrize("side", [1, 14])
@pytest.mark.parametrize(
    ("dtype", "value", "warned"),
    [
        (np.float32, 3e4, True),
        (np.float32, -3e4, True),
        (np.float32, 300.0, False),
        (np.uint16, 65535, True),
        (np.uint8, 255, False),
    ],
)
def test_a_few_values_far_from_all_others_are_warned_of_unless_they_are_masked(dtype, value, warned, side):
    image = textile().pixels.astype(dtype)
    mask = np.zeros(image.shape[:2], dtype=bool)
    mask[20 : 20 + side, 30 : 30 + side] = True
    image[mask] = value
    assert any("far off" in warning for warning in light(image).warnings) == warned
    assert light(image, mask).warnings == ()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("offsets", "warned"), [((0, 0, 0), False), ((0, 20, 100), False), ((0, 100, 1000), True), ((0, -100, 1e5), True)]
)
def test_channels_that_lie_far_apart_are_warned_of_and_not_called_constant(dtype, offsets, warned):
    image = textile().pixels / 255
    warnings = light((image + offsets).astype(dtype)).warnings
    assert ["lie far apart" in warning for warning in warnings] == ([True] if warned else [])
    # What the warning asks for.
    apart = (image + offsets).astype(dtype)
    assert light(apart - apart.min((0, 1))).warnings == ()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_constant_channels_are_constant_however_far_apart_they_lie(dtype):
    [warning] = light(np.full((64, 64, 3), (3, 90, 60_000), dtype)).warnings
    assert "constant" in warning


def test_channels_of_integers_may_lie_anywhere_in_their_range():
    image = textile().pixels.astype(np.uint16) // 2 + np.array([0, 0, 60_000], dtype=np.uint16)
    assert light(image).warnings == ()


def left(kind, side):
    """Return which pixels of side x side a mask leaves."""
    rows, columns = np.indices((side, side))
    return {
        "one row in four": rows % 4 == 0,
        "a sparse grid": (rows % 3 == 0) & (columns % 4 == 0),
        "every other row": rows % 2 == 0,
        "half at random": np.random.default_rng(0).random((side, side)) < 0.5,
        "bands": rows % 32 < 8,
    }[kind]


@pytest.mark.parametrize(
    ("kind", "warned"),
    [
        ("one row in four", True),
        ("a sparse grid", True),
        ("every other row", True),
        ("half at random", False),
        ("bands", False),
    ],
)
def test_a_mask_behind_which_two_scores_see_nothing_is_warned_of(kind, warned):
    image, counted = textile("weave", "hole", size=(96, 96)).pixels, left(kind, 96)
    warnings = localize(image, ~counted, config=Config.preset("preview")).warnings
    assert ["too scattered" in warning for warning in warnings] == ([True] if warned else [])
    working = prepare(image, ~counted, config=Config.preset("preview"))
    energy, colour = (score(working.pixels, working.valid) for score in (local_energy, local_colour))
    assert bool(energy.any()) is bool(colour.any()) is not warned


def test_every_other_row_of_a_larger_image_hides_nothing_from_the_scores():
    image = textile("weave", "hole", size=(128, 128)).pixels
    assert light(image, ~left("every other row", 128), working_size=64).warnings == ()


def test_two_textures_in_one_image_are_warned_of():
    one, other = (sample(kind, "none", size=(192, 192)).pixels for kind in ("brushed_metal", "weave"))
    both = np.concatenate([one[:, :96], other[:, 96:]], axis=1)
    assert any("not one texture" in warning for warning in light(both).warnings)
    assert light(one).warnings == ()
