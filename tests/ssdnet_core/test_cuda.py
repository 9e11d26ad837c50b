"""What holds on a GPU; skipped where there is none."""

import numpy as np
import pytest
import torch

from ssdnet_core import Config, localize, localize_group
from ssdnet_core.fitting import fit
from ssdnet_core.groups import evidence_of_group
from ssdnet_core.localization import judged
from ssdnet_core.preparation import prepare
from ssdnet_core.replay import Replayed
from ssdnet_core.synthetic import sample

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CUDA = Config().updated({"device": "cuda"})


def textile(seed, size=(128, 128), defect="hole"):
    return sample("weave", defect, size=size, seed=seed).pixels


def alike(one, other):
    return np.corrcoef(one.working_map.ravel(), other.working_map.ravel())[0, 1]


def test_what_is_recorded_is_computed_anew_from_other_arguments():
    total = torch.zeros(4, device="cuda")
    replayed = Replayed(lambda one, other: total.copy_(one @ other))
    for seed in range(3):
        one, other = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(seed)).cuda()
        replayed(one, other[:, 0].clone())
        torch.testing.assert_close(total, one @ other[:, 0])


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_what_is_recorded_on_another_than_the_current_device_is_computed_anew_as_well():
    total = torch.zeros(4, device="cuda:1")
    replayed = Replayed(lambda values: total.copy_(2 * values))
    for number in range(3):
        values = torch.full((4,), float(number), device="cuda:1")
        replayed(values)
        assert torch.equal(total, 2 * values)


@pytest.mark.parametrize("preset", ["default", "paper", "preview"])
def test_a_gpu_finds_what_a_processor_finds(preset):
    image = textile(0)
    config = Config.preset(preset).updated({"precision": "float32"})
    on_gpu, on_processor = (localize(image, config=config.updated({"device": name})) for name in ("cuda", "cpu"))
    assert alike(on_gpu, on_processor) > 0.97
    assert on_gpu.defective
    assert on_processor.defective


def test_an_image_gets_in_a_group_what_it_gets_alone():
    images = [textile(seed) for seed in range(5)]
    mask = np.zeros((128, 128), dtype=bool)
    mask[:40, :30] = True
    masks = [None, mask, None, mask, None]
    together = localize_group(images, masks, config=CUDA)
    for image, hidden, of_group in zip(images, masks, together, strict=True):
        assert alike(of_group, localize(image, hidden, config=CUDA)) > 0.97


def test_the_same_group_gives_the_same_maps_again():
    images = [textile(seed) for seed in range(3)]
    first, second = (localize_group(images, config=CUDA) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one.working_map, other.working_map, rtol=1e-3, atol=1e-3)


def test_a_recorded_step_follows_the_gradient_of_an_eager_one(monkeypatch):
    pixels, valid = torch.randn(2, 3, 64, 64, device="cuda"), torch.ones(2, 1, 64, 64, device="cuda")
    config = CUDA.updated({"fit.steps": 3, "fit.crop": 64})

    def weights():
        networks = fit(pixels, valid, config=config, dtype=torch.float32)
        return torch.cat([values.detach().flatten() for values in networks.parameters()])

    recorded = weights()
    monkeypatch.setattr("ssdnet_core.fitting.Replayed", lambda work: work)
    torch.testing.assert_close(recorded, weights(), rtol=1e-2, atol=1e-4)


def test_a_group_that_is_too_large_for_the_memory_is_halved():
    images = [prepare(textile(seed, (256, 256)), None, config=CUDA) for seed in range(2)] * 32
    free, _ = torch.cuda.mem_get_info()
    torch.cuda.empty_cache()
    hoard = torch.empty(free - 3 * 2**30, dtype=torch.uint8, device="cuda")
    try:
        # As if the estimate had been far too low.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ssdnet_core.groups.bytes_per_image", lambda shape, config: 1)
            results = evidence_of_group(images, CUDA, size=64)
    finally:
        del hoard
        torch.cuda.empty_cache()
    assert len(results) == 64
    assert all(judged(result, CUDA).defective for result in results)
