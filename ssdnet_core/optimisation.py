"""One step of AdamW over all weights of a network at once."""

import torch
from torch import Tensor, nn

from ssdnet_core.config import FitConfig
from ssdnet_core.network import memory_format


class FlatAdamW:
    """AdamW with a one-cycle learning rate, on one flat float32 copy of a network's weights.

    The network itself computes in ``dtype``: its parameters and their gradients become views of two flat tensors. So
    a step is one pass over one tensor, whatever the number of layers and of images, and nothing is cast
    twice, as autocast does it in every layer. Every weight has its own moments: networks side by side do not meet.

    Parameters
    ----------
    network
        Its weights are where the optimisation starts; afterwards they follow it.
    dtype
        Arithmetic of the network; the optimisation's own is float32.
    """

    def __init__(self, network: nn.Module, config: FitConfig, *, dtype: torch.dtype) -> None:
        parameters = list(network.parameters())
        self._exact = nn.Parameter(torch.cat([_in_memory_order(parameter.data).flatten() for parameter in parameters]))
        self._rounded = self._exact.detach().to(dtype, copy=True)
        self._gradient = torch.zeros_like(self._rounded)
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, values, gradient in zip(
            parameters, torch.split(self._rounded, sizes), torch.split(self._gradient, sizes), strict=True
        ):
            shape = _in_memory_order(parameter.data).shape
            parameter.data = _in_channel_order(values.view(shape))
            parameter.grad = _in_channel_order(gradient.view(shape))
        self._adam = torch.optim.AdamW(
            [self._exact], lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self._schedule = _one_cycle(self._adam, config)

    def clear(self) -> None:
        """Set the gradients that lie in the network's parameters to zero."""
        self._gradient.zero_()

    def step(self) -> None:
        """Follow the gradients that lie in the network's parameters."""
        self._exact.grad = self._gradient.float()
        self._adam.step()
        self._schedule.step()
        self._rounded.copy_(self._exact.detach())


def _in_memory_order(values: Tensor) -> Tensor:
    return values.permute(0, 2, 3, 1) if _channels_last(values) else values


def _in_channel_order(values: Tensor) -> Tensor:
    return values.permute(0, 3, 1, 2) if _channels_last(values) else values


def _channels_last(values: Tensor) -> bool:
    # Kernels lie as the images do.
    return values.ndim == 4 and memory_format(values.device) == torch.channels_last


def _one_cycle(optimizer: torch.optim.Optimizer, config: FitConfig) -> torch.optim.lr_scheduler.OneCycleLR:
    # torch divides by the length of each phase: both get a step at least, also in the shortest fits.
    total = max(config.steps + 1, 4)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=config.learning_rate,
        total_steps=total,
        pct_start=min(max(config.warmup, 2 / total), 1 - 2 / total),
    )
