import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ssdnet_core.config import NetworkConfig
from ssdnet_core.network import ReconstructionNetwork
from ssdnet_core.stacked import stacked_convolution
from tests.ssdnet_core.drawn_values import drawn


@settings(max_examples=40)
@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([(1, 1, 0), (3, 1, 1), (2, 2, 0)]),
    st.integers(0, 99),
)
def test_a_stacked_convolution_is_a_grouped_one_and_so_are_its_gradients(count, images, inputs, outputs, shape, seed):
    side, step, padding = shape
    features = drawn(count, images * inputs, 6, 8, seed=seed).double().requires_grad_()
    kernels = drawn(images * outputs, inputs, side, side, seed=seed + 1).double().requires_grad_()
    bias = drawn(images * outputs, seed=seed + 2).double().requires_grad_()
    grouped = nn.functional.conv2d(features, kernels, bias, stride=step, padding=padding, groups=images)
    stacked = stacked_convolution(features, kernels, bias=bias, stride=step)
    torch.testing.assert_close(stacked, grouped)
    weight = drawn(*grouped.shape, seed=seed + 3).double()
    gradients = [
        torch.autograd.grad((answer * weight).sum(), (features, kernels, bias)) for answer in (stacked, grouped)
    ]
    for of_stacked, of_grouped in zip(*gradients, strict=True):
        torch.testing.assert_close(of_stacked, of_grouped)


@pytest.mark.parametrize("unshuffle", [1, 2, 4])
def test_each_convolution_of_the_network_can_be_stacked(unshuffle):
    network = ReconstructionNetwork(3, NetworkConfig(width=8, unshuffle=unshuffle), images=2)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert layers
    for seed, layer in enumerate(layers):
        features = drawn(2, layer.in_channels, 6, 8, seed=seed)
        stacked = stacked_convolution(features, layer.weight, bias=layer.bias, stride=layer.stride[0])
        torch.testing.assert_close(stacked, layer(features), rtol=1e-4, atol=1e-5)
