"""What the verdict is given: which map, which image and which residual each of its figures is taken of."""

import numpy as np
import pytest
import torch

from ssdnet_core import Config, evidence
from ssdnet_core.evidence import gather_evidence
from ssdnet_core.fitting import fit
from ssdnet_core.homogeneity import unlikeness_of_parts
from ssdnet_core.preparation import prepare
from ssdnet_core.reconstruction import BlindNetwork
from ssdnet_core.restlessness import restlessness
from ssdnet_core.scoring import evenly_lit_residual, fill_missing
from ssdnet_core.synthetic import sample

PREVIEW = Config.preset("preview")
LIGHT = Config().updated({"network.width": 8, "fit.steps": 4, "fit.crop": 64, "precision": "float32", "device": "cpu"})


def found_in(working, config):
    return gather_evidence([working], config)[0].findings


@pytest.mark.parametrize("config", [LIGHT, PREVIEW], ids=["fitted", "preview"])
def test_the_defects_looks_are_taken_of_the_image_and_if_there_is_a_fit_of_its_residual(monkeypatch, config):
    seen = []
    plain = evidence.likeness_to_defect

    def noted(sources, *arguments, **options):
        sources = list(sources)
        seen.append([source[0] for source in sources])
        return plain(sources, *arguments, **options)

    monkeypatch.setattr(evidence, "likeness_to_defect", noted)
    working = prepare(sample("weave", "hole", size=(64, 64), seed=1).pixels, None, config=config)
    found = found_in(working, config)
    [[image, *residuals]] = seen
    assert torch.equal(image, working.pixels)
    background = found.background.permute(2, 0, 1) / working.full_range
    prediction = (background / working.falloff - working.mean) / working.std
    if config.fit.steps == 0:
        assert residuals == []
        assert float(prediction.abs().max()) < 1e-4
    else:
        [residual] = residuals
        expected = evenly_lit_residual(image, prediction, valid=working.valid, contrast=working.contrast)
        torch.testing.assert_close(residual, expected, rtol=1e-3, atol=1e-3)
        assert float((residual - (prediction - image)).abs().max()) > 0.01


def test_backgrounds_of_images_with_and_without_a_channel_of_one_value_are_in_their_own_units():
    image = sample("weave", "hole", size=(64, 64), seed=1).pixels
    clipped = image.copy()
    clipped[..., 2] = 255
    group = [prepare(each, None, config=LIGHT) for each in (image, clipped)]
    given_back = evidence.in_original_units(torch.stack([working.pixels for working in group]), group)
    torch.testing.assert_close(given_back, torch.from_numpy(np.stack([image, clipped])).float(), rtol=0, atol=0.1)


def test_the_step_of_an_images_own_values_and_what_is_left_of_it_in_means_reach_its_score(monkeypatch):
    seen = []
    plain = evidence.anomaly_map

    def noted(predicted, **options):
        seen.append((float(predicted.images.grey_level), float(predicted.images.averaged_level)))
        return plain(predicted, **options)

    monkeypatch.setattr(evidence, "anomaly_map", noted)
    shrunk = LIGHT.updated({"working_size": 64})
    working = prepare(sample("weave", "hole", size=(256, 300), seed=1).pixels, None, config=shrunk)
    found_in(working, shrunk)
    # A mean over four by four pixels is rounded to a quarter of the step.
    assert seen == [pytest.approx((working.grey_level, working.grey_level / 4))]
    assert working.grey_level > 0


def test_how_restless_the_surface_is_is_read_before_the_map_is_sharpened():
    working = prepare(sample("wood", "hole", size=(96, 96), seed=9).pixels, None, config=PREVIEW)
    plain, sharpened = (found_in(working, PREVIEW.updated({"score.likeness": weight})) for weight in (0.0, 1.0))
    assert float(plain.restless) == float(restlessness(plain.levels, working.valid)) > 1.1
    # Of the sharpened one, whose surface lies lower, another would be read.
    assert float(restlessness(sharpened.levels, working.valid)) < 1.1
    assert float(sharpened.restless) == float(plain.restless)
    assert torch.equal(sharpened.first_levels, plain.levels)
    assert torch.equal(plain.first_levels, plain.levels)
    assert float(sharpened.levels.max()) != float(plain.levels.max())


def test_the_parts_are_compared_with_their_holes_filled():
    image = sample("brushed_metal", "none", size=(160, 160), seed=1).pixels
    mask = np.random.default_rng(1).uniform(size=image.shape[:2]) < 0.3
    mask[:, 80:] = False
    working = prepare(image, mask, config=PREVIEW)
    filled = fill_missing(working.pixels, torch.zeros_like(working.pixels), valid=working.valid)
    found = float(found_in(working, PREVIEW).unlikeness)
    assert found == pytest.approx(float(unlikeness_of_parts(filled, working.valid)), rel=1e-5)
    assert found < 0.9 * float(unlikeness_of_parts(working.pixels, working.valid))


@pytest.mark.parametrize("asked", [True, False])
def test_predictions_are_corrected_for_borders_if_that_is_asked(asked):
    config = LIGHT.updated({"reconstruction.border_cost": asked})
    working = prepare(sample("tile", "none", size=(128, 128)).pixels, None, config=config)
    network = fit(working.pixels[None], working.valid[None], config=config, dtype=torch.float32)
    prediction, corrected = evidence.blindly_predicted(
        BlindNetwork.of(network, config.network),
        working.pixels[None],
        valid=working.valid[None],
        config=config.reconstruction,
    )
    assert torch.equal(prediction, corrected) != asked
