"""The convolutional network that is fitted to one image (paper: its inductive bias models the "normal")."""

import math

import torch
from torch import Tensor, nn

from ssdnet_core.config import NetworkConfig

NEGATIVE_SLOPE = 0.1
NORM_GROUPS = 8


def stride(config: NetworkConfig) -> int:
    """Return the number of working pixels that image sides must be a multiple of."""
    return 4 * config.unshuffle


class ReconstructionNetwork(nn.Module):
    """An encoder-decoder with two halvings below a pixel-unshuffled input.

    Input: (N, C + 1, H, W), the corrupted image and its mask channel (1 = hidden); H and W multiples of
    :func:`stride`. Output: (N, C, H, W), the reconstruction.
    """

    def __init__(self, channels: int, config: NetworkConfig) -> None:
        super().__init__()
        fold, width = config.unshuffle, config.width
        self.fold = nn.PixelUnshuffle(fold)
        self.stem = nn.Sequential(
            nn.Conv2d((channels + 1) * fold**2, width, 3, padding=1),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            _block(width, width),
        )
        self.down = nn.Sequential(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), _block(2 * width, 2 * width))
        self.bottom = nn.Sequential(
            nn.Conv2d(2 * width, 2 * width, 4, stride=2, padding=1), _block(2 * width, 2 * width)
        )
        self.up = _block(4 * width, 2 * width)
        self.top = _block(3 * width, width)
        self.head = nn.Sequential(nn.Conv2d(width, channels * fold**2, 1), nn.PixelShuffle(fold))

    def forward(self, corrupted: Tensor) -> Tensor:
        """Reconstruct a corrupted batch."""
        fine = self.stem(self.fold(corrupted))
        middle = self.down(fine)
        coarse = self.bottom(middle)
        middle = self.up(torch.cat([_double(coarse), middle], dim=1))
        fine = self.top(torch.cat([_double(middle), fine], dim=1))
        reconstruction: Tensor = self.head(fine)
        return reconstruction

    def initialise(self, generator: torch.Generator) -> None:
        """Fill the weights afresh, from a generator on the processor."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                _initialise_convolution(layer, generator)
            elif isinstance(layer, nn.GroupNorm):
                layer.reset_parameters()


def _initialise_convolution(layer: nn.Conv2d, generator: torch.Generator) -> None:
    # As torch does by default, but from a given generator.
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    if layer.bias is not None:
        bound = 1 / math.sqrt(layer.weight[0].numel())
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.GroupNorm(NORM_GROUPS, outputs),
        nn.LeakyReLU(NEGATIVE_SLOPE),
    )


def _double(features: Tensor) -> Tensor:
    return nn.functional.interpolate(features, scale_factor=2, mode="nearest")
