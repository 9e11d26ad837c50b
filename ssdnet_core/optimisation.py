"""One step of AdamW over all weights of a network at once."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from ssdnet_core.config import FitConfig
from ssdnet_core.network import memory_format

BETA2, EPSILON = 0.999, 1e-8


class FlatAdamW:
    """AdamW with a one-cycle learning rate, on one flat float32 copy of a network's weights.

    The network itself computes in ``dtype``: its parameters become views of one flat tensor, and their gradients are
    laid into another. So a step is one pass over one tensor, whatever the number of layers and of images, and nothing
    is cast twice, as autocast does it in every layer. Every weight has its own moments, so networks side by side do not
    influence one another. torch's function computes the steps: making an object of torch's class would import torch's
    compiler, which takes seconds.

    Parameters
    ----------
    network
        The optimisation starts from its weights, and updates them at each step.
    dtype
        Arithmetic of the network; the optimisation's own is float32.
    """

    def __init__(self, network: nn.Module, config: FitConfig, *, dtype: torch.dtype) -> None:
        self._parameters = list(network.parameters())
        self._exact = torch.cat(_pieces(parameter.data for parameter in self._parameters))
        # In float32 this is the same tensor, and nothing is rounded.
        self._rounded = self._exact.to(dtype)
        self._gradient = torch.zeros_like(self._rounded)
        sizes = [parameter.numel() for parameter in self._parameters]
        for parameter, values in zip(self._parameters, torch.split(self._rounded, sizes), strict=True):
            shape = _in_memory_order(parameter.data).shape
            parameter.data = _in_channel_order(values.view(shape))
        self._config = config
        self._mean, self._square = torch.zeros_like(self._exact), torch.zeros_like(self._exact)
        # Both count the steps: for AdamW on the weights' device, for the schedule here.
        self._taken, self._step = self._exact.new_zeros(()), 0

    def differentiate(self, loss: Tensor) -> None:
        """Compute the gradient of a loss with respect to the network's weights; the next step follows it."""
        # Not by backward(), which would add it to a gradient of each parameter.
        torch.cat(_pieces(torch.autograd.grad(loss, self._parameters)), out=self._gradient)

    def step(self) -> None:
        """Take a step along the gradient that was computed last."""
        rate, beta1 = one_cycle(self._step, self._config)
        adamw(
            [self._exact],
            [self._gradient.float()],
            [self._mean],
            [self._square],
            [],
            [self._taken],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=BETA2,
            lr=rate,
            weight_decay=self._config.weight_decay,
            eps=EPSILON,
            maximize=False,
        )
        self._step += 1
        self._rounded.copy_(self._exact)


def one_cycle(step: int, config: FitConfig) -> tuple[float, float]:
    """Return the learning rate and AdamW's first beta of a step, counted from 0.

    Both follow cosines, up to the peak rate and down again, with less momentum where the rate is high (Smith and Topin
    2019). The values are those of torch's ``OneCycleLR``.
    """
    # Each phase's length is a divisor below: even in the shortest fits it is at least one step.
    total = max(config.steps + 1, 4)
    peak = min(max(config.warmup, 2 / total), 1 - 2 / total) * total - 1
    first, highest = config.learning_rate / 25, config.learning_rate
    if step <= peak:
        return _cosine(first, highest, done=step / peak), _cosine(0.95, 0.85, done=step / peak)
    done = (step - peak) / (total - 1 - peak)
    return _cosine(highest, first / 1e4, done=done), _cosine(0.85, 0.95, done=done)


def _cosine(start: float, end: float, *, done: float) -> float:
    return end + (start - end) / 2 * (math.cos(math.pi * done) + 1)


def _pieces(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [_in_memory_order(values).flatten() for values in tensors]


def _in_memory_order(values: Tensor) -> Tensor:
    return values.permute(0, 2, 3, 1) if _channels_last(values) else values


def _in_channel_order(values: Tensor) -> Tensor:
    return values.permute(0, 3, 1, 2) if _channels_last(values) else values


def _channels_last(values: Tensor) -> bool:
    # Kernels have the memory layout of the features.
    return values.ndim == 4 and memory_format(values.device) == torch.channels_last
