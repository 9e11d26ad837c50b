"""Convolutions of many images, each with kernels of its own, as batched matrix products.

A graphics processor takes a fraction of the time that its library takes for grouped kernels: docs/PERFORMANCE.md.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def stacked_convolution(features: Tensor, kernels: Tensor, *, bias: Tensor, stride: int) -> Tensor:
    """Return what ``torch.nn.functional.conv2d`` gives with a group for each image, and padding K // 2 at stride 1.

    Parameters
    ----------
    features
        (N, G C, H, W).
    kernels, bias
        (G D, C, K, K) and (G D,), of G images.
    stride
        1 with an odd K, or K: neighbourhoods that do not overlap.

    Returns
    -------
    Tensor
        (N, G D, H / stride, W / stride).
    """
    side = kernels.shape[-1]
    if side > stride:
        answers: Tensor = _Overlapping.apply(features, kernels)  # type: ignore[no-untyped-call]
    else:
        answers = _products(kernels, functional.pixel_unshuffle(features, side) if side > 1 else features)
    return answers + bias[:, None, None]


class _Overlapping(torch.autograd.Function):
    """The convolution at stride 1. Its gradient with respect to the features is computed as a convolution, too.

    torch's own would fold the gradients of all neighbourhoods back, which takes longer than all the rest.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, kernels: Tensor) -> Tensor:  # noqa: PLR0917 - torch calls by place
        neighbourhoods = _neighbourhoods(features, kernels.shape[-1])
        ctx.save_for_backward(neighbourhoods, kernels)
        return _products(kernels, neighbourhoods)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        neighbourhoods, kernels = ctx.saved_tensors
        outputs, inputs, side = kernels.shape[:3]
        images = neighbourhoods.shape[1] // (inputs * side**2)
        by_image = gradient.reshape(len(gradient), images, outputs // images, -1)
        of_kernels = (by_image @ neighbourhoods.reshape(len(gradient), images, inputs * side**2, -1).mT).sum(0)
        of_features = None
        if ctx.needs_input_grad[0]:
            turned = kernels.reshape(images, -1, inputs, side, side).flip(-2, -1).transpose(1, 2)
            of_features = _products(turned.flatten(0, 1), _neighbourhoods(gradient, side))
        return of_features, of_kernels.view(kernels.shape)


def _neighbourhoods(features: Tensor, side: int) -> Tensor:
    """Return the K x K values about each place of (N, G C, H, W): (N, G C K K, H, W)."""
    columns = functional.unfold(features, side, padding=side // 2)
    return columns.view(*columns.shape[:2], *features.shape[2:])


def _products(kernels: Tensor, neighbourhoods: Tensor) -> Tensor:
    """Multiply (G D, C, K, K) with (N, G C K K, h, w): (N, G D, h, w)."""
    count, _, height, width = neighbourhoods.shape
    size = kernels[0].numel()
    columns = neighbourhoods.reshape(count, -1, size, height * width)
    products: Tensor = kernels.reshape(columns.shape[1], -1, size) @ columns
    return products.reshape(count, -1, height, width)
