import contextlib
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssdnet_core import Config, fitting, optimisation
from ssdnet_core.config import CorruptionConfig
from ssdnet_core.fitting import block_sizes, crop_size, fit, random_crops
from ssdnet_core.folding import places_of, unfolded
from ssdnet_core.network import stride
from ssdnet_core.optimisation import FlatAdamW
from ssdnet_core.reconstruction import BlindNetwork
from tests.ssdnet_core.prepared_with import prepared_with

LIGHT = Config().updated({"network.width": 8, "fit.crop": 32, "fit.steps": 4, "precision": "float32"})
ABLE = LIGHT.updated({"network.width": 24, "fit.steps": 100})

sides = st.integers(32, 300)


def stripes(height=64, width=64):
    """A smooth periodic texture of period 8 in both directions."""
    rows, columns = np.indices((height, width))
    return np.rint(128 + 50 * np.sin(2 * np.pi * rows / 8) + 50 * np.cos(2 * np.pi * columns / 8)).astype(np.uint8)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def working(image, mask=None):
    return prepared_with(image, mask, working_size=8192)


def weights_of(network):
    return b"".join(parameter.detach().float().numpy().tobytes() for parameter in network.parameters())


def fitted(image, config=LIGHT, dtype=torch.float32):
    return fit(image.pixels[None], image.valid[None], config=config, dtype=dtype)


def blind_error(network, image, config=LIGHT):
    """Return the mean absolute error of pixels predicted unseen, in standard deviations of the image."""
    blind = BlindNetwork.of(network, config.network)
    prediction = blind.reconstruct(image.pixels[None], valid=image.valid[None], config=config.reconstruction)
    return float((prediction[0] - image.pixels).abs().mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_seed_gives_the_same_weights_to_the_bit(dtype):
    once, again = (weights_of(fitted(working(stripes()), dtype=dtype)) for _ in range(2))
    assert once == again


def test_another_seed_gives_other_weights():
    image = working(stripes())
    assert weights_of(fitted(image)) != weights_of(fitted(image, LIGHT.updated({"seed": 1})))


def test_the_seed_decides_the_first_weights_and_what_is_shown_to_them(monkeypatch):
    image = working(noise(64, 64))
    plain, starts = fitting.ReconstructionNetwork.forward, []

    def noted(self, corrupted):
        starts.append((weights_of(self), corrupted[:, :16].numpy().tobytes(), corrupted[:, 16:].numpy().tobytes()))
        return plain(self, corrupted)

    monkeypatch.setattr(fitting.ReconstructionNetwork, "forward", noted)
    for seed in (0, 0, 1):
        fitted(image, LIGHT.updated({"seed": seed, "fit.steps": 1}))
    once, again, other = starts
    assert once == again
    assert all(one != another for one, another in zip(once, other, strict=True))


def test_the_caller_and_the_fit_do_not_share_torchs_random_state():
    image = working(stripes())
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        expected = torch.rand(5)
        torch.manual_seed(seed)
        results.append(weights_of(fitted(image)))
        assert torch.equal(torch.rand(5), expected)
    assert results[0] == results[1]


def test_fits_in_two_threads_give_what_each_gives_alone(monkeypatch):
    image = working(stripes())
    alone = [weights_of(fitted(image, LIGHT.updated({"seed": seed, "fit.steps": 1}))) for seed in (1, 2)]
    both_are_there = threading.Barrier(2)
    plain = fitting.ReconstructionNetwork

    def meet():
        # Where one waits for the other to be done the meeting is called off.
        with contextlib.suppress(threading.BrokenBarrierError):
            both_are_there.wait(timeout=0.5)

    def draw_at_the_same_time(*arguments, **options):
        meet()
        network = plain(*arguments, **options)
        meet()
        return network

    monkeypatch.setattr(fitting, "ReconstructionNetwork", draw_at_the_same_time)
    together = [b"", b""]

    def one(index, seed):
        together[index] = weights_of(fitted(image, LIGHT.updated({"seed": seed, "fit.steps": 1})))

    threads = [threading.Thread(target=one, args=(index, seed)) for index, seed in enumerate((1, 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("perceptual_weight", [0.0, 0.5])
def test_a_caller_that_computes_without_gradients_gets_the_same_network(mode, perceptual_weight):
    config = LIGHT.updated({"loss.perceptual_weight": perceptual_weight})
    expected = weights_of(fitted(working(stripes()), config))
    with mode():
        assert weights_of(fitted(working(stripes()), config)) == expected
        assert not torch.is_grad_enabled()


def test_a_periodic_texture_is_learned_until_it_can_be_predicted_unseen():
    image = working(stripes())
    begun, learned = (
        blind_error(fitted(image, config), image, config) for config in (ABLE.updated({"fit.steps": 1}), ABLE)
    )
    nothing = float(image.pixels.abs().mean())
    assert begun > 0.7 * nothing
    assert learned < 0.4 * nothing


def test_noise_cannot_be_predicted_unseen():
    # Would the error fall here, the prediction would have seen what it predicts.
    image, config = working(noise(64, 64)), ABLE
    nothing = float(image.pixels.abs().mean())
    assert blind_error(fitted(image, config), image, config) > 0.95 * nothing


@pytest.mark.parametrize("changes", [{"loss.perceptual_weight": 0.5}, {"fit.batch": 1}, {"network.unshuffle": 2}])
def test_other_settings_learn_as_well(changes):
    image, config = working(stripes()), ABLE.updated(changes)
    nothing = float(image.pixels.abs().mean())
    assert blind_error(fitted(image, config), image, config) < 0.5 * nothing


def test_the_loss_of_the_crops_goes_down(monkeypatch):
    losses, plain = [], fitting.reconstruction_loss

    def noted(*arguments, **options):
        loss = plain(*arguments, **options)
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(fitting, "reconstruction_loss", noted)
    fitted(working(stripes()), ABLE)
    assert len(losses) == ABLE.fit.steps
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])


def test_the_network_gets_corrupted_crops_and_the_loss_clean_ones(monkeypatch):
    image = working(noise(48, 48))
    seen = []
    plain_network, plain_loss = fitting.ReconstructionNetwork.forward, fitting.reconstruction_loss

    def network(self, corrupted):
        seen.append({"input": corrupted.detach().clone()})
        return plain_network(self, corrupted)

    def loss(prediction, target, **options):
        seen[-1].update(options, target=target)
        return plain_loss(prediction, target, **options)

    monkeypatch.setattr(fitting.ReconstructionNetwork, "forward", network)
    monkeypatch.setattr(fitting, "reconstruction_loss", loss)
    config = LIGHT.updated({"corruption.noise": 0.0, "corruption.shuffle_ratio": 0.0, "fit.batch": 3})
    fitted(image, config)
    assert len(seen) == config.fit.steps
    blocks, shares = set(), []
    for step in seen:
        shown = places_of(step["input"], like=torch.empty(*step["target"].shape[:4], 2, 16))
        assert torch.equal(shown[..., 1:, :], step["hidden"])
        assert torch.equal(shown[..., :1, :], step["target"] * (1 - step["hidden"]))
        mask = unfolded(step["hidden"])[:, 0]
        shares.append(float(mask.mean()))
        edges = (
            torch.nonzero(mask.diff(dim=axis).abs().sum(other)) for axis, other in ((-1, (0, 1, 2)), (-2, (0, 1, 3)))
        )
        # The grid begins at any place: only how far its edges lie apart tells how large the blocks are.
        if len(apart := np.concatenate([np.diff(places.flatten().numpy()) for places in edges])):
            blocks.add(int(np.gcd.reduce(apart)))
        values = set(image.pixels.flatten().tolist())
        assert set(step["target"].flatten().tolist()) <= values
    assert blocks == {8, 16}
    assert np.mean(shares) == pytest.approx(config.corruption.mask_ratio, abs=0.05)


@pytest.mark.parametrize(
    ("shape", "unshuffle"),
    [((32, 32), 4), ((33, 47), 4), ((32, 200), 4), ((200, 35), 2), ((37, 41), 1), ((63, 64), 4)],
)
def test_small_images_and_odd_sizes_are_fitted(shape, unshuffle):
    config = LIGHT.updated({"network.unshuffle": unshuffle, "fit.crop": 128})
    network = fitted(working(noise(*shape)), config)
    assert all(bool(parameter.isfinite().all()) for parameter in network.parameters())


@pytest.mark.parametrize(
    ("steps", "warmup"), [*((steps, 0.3) for steps in (1, 2, 3, 5, 8, 10, 11)), (9, 0.1), (19, 0.05), (1, 0.5)]
)
def test_as_many_steps_are_taken_as_are_set_even_if_the_learning_rate_rises_in_one(monkeypatch, steps, warmup):
    taken = []
    step = FlatAdamW.step
    monkeypatch.setattr(FlatAdamW, "step", lambda self: (taken.append(1), step(self)))
    fitted(working(stripes(32, 32)), LIGHT.updated({"fit.steps": steps, "fit.warmup": warmup}))
    assert len(taken) == steps


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing(monkeypatch):
    rates, plain = [], optimisation.adamw

    def noted(*tensors, lr, **options):
        rates.append(lr)
        return plain(*tensors, lr=lr, **options)

    monkeypatch.setattr(optimisation, "adamw", noted)
    config = LIGHT.updated({"fit.steps": 40, "fit.warmup": 0.25, "fit.learning_rate": 3e-3})
    fitted(working(stripes(32, 32)), config)
    assert len(rates) == 40
    assert max(rates) == pytest.approx(3e-3, rel=0.01)
    peak = int(np.argmax(rates))
    assert 8 <= peak <= 11
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 3e-5


def test_invalid_pixels_teach_nothing():
    # Half of the image does not count: what the network is asked to predict there can be anything.
    image, mask = stripes(), np.zeros((64, 64), dtype=bool)
    mask[:, 32:] = True
    changed = image.copy()
    changed[mask] = noise(64, 32).ravel()
    assert weights_of(fitted(working(image, mask))) == weights_of(fitted(working(changed, mask)))
    assert weights_of(fitted(working(image))) != weights_of(fitted(working(changed)))


@given(sides, sides, st.sampled_from([16, 64, 128, 1024]), st.sampled_from([1, 2, 4]))
def test_the_crop_is_the_largest_multiple_of_the_stride_that_fits(height, width, crop, unshuffle):
    config = Config().updated({"fit.crop": crop, "network.unshuffle": unshuffle})
    multiple = stride(config.network)
    for found, side in zip(crop_size((height, width), config), (height, width), strict=True):
        limit = min(crop, side)
        assert found % multiple == 0
        assert 0 < found <= limit < found + multiple


@given(st.integers(4, 128), st.integers(4, 128), st.lists(st.integers(1, 75), min_size=1))
def test_masked_blocks_leave_a_context_and_are_whole_places(height, width, sizes):
    height, width, sizes = 4 * height, 4 * width, tuple(4 * size for size in sizes)
    found = block_sizes((height, width), CorruptionConfig(block_sizes=sizes))
    assert found
    assert all(4 <= block <= max(4, min(height, width) // 2) for block in found)
    assert all(block % 4 == 0 for block in found)
    fitting_ = tuple(block for block in sizes if block <= min(height, width) // 2)
    assert found == fitting_ or not fitting_


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
def test_crops_lie_inside_the_image_and_image_and_mask_are_cut_alike(height, width, rows, columns, seed):
    rows, columns = max(rows, height), max(columns, width)
    numbered = torch.arange(2.0 * rows * columns).view(1, 2, rows, columns)
    crops, valid = random_crops(
        numbered,
        numbered[:, :1] + 0.5,
        crop=(height, width),
        count=3,
        generator=torch.Generator().manual_seed(seed),
    )
    assert crops.shape == (3, 1, 2, height, width)
    assert torch.equal(valid, crops[:, :, :1] + 0.5)
    for (crop,) in crops:
        top, left = divmod(int(crop[0, 0, 0]), columns)
        assert torch.equal(crop, numbered[0, :, top : top + height, left : left + width])


def test_crops_are_taken_from_everywhere_the_last_row_and_column_included():
    numbered = torch.arange(7.0 * 8).view(7, 8)
    generator = torch.Generator().manual_seed(0)
    (crops,) = random_crops(numbered, crop=(4, 4), count=2000, generator=generator)
    tops, lefts = np.divmod(crops[:, 0, 0].int().numpy(), 8)
    counts = np.histogram2d(tops, lefts, bins=(range(5), range(6)))[0]
    assert counts.shape == (4, 5)
    assert 60 < counts.min() <= counts.max() < 140


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_network_computes_with_the_arithmetic_asked(dtype):
    assert {parameter.dtype for parameter in fitted(working(stripes()), dtype=dtype).parameters()} == {dtype}
