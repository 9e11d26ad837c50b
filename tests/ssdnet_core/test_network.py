import pytest
import torch
from torch import nn

from ssdnet_core.config import Config, NetworkConfig
from ssdnet_core.network import ReconstructionNetwork, stride
from tests.ssdnet_core.drawn_values import drawn
from tests.ssdnet_core.whole_images import NetworkOfWholeImages

UNSHUFFLES = (1, 2, 4)


def fresh(channels=1, *, unshuffle=4, width=8, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return NetworkOfWholeImages(channels, NetworkConfig(width=width, unshuffle=unshuffle))


def without_normalisation(network):
    """Replace what mixes the whole image into every pixel, to see how far the convolutions reach."""
    for name, module in network.named_modules():
        for child, layer in module.named_children():
            if isinstance(layer, nn.GroupNorm):
                setattr(network.get_submodule(name), child, nn.Identity())
    return network


@pytest.mark.parametrize("unshuffle", UNSHUFFLES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("times", [(1, 1), (2, 3), (1, 5)])
def test_the_reconstruction_has_the_images_channels_and_size(unshuffle, channels, times):
    multiple = stride(NetworkConfig(unshuffle=unshuffle))
    height, width = (multiple * n for n in times)
    network = fresh(channels, unshuffle=unshuffle)
    assert network(drawn(2, channels + 1, height, width)).shape == (2, channels, height, width)


@pytest.mark.parametrize("unshuffle", UNSHUFFLES)
def test_the_stride_is_the_least_that_the_sides_must_be_a_multiple_of(unshuffle):
    multiple = stride(NetworkConfig(unshuffle=unshuffle))
    network = fresh(unshuffle=unshuffle)
    refused = []
    for side in range(multiple + 1, 2 * multiple):
        try:
            fits = network(drawn(1, 2, side, 2 * multiple)).shape[-2] == side
        except RuntimeError:
            fits = False
        refused.append(not fits)
    assert all(refused)


def reach(unshuffle):
    """Return how many pixels the convolutions see in the direction in which they see least."""
    network = without_normalisation(fresh(unshuffle=unshuffle).double())
    reached = []
    # The grid of the coarsest level lies differently about each pixel.
    for middle in range(64, 64 + stride(NetworkConfig(unshuffle=unshuffle))):
        corrupted = drawn(1, 2, 128, 128).double().requires_grad_()
        network(corrupted)[0, 0, middle, middle].backward()
        seen = torch.nonzero(corrupted.grad[0, 0])
        reached += [middle - seen.min(0).values, seen.max(0).values - middle]
    return int(torch.stack(reached).min())


@pytest.mark.parametrize("unshuffle", UNSHUFFLES)
def test_the_convolutions_reach_beyond_the_hidden_block_of_the_blind_reconstruction(unshuffle):
    # The middle of a hidden block must see something outside it, or it is predicted from nothing.
    assert reach(unshuffle) > Config().reconstruction.block // 2


@pytest.mark.parametrize("unshuffle", [2, 4])
def test_the_convolutions_reach_beyond_the_largest_masked_block_of_the_fit(unshuffle):
    assert reach(unshuffle) > max(Config().corruption.block_sizes) // 2


def test_the_network_sees_the_mask_channel():
    network, corrupted = fresh(), drawn(1, 2, 32, 32)
    told = corrupted.clone()
    told[:, 1, 8:16, 8:16] += 1.0
    assert not torch.allclose(network(corrupted), network(told), atol=1e-3)


def test_one_image_of_a_batch_does_not_see_the_others():
    # In the blind reconstruction the others hold what this one must not see.
    network, first = fresh(3), drawn(1, 4, 32, 48)
    alone = [network(torch.cat([first, drawn(3, 4, 32, 48, seed=seed)]))[0] for seed in (1, 2)]
    assert torch.equal(*alone)


def test_evaluation_mode_changes_nothing():
    network, corrupted = fresh(), drawn(2, 2, 32, 32)
    training = network(corrupted)
    network(drawn(2, 2, 32, 32, seed=1))
    assert torch.equal(network.eval()(corrupted), training)


@pytest.mark.parametrize("unshuffle", UNSHUFFLES)
def test_every_weight_learns(unshuffle):
    network = fresh(3, unshuffle=unshuffle)
    network(drawn(2, 4, 64, 64)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def test_initialisation_fills_every_weight_from_the_generator_given():
    network = fresh(3)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    drawn_weights = []
    for seed in (0, 0, 1):
        for parameter in network.parameters():
            parameter.data.fill_(torch.nan)
        network.initialise(torch.Generator().manual_seed(seed))
        drawn_weights.append(torch.cat([parameter.detach().flatten().clone() for parameter in network.parameters()]))
    assert bool(torch.stack(drawn_weights).isfinite().all())
    assert torch.equal(drawn_weights[0], drawn_weights[1])
    assert not torch.equal(drawn_weights[0], drawn_weights[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_the_weights_start_as_torch_starts_them():
    # So that the signal neither dies nor grows on its way through.
    network, default = fresh(3, width=32, seed=1), fresh(3, width=32, seed=2)
    network.initialise(torch.Generator().manual_seed(0))
    for (name, ours), theirs in zip(network.named_modules(), default.modules(), strict=True):
        if isinstance(ours, nn.Conv2d):
            for statistic in (torch.std, lambda values: values.abs().max()):
                assert float(statistic(ours.weight.detach())) == pytest.approx(
                    float(statistic(theirs.weight.detach())), rel=0.1
                ), name
            assert float(ours.bias.detach().abs().max()) <= 1 / ours.weight[0].numel() ** 0.5, name
            assert float(ours.bias.detach().std()) > 0, name
        elif isinstance(ours, nn.GroupNorm):
            assert torch.equal(ours.weight, theirs.weight), name
            assert torch.equal(ours.bias, theirs.bias), name


def test_the_width_sets_the_number_of_channels():
    narrow, wide = (sum(p.numel() for p in fresh(width=width).parameters()) for width in (8, 16))
    assert 3 < wide / narrow < 4.5


@pytest.mark.parametrize(("channels", "count"), [(3, 180_784), (1, 170_512)])
def test_the_default_network_has_as_many_parameters_as_the_documentation_says(channels, count):
    network = ReconstructionNetwork(channels, NetworkConfig())
    assert sum(parameter.numel() for parameter in network.parameters()) == count
