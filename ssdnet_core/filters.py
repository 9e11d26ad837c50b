"""Fixed linear filters: Gaussians and squares that respect missing pixels, and a random orthonormal bank.

All work on tensors (..., H, W) and treat each channel of each image alike. Images that are passed together count the
same pixels: ``weight`` is always (1, H, W).
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from ssdnet_core.bands import bands
from ssdnet_core.medians import median

GRID = 4
"""Side in working pixels of the squares over which values are averaged before they are seen through a wide window."""

BANK_SIZE = 7
"""Side in pixels of the neighbourhoods that are compared."""

FILLING_WINDOW = 2.0
"""Sigma in pixels of the window of the means that stand in for pixels that do not count."""

STRETCH = 256
"""Number of values of a row that one matrix product smooths; its cost for each value grows with this number."""


def gaussian_kernel(sigma: float, dtype: torch.dtype = torch.float32, *, device: torch.device | None = None) -> Tensor:
    """Return a 1-D Gaussian of sum 1, cut at three sigma."""
    radius = max(1, math.ceil(3 * sigma))
    position = torch.arange(-radius, radius + 1, dtype=dtype, device=device)
    kernel = torch.exp(-0.5 * (position / sigma) ** 2)
    return kernel / kernel.sum()


@lru_cache(maxsize=64)
def gaussian_windows(sigma: float, dtype: torch.dtype = torch.float32, *, device: torch.device | None = None) -> Tensor:
    """Return the Gaussians about all values of a stretch, as the columns of a matrix that rows are multiplied by.

    A banded matrix (STRETCH + 2 r, STRETCH), whose column i holds the kernel of 2 r + 1 values from row i on. As a
    matrix product a smoothing takes a tenth of a convolution's time on a processor. The tensor is cached: do not change
    it.
    """
    kernel = gaussian_kernel(sigma, dtype, device=device)
    windows = torch.zeros(STRETCH, STRETCH + len(kernel), dtype=dtype, device=device)
    windows[:, : len(kernel)] = kernel
    # Each row of the flattened matrix begins one value later than the row above.
    return windows.flatten()[:-STRETCH].view(STRETCH, STRETCH + len(kernel) - 1).T.contiguous()


def weighted_smooth(values: Tensor, weight: Tensor, *, sigma: float) -> Tensor:
    """Return the Gaussian-weighted mean of the pixels that count (normalised convolution).

    Knutsson and Westin, CVPR 1993. Where the window holds no pixel that counts the result is 0.
    """
    windows = gaussian_windows(sigma, values.dtype, device=values.device)
    if complete(weight):
        return _summed(values, windows) / _reach(weight, windows)
    return _summed(values * weight, windows) / _reach(weight, windows).clamp_min(1e-6)


def filled(values: Tensor, valid: Tensor, *, sigma: float = FILLING_WINDOW) -> Tensor:
    """Return values (..., H, W) with the Gaussian-weighted mean of those that count in place of the others."""
    if complete(valid):
        return values
    return torch.where(valid > 0, values, weighted_smooth(values, valid, sigma=sigma))


def zeros_for(images: Tensor, *, like: Tensor) -> Tensor:
    """Return a map of zeros for each of the images (..., C, H, W): (..., *like.shape)."""
    return like.new_zeros((*images.shape[:-3], *like.shape))


def weighted_shrink(values: Tensor, weight: Tensor, *, factor: int) -> Tensor:
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
        (..., C, H, W).
    weight
        1.0 where a pixel counts.
    sigma
        Of the windows, in pixels.
    contrast
        A variance, in the values' units squared: where the variance in a window is far above it, the values stay as
        they are.
    grid
        Side in pixels of the squares over which the values and their squares are averaged before the windows.
    """
    share, sigma = share_of(weight, grid), sigma / grid
    mean = weighted_smooth(weighted_shrink(values, weight, factor=grid), share, sigma=sigma)
    square = weighted_smooth(weighted_shrink(values.square(), weight, factor=grid), share, sigma=sigma)
    variance = (square - mean.square()).clamp_min(0)
    kept = variance / (variance + contrast)
    smoothed = weighted_smooth(torch.cat([kept, (1.0 - kept) * mean], dim=-3), share, sigma=sigma)
    slope, offset = enlarge_squares(smoothed, grid, like=values).chunk(2, dim=-3)
    return slope * values + offset


def effective_samples(weight: Tensor, sigma: float) -> Tensor:
    """Return the effective number of pixels under a Gaussian window, relative to the image's median: (1, H, W).

    Kish's (sum w)^2 / sum w^2. Smaller at the borders, where a local mean is noisier.
    """
    windows = gaussian_windows(sigma, weight.dtype, device=weight.device)
    total, total_square = _reach(weight, windows), _reach(weight, windows.square())
    samples = torch.where(weight > 0, total.square() / total_square.clamp_min(1e-12), 0.0)
    return samples / median(samples, weight)


def complete(weight: Tensor) -> bool:
    """Return whether every pixel counts in full. In most images it does, and the weighting can be left out."""
    return bool(weight.min() == 1)


def _reach(weight: Tensor, windows: Tensor) -> Tensor:
    # If all pixels count, the sum under a window is the product of its sums along the two axes.
    if complete(weight):
        down, right = (_summed_rows(weight.new_ones(1, side), windows)[0] for side in weight.shape[-2:])
        return torch.outer(down, right)[None]
    return _summed(weight, windows)


def _summed(values: Tensor, windows: Tensor) -> Tensor:
    return _summed_rows(_summed_rows(values, windows).mT, windows).mT


def _summed_rows(values: Tensor, windows: Tensor) -> Tensor:
    length, reach = values.shape[-1], (len(windows) - STRETCH) // 2
    parts = []
    for start in range(0, length, STRETCH):
        end = min(start + STRETCH, length)
        first, last = max(0, start - reach), min(length, end + reach)
        inside = windows[first - start + reach : last - start + reach, : end - start]
        parts.append(values[..., first:last] @ inside)
    return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]


def shrunk_by_bands(feature: Callable[[slice], Tensor], counted: Tensor, *, reach: int, factor: int) -> Tensor:
    """Return the :func:`weighted_shrink` of a feature that is computed a band of rows at a time: (..., h, w).

    Parameters
    ----------
    feature
        Gives the feature of some rows, (..., N, rows, W), which sees so many rows above and below as ``reach`` says.
    counted
        (1, H, W), 1.0 where a pixel counts.
    """
    height, width = counted.shape[-2:]
    return torch.cat(
        [
            weighted_shrink(feature(band.outer)[..., band.kept, :], counted[:, band.inner], factor=factor)
            for band in bands(height, width, reach=reach, multiple=factor)
        ],
        dim=-2,
    )


def box_mean(values: Tensor, size: int) -> Tensor:
    """Return the mean of the ``size`` x ``size`` pixels about each pixel, ``size`` odd; borders are replicated."""
    radius = size // 2
    sums = functional.pad(_channels_of(values), (radius,) * 4, mode="replicate")
    for axis in (-2, -1):
        length = sums.shape[axis] - 2 * radius
        total = sums.narrow(axis, 0, length).clone()
        for shift in range(1, size):
            total += sums.narrow(axis, shift, length)
        sums = total
    return (sums / size**2).view(values.shape)


@lru_cache(maxsize=64)
def orthonormal_bank(channels: int, count: int, *, device: torch.device | None = None) -> Tensor:
    """Return fixed random filters (count, channels, 7, 7): orthonormal, and of zero mean in each channel.

    float32; the tensor is cached: do not change it.
    """
    generator = torch.Generator().manual_seed(0)
    # The tensor is cached: made in a caller's inference mode it could never be part of a gradient.
    with torch.inference_mode(False):
        draw = torch.randn(count, channels, BANK_SIZE**2, generator=generator, dtype=torch.float64)
        draw = draw - draw.mean(dim=2, keepdim=True)
        basis, _ = torch.linalg.qr(draw.flatten(1).T)
        return basis.T.reshape(count, channels, BANK_SIZE, BANK_SIZE).float().to(device)


def shrink(values: Tensor, factor: int) -> Tensor:
    """Average over squares of ``factor`` pixels; an incomplete last row or column averages what there is."""
    if factor == 1:
        return values
    shrunk = functional.avg_pool2d(_channels_of(values), factor, ceil_mode=True, count_include_pad=False)
    return shrunk.view(*values.shape[:-2], *shrunk.shape[-2:])


def share_of(valid: Tensor, factor: int) -> Tensor:
    """Return the share of each square of ``factor`` pixels that counts: (1, h, w), h and w rounded up.

    The part of a last square that lies beyond the image does not count, since an average over fewer pixels is noisier.
    """
    if factor == 1:
        return valid
    height, width = valid.shape[-2:]
    whole = functional.pad(valid, (0, -width % factor, 0, -height % factor))
    return functional.avg_pool2d(whole, factor)


def enlarge_squares(values: Tensor, factor: int, *, like: Tensor) -> Tensor:
    """Interpolate averages over squares of ``factor`` pixels (:func:`shrink`) to the pixels of ``like`` (..., H, W).

    A last square that lies only partly in the image is cut off; stretching all squares over the image would move them.
    """
    if factor == 1:
        return values
    whole = [factor * side for side in values.shape[-2:]]
    return enlarge(values, (whole[0], whole[1]))[..., : like.shape[-2], : like.shape[-1]]


def enlarge(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate bilinearly to ``size`` = (H, W)."""
    if tuple(values.shape[-2:]) == size:
        return values
    enlarged = functional.interpolate(_channels_of(values), size=list(size), mode="bilinear", align_corners=False)
    return enlarged.view(*values.shape[:-2], *size)


def _channels_of(values: Tensor) -> Tensor:
    """Return the channels of all images as those of one: (..., H, W) as (1, N, H, W)."""
    return values.reshape(1, -1, *values.shape[-2:])
