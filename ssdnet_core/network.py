"""The convolutional network that is fitted to one image (paper: its inductive bias models the "normal")."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssdnet_core.config import NetworkConfig
from ssdnet_core.stacked import stacked_convolution

NEGATIVE_SLOPE = 0.1
NORM_GROUPS = 8


def stride(config: NetworkConfig) -> int:
    """Return the number of working pixels that image sides must be a multiple of."""
    return 4 * config.unshuffle


class ReconstructionNetwork(nn.Module):
    """An encoder-decoder with two halvings below a pixel-unshuffled input.

    Input: (N, G (C + 1) S, h, w), corrupted images and behind each its mask channel (1 = hidden), pixel-unshuffled
    (:mod:`ssdnet_core.folding`), S pixels a place; h and w multiples of 4. Output: (N, G C S, h, w), the
    reconstructions.

    Parameters
    ----------
    channels
        C, of each image.
    images
        G, the number of networks side by side in the channels, one to each image. They share no weights, and none
        sees another's image.
    """

    def __init__(self, channels: int, config: NetworkConfig, *, images: int = 1) -> None:
        super().__init__()
        width, inside = config.width, config.unshuffle**2
        self.stem = nn.Sequential(
            _convolution((channels + 1) * inside, width, side=3, images=images),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            _block(width, images=images),
        )
        self.down = _halving(width, 2 * width, images=images)
        self.bottom = _halving(2 * width, 2 * width, images=images)
        self.from_bottom = _convolution(2 * width, 2 * width, side=1, images=images)
        self.up = _block(2 * width, images=images)
        self.from_up = _convolution(2 * width, width, side=1, images=images)
        self.top = _block(width, images=images)
        self.head = _convolution(width, channels * inside, side=1, images=images)

    def forward(self, corrupted: Tensor) -> Tensor:
        """Reconstruct a corrupted batch."""
        fine = self.stem(corrupted.contiguous(memory_format=memory_format(corrupted.device)))
        middle = self.down(fine)
        # Skips are added to a projection of the coarser level: concatenated they cost half as much again.
        middle = self.up(_double(self.from_bottom(self.bottom(middle))) + middle)
        fine = self.top(_double(self.from_up(middle)) + fine)
        return self.head(fine)

    def initialise(self, generator: torch.Generator) -> None:
        """Fill the weights afresh, with the same values for each image, from a generator on the processor."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                _initialise_convolution(layer, generator)
            elif isinstance(layer, nn.GroupNorm):
                layer.reset_parameters()


def memory_format(device: torch.device) -> torch.memory_format:
    """Return how features and kernels lie in memory: a processor convolves fastest with the channels last."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


class _Convolution(nn.Conv2d):
    def forward(self, features: Tensor) -> Tensor:
        if self.groups == 1 or features.device.type == "cpu" or self.bias is None:
            return super().forward(features)
        return stacked_convolution(features, self.weight, bias=self.bias, stride=self.stride[0])


class _Normalised(nn.GroupNorm):
    """Group normalisation and leaky ReLU; statistics in float32."""

    def forward(self, features: Tensor) -> Tensor:
        # A processor normalises bfloat16 at a third of the speed of float32, casts included.
        dtype = torch.float32 if features.device.type == "cpu" else features.dtype
        normalised = functional.group_norm(
            features.to(dtype), self.num_groups, self.weight.to(dtype), self.bias.to(dtype), self.eps
        )
        return functional.leaky_relu_(normalised, NEGATIVE_SLOPE).to(features.dtype)


def _convolution(inputs: int, outputs: int, *, side: int, images: int) -> nn.Conv2d:
    return _Convolution(inputs * images, outputs * images, side, padding=side // 2, groups=images)


def _block(width: int, *, images: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(width, width, side=3, images=images), _Normalised(NORM_GROUPS * images, width * images)
    )


def _halving(inputs: int, outputs: int, *, images: int) -> nn.Sequential:
    return nn.Sequential(
        _Convolution(inputs * images, outputs * images, 2, stride=2, groups=images), _block(outputs, images=images)
    )


@torch.no_grad()
def _initialise_convolution(layer: nn.Conv2d, generator: torch.Generator) -> None:
    # As torch does by default, but from a given generator, and the same for the network of each image.
    kernels = torch.empty(layer.out_channels // layer.groups, *layer.weight.shape[1:], dtype=torch.float32)
    bound = 1 / math.sqrt(kernels[0].numel())
    nn.init.kaiming_uniform_(kernels, a=math.sqrt(5), generator=generator)
    _fill(layer.weight, kernels)
    if layer.bias is not None:
        biases = torch.empty(len(kernels), dtype=torch.float32)
        _fill(layer.bias, nn.init.uniform_(biases, -bound, bound, generator=generator))


def _fill(parameter: Tensor, of_image: Tensor) -> None:
    # Copied to the device once, and only there to the networks of all images.
    parameter.view(-1, *of_image.shape).copy_(of_image.to(parameter.device))


def _double(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2, mode="nearest")
