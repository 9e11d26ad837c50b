import copy

import pytest
import torch
from torch import nn

from ssdnet_core.config import FitConfig
from ssdnet_core.optimisation import FlatAdamW, one_cycle

SETTINGS = FitConfig(steps=12, learning_rate=1e-2, weight_decay=0.1, warmup=0.25)


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 1, 1))


def weights_of(network):
    return torch.cat([parameter.detach().float().flatten() for parameter in network.parameters()])


def descend(network, step, *, dtype=torch.float32, steps=12):
    values = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    for _ in range(steps):
        step((network(values) - 1).float().square().mean())


def flat(network, settings=SETTINGS, *, dtype=torch.float32):
    optimizer = FlatAdamW(network, settings, dtype=dtype)

    def step(loss):
        optimizer.differentiate(loss)
        optimizer.step()

    return step


def layer_by_layer(network):
    """The same optimisation as torch does it, with a state for each layer."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=13, pct_start=0.25)

    def step(loss):
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    return step


def test_it_takes_the_steps_that_adamw_takes_layer_by_layer():
    at_once, layered = small(), small()
    descend(at_once, flat(at_once))
    descend(layered, layer_by_layer(layered))
    assert not torch.allclose(weights_of(at_once), weights_of(small()), atol=1e-2)
    torch.testing.assert_close(weights_of(at_once), weights_of(layered), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("warmup", [0.01, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 80])
def test_rate_and_momentum_of_every_step_are_those_of_torchs_one_cycle(steps, warmup):
    settings = FitConfig(steps=steps, learning_rate=6e-3, warmup=warmup)
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=6e-3)
    total = max(steps + 1, 4)
    share = min(max(warmup, 2 / total), 1 - 2 / total)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=total, pct_start=share)
    for step in range(steps):
        [group] = optimizer.param_groups
        assert one_cycle(step, settings) == (group["lr"], group["betas"][0])
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_network_keeps_its_weights_until_the_first_step(dtype):
    network = small()
    before = copy.deepcopy(network).to(dtype)
    FlatAdamW(network, SETTINGS, dtype=dtype)
    for (name, parameter), expected in zip(network.named_parameters(), before.parameters(), strict=True):
        assert parameter.dtype == dtype
        assert torch.equal(parameter, expected), name


def test_steps_smaller_than_bfloat16_can_tell_add_up():
    network = nn.Conv2d(1, 1, 1)
    nn.init.ones_(network.weight)
    step = flat(network, FitConfig(steps=100, learning_rate=1e-4, weight_decay=0.0), dtype=torch.bfloat16)
    assert torch.tensor(1.0 - 1e-4).bfloat16() == 1
    for _ in range(100):
        step(network(torch.ones(1, 1, 4, 4, dtype=torch.bfloat16)).sum())
    assert 0.99 < float(network.weight.detach()) < 1.0


def test_a_step_follows_the_gradient_found_last_and_no_earlier_one():
    values = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    twice, once = small(), small()
    for network, wanted in ((twice, (5.0, 1.0)), (once, (1.0,))):
        optimizer = FlatAdamW(network, SETTINGS, dtype=torch.float32)
        for value in wanted:
            optimizer.differentiate((network(values) - value).square().mean())
        optimizer.step()
        assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(weights_of(twice), weights_of(once))
    assert not torch.equal(weights_of(once), weights_of(small()))
