"""Gaussian derivatives, and how strong they are in the squares of an image: what texture is told by.

All work on tensors (..., C, H, W) and treat each channel of each image alike, as :mod:`ssdnet_core.filters` does.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from ssdnet_core.filters import share_of, shrink, shrunk_by_bands

DERIVATIVES, DERIVATIVE_REACH = 5, 3
"""Number of :func:`gaussian_derivatives` of a channel, and how many pixels from a pixel they see."""

ENERGY_FLOOR = 3e-4
"""Added to a :func:`derivative_energy` of a standardised image before its logarithm: less is noise, not texture."""


def gaussian_derivatives(values: Tensor) -> Tensor:
    """Return five Gaussian derivatives (-x, -y, xx, xy, yy; sigma 1) of (..., C, H, W): (..., 5 C, H, W).

    Borders are replicated.
    """
    kernels = _derivative_kernels(values.dtype, values.device)
    radius = kernels.shape[-1] // 2
    size = values.shape[-2:]
    padded = functional.pad(values.reshape(-1, 1, *size), (radius,) * 4, mode="replicate")
    return functional.conv2d(padded, kernels).view(*values.shape[:-3], -1, *size)


def derivative_energy(values: Tensor, counted: Tensor, *, grid: int) -> Tensor:
    """Return the mean squares of :func:`gaussian_derivatives` over squares of ``grid`` pixels: (..., 5 C, h, w).

    ``counted`` is (1, H, W), 1.0 where a pixel counts; h and w are H and W over ``grid``, rounded up.
    """
    return shrunk_by_bands(
        lambda rows: gaussian_derivatives(values[..., rows, :]).square(), counted, reach=DERIVATIVE_REACH, factor=grid
    )


def energies(
    values: Tensor, valid: Tensor, *, scales: Sequence[int], grid: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield for each scale the side of a square in pixels, :func:`derivative_energy` over squares, and what counts.

    Parameters
    ----------
    values
        (..., C, H, W).
    valid
        (1, H, W), 1.0 where a pixel counts.
    scales
        Factors by which the values are shrunk before their derivatives are taken.
    grid
        Side of a square in pixels; the scale itself where that is larger. Energies and shares have the size of H and W
        over the side, rounded up.
    """
    for scale in scales:
        counted = (share_of(valid, scale) > 0.5).float()
        factor = max(1, grid // scale)
        yield (
            scale * factor,
            derivative_energy(shrink(values, scale), counted, grid=factor),
            share_of(counted, factor),
        )


@lru_cache(maxsize=64)
def _derivative_kernels(dtype: torch.dtype, device: torch.device) -> Tensor:
    position = torch.arange(-DERIVATIVE_REACH, DERIVATIVE_REACH + 1, dtype=dtype, device=device)
    gauss = torch.exp(-0.5 * position**2)
    gauss = gauss / gauss.sum()
    first = -position * gauss
    second = (position**2 - 1) * gauss
    second = second - second.mean()
    pairs = [(gauss, first), (first, gauss), (gauss, second), (first, first), (second, gauss)]
    kernels = torch.stack([torch.outer(down, right) for down, right in pairs])
    return (kernels / kernels.flatten(1).norm(dim=1)[:, None, None])[:, None]
