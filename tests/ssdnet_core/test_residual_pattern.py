import pytest
import torch

from ssdnet_core import bands
from ssdnet_core import residual_pattern as module
from ssdnet_core.bulk import BULK_SAMPLE, fit_bulk
from ssdnet_core.medians import sampled, values_that_count
from ssdnet_core.residual_pattern import residual_pattern
from tests.ssdnet_core.made_surfaces import all_but_holes, blind, everything, texture


def test_what_is_predicted_too_well_stands_out_as_well():
    image, prediction = texture(128, 128), blind(texture(128, 128))
    prediction[:, 50:74, 60:84] = image[:, 50:74, 60:84] + 0.05 * prediction[:, 50:74, 60:84]
    scores = residual_pattern(prediction - image, everything(image))[0]
    assert float(scores[54:70, 64:80].median()) > max(10 * float(scores.median()), float(scores.quantile(0.98)))


def test_what_is_less_than_a_grey_level_does_not_stand_out():
    # As a JPEG of low contrast: blocks of a faint hue among others that have none at all.
    rng = torch.Generator().manual_seed(0)
    residual = torch.randn(1, 128, 128, generator=rng).repeat(3, 1, 1)
    residual[2, 48:64, 64:80] += 0.15
    free, bound = (residual_pattern(residual, everything(residual), grey_level=level)[0] for level in (0.0, 0.1))
    place = (slice(50, 62), slice(66, 78))
    assert float(free[place].median()) > float(free.quantile(0.98))
    assert float(bound[place].median()) < 0.5 * float(bound.quantile(0.98))
    # What is far more than one is seen as before.
    residual[2, 48:64, 64:80] += 3
    assert float(residual_pattern(residual, everything(residual), grey_level=0.1)[0][place].median()) > 10


def test_a_ring_along_the_border_that_is_predicted_worse_does_not_stand_out():
    residual = torch.randn(1, 128, 128, generator=torch.Generator().manual_seed(0))
    worse = 1.3 * residual
    worse[:, 8:-8, 8:-8] = residual[:, 8:-8, 8:-8]
    scores = residual_pattern(worse, everything(worse))[0]
    assert float(scores[:3].median()) < float(scores[16:-16, 16:-16].quantile(0.9))


@pytest.mark.parametrize("masked", [False, True])
def test_the_bulk_of_a_large_image_is_drawn_at_the_same_places_however_many_bands_it_has(monkeypatch, masked):
    numbered = torch.arange(256.0 * 192).view(1, 256, 192)
    valid = all_but_holes(numbered, seed=0) if masked else everything(numbered)
    seen = []

    def noted(points, **options):
        seen.append(points[0])
        return fit_bulk(points, **options)

    monkeypatch.setattr(module, "fit_bulk", noted)
    for band_pixels in (bands.BAND_PIXELS, 4096, 192):
        monkeypatch.setattr(bands, "BAND_PIXELS", band_pixels)
        seen.clear()
        residual_pattern(numbered, valid)
        assert torch.equal(seen[0], sampled(values_that_count(numbered, valid)[0], BULK_SAMPLE))
    # Of two halves not at the same places.
    upper, lower = (set((seen[0][seen[0] // (128 * 192) == half] % (128 * 192)).tolist()) for half in (0, 1))
    assert len(upper & lower) < 0.25 * min(len(upper), len(lower))
