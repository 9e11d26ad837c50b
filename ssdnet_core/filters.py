"""Fixed linear filters: Gaussians that respect missing pixels, Gaussian derivatives, a random orthonormal bank.

All work on tensors (..., H, W) and treat each channel alike, of one image or of several that count the same pixels;
``weight`` is always (1, H, W).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ssdnet_core.bands import bands
from ssdnet_core.medians import median

BANK_SIZE = 7
VALUES_AT_A_TIME = 2**20
DERIVATIVE_REACH = 3


def gaussian_kernel(sigma: float, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
    """Return a 1-D Gaussian of sum 1, cut at three sigma."""
    radius = max(1, math.ceil(3 * sigma))
    position = torch.arange(-radius, radius + 1, dtype=dtype, device=device)
    kernel = torch.exp(-0.5 * (position / sigma) ** 2)
    return kernel / kernel.sum()


def smooth(values: Tensor, sigma: float) -> Tensor:
    """Convolve with a Gaussian; beyond the border lie zeros."""
    kernel = gaussian_kernel(sigma, values.dtype, values.device)
    return _convolve_rows(_convolve_rows(values, kernel).mT, kernel).mT


def weighted_smooth(values: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Return the Gaussian-weighted mean of the pixels that count (normalised convolution).

    Knutsson and Westin, CVPR 1993. Out of reach of every pixel that counts the result is 0.
    """
    kernel = gaussian_kernel(sigma, values.dtype, values.device)
    if complete(weight):
        return smooth(values, sigma) / _reach(weight, kernel)
    return smooth(values * weight, sigma) / _reach(weight, kernel).clamp_min(1e-6)


def weighted_shrink(values: Tensor, weight: Tensor, factor: int) -> Tensor:
    """Return the mean of the pixels that count in squares of ``factor`` pixels; 0 where there are none."""
    if complete(weight):
        return shrink(values, factor)
    return shrink(values * weight, factor) / shrink(weight, factor).clamp_min(1e-6)


def self_guided_smooth(values: Tensor, weight: Tensor, *, sigma: float, contrast: float, grid: int = 1) -> Tensor:
    """Smooth where the values vary little, and keep their edges: the guided filter with the values as the guide.

    He, Sun and Tang, TPAMI 2013, with Gaussian windows, on a coarser grid as in He and Sun's fast guided filter
    (2015).

    Parameters
    ----------
    values
        (..., 1, H, W).
    weight
        1.0 where a pixel counts.
    sigma
        Of the windows, in pixels.
    contrast
        A variance, in the values' units squared: where the window's is far above, the values stay as they are.
    grid
        Side in pixels of the squares over which the values and their squares are averaged before the windows.
    """
    share, sigma = shrink(weight, grid), sigma / grid
    mean = weighted_smooth(weighted_shrink(values, weight, grid), share, sigma)
    square = weighted_smooth(weighted_shrink(values.square(), weight, grid), share, sigma)
    variance = (square - mean.square()).clamp_min(0)
    kept = variance / (variance + contrast)
    smoothed = weighted_smooth(torch.cat([kept, (1.0 - kept) * mean], dim=-3), share, sigma)
    slope, offset = enlarge(smoothed, (values.shape[-2], values.shape[-1])).chunk(2, dim=-3)
    return slope * values + offset


def effective_samples(weight: Tensor, sigma: float) -> Tensor:
    """Return the effective number of pixels under a Gaussian window, relative to the image's median: (1, H, W).

    Kish's (sum w)^2 / sum w^2. Smaller at the borders, where a local mean is noisier.
    """
    kernel = gaussian_kernel(sigma, weight.dtype, weight.device)
    total, total_square = _reach(weight, kernel), _reach(weight, kernel.square())
    samples = torch.where(weight > 0, total.square() / total_square.clamp_min(1e-12), 0.0)
    return samples / median(samples, weight)


def complete(weight: Tensor) -> bool:
    """Return whether every pixel counts in full, as it does in most images: then much can be left out."""
    return bool((weight == 1).all())


def _reach(weight: Tensor, kernel: Tensor) -> Tensor:
    # What a window sums up of a complete image is the product of what it does along each axis.
    if complete(weight):
        down, right = (_convolve_rows(weight.new_ones(1, side), kernel)[0] for side in weight.shape[-2:])
        return torch.outer(down, right)[None]
    return _convolve_rows(_convolve_rows(weight, kernel).mT, kernel).mT


def gaussian_derivatives(values: Tensor) -> Tensor:
    """Return five Gaussian derivatives (-x, -y, xx, xy, yy; sigma 1) of (..., C, H, W): (..., 5 C, H, W).

    Borders are replicated.
    """
    kernels = _derivative_kernels(values)
    radius = kernels.shape[-1] // 2
    size = values.shape[-2:]
    padded = functional.pad(values.reshape(-1, 1, *size), (radius,) * 4, mode="replicate")
    return functional.conv2d(padded, kernels).view(*values.shape[:-3], -1, *size)


def derivative_energy(values: Tensor, counted: Tensor, *, grid: int) -> Tensor:
    """Return the mean squares of :func:`gaussian_derivatives` over squares of ``grid`` pixels: (..., 5 C, h, w).

    ``counted`` is (1, H, W), 1.0 where a pixel counts; h and w are H and W over ``grid``, rounded up.
    """
    return torch.cat(
        [
            weighted_shrink(
                gaussian_derivatives(values[..., band.outer, :])[..., band.kept, :].square(),
                counted[:, band.inner],
                grid,
            )
            for band in bands(values.shape[-2], values.shape[-1], reach=DERIVATIVE_REACH, multiple=grid)
        ],
        dim=-2,
    )


def _derivative_kernels(like: Tensor) -> Tensor:
    position = torch.arange(-DERIVATIVE_REACH, DERIVATIVE_REACH + 1, dtype=like.dtype, device=like.device)
    gauss = torch.exp(-0.5 * position**2)
    gauss = gauss / gauss.sum()
    first = -position * gauss
    second = (position**2 - 1) * gauss
    second = second - second.mean()
    pairs = [(gauss, first), (first, gauss), (gauss, second), (first, first), (second, gauss)]
    kernels = torch.stack([torch.outer(down, right) for down, right in pairs])
    return (kernels / kernels.flatten(1).norm(dim=1)[:, None, None])[:, None]


def box_mean(values: Tensor, size: int) -> Tensor:
    """Return the mean of ``size`` x ``size`` pixels about each, an odd number; borders are replicated."""
    radius = size // 2
    values = functional.pad(values, (radius,) * 4, mode="replicate")
    for axis in (-2, -1):
        length = values.shape[axis] - 2 * radius
        total = values.narrow(axis, 0, length).clone()
        for shift in range(1, size):
            total += values.narrow(axis, shift, length)
        values = total
    return values / size**2


def orthonormal_bank(channels: int, count: int) -> Tensor:
    """Return fixed random filters (count, channels, 7, 7): orthonormal, and of zero mean in each channel."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(count, channels, BANK_SIZE**2, generator=generator, dtype=torch.float64)
    draw = draw - draw.mean(dim=2, keepdim=True)
    basis, _ = torch.linalg.qr(draw.flatten(1).T)
    return basis.T.reshape(count, channels, BANK_SIZE, BANK_SIZE).float()


def shrink(values: Tensor, factor: int) -> Tensor:
    """Average over squares of ``factor`` pixels; an incomplete last row or column averages what there is."""
    if factor == 1:
        return values
    return functional.avg_pool2d(values, factor, ceil_mode=True, count_include_pad=False)


def enlarge(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate bilinearly to ``size`` = (H, W)."""
    if tuple(values.shape[-2:]) == size:
        return values
    channels = values.reshape(1, -1, *values.shape[-2:])
    enlarged = functional.interpolate(channels, size=list(size), mode="bilinear", align_corners=False)
    return enlarged.view(*values.shape[:-2], *size)


def _convolve_rows(values: Tensor, kernel: Tensor) -> Tensor:
    rows = values.reshape(-1, 1, values.shape[-1])
    # On a processor a convolution of one channel takes the memory of sixteen.
    parts = rows.tensor_split(math.ceil(values.numel() / VALUES_AT_A_TIME))
    convolved = [functional.conv1d(part, kernel[None, None], padding=len(kernel) // 2) for part in parts]
    return torch.cat(convolved).reshape(values.shape)
