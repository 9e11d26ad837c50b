"""Medians over the pixels that count: exact up to a million pixels, of a sample of them beyond."""

import numpy as np
import torch
from torch import Tensor

MEDIAN_SAMPLE = 2**20
"""Most values that a median is taken of. Beyond that a sample of this size is drawn, whose median has a standard error
of 0.12 % of the values' standard deviation, if they are normal."""


def median(values: Tensor, valid: Tensor) -> Tensor:
    """Return the median of each channel (..., H, W) over the pixels that count (1, H, W): (..., 1, 1)."""
    return row_medians(sampled(values_that_count(values, valid), MEDIAN_SAMPLE))[..., None, None]


def row_medians(values: Tensor) -> Tensor:
    """Return the median of each row of (..., N): (...); of an even number the lower of the two in the middle."""
    if values.device.type != "cpu":
        # On a GPU this is what a quantile gives, in three fifths of the time.
        return values.median(dim=-1).values
    return row_quantiles(values, 0.5)


def row_quantiles(values: Tensor, share: float) -> Tensor:
    """Return a quantile of each row of (..., N), one of its values: ``share`` of the others lie below it. (...)."""
    place = int(share * (values.shape[-1] - 1))
    if values.device.type != "cpu":
        return values.kthvalue(place + 1, dim=-1).values
    # numpy selects in vector registers: twelve times as fast as torch.
    return torch.from_numpy(np.partition(values.numpy(), place, axis=-1)[..., place].copy())


def values_that_count(values: Tensor, valid: Tensor) -> Tensor:
    """Return the pixels of (..., H, W) that count in (1, H, W): (..., N)."""
    return values.flatten(-2) if bool(valid.min() > 0) else values[..., valid[0] > 0]


def sampled(columns: Tensor, count: int) -> Tensor:
    """Return ``count`` columns of (..., N) drawn with replacement, always the same ones; all if there are no more."""
    total = columns.shape[-1]
    return columns if total <= count else columns[..., sampled_places(total, count).to(columns.device)]


def sampled_places(total: int, count: int) -> Tensor:
    """Return ``count`` places below ``total`` drawn with replacement, always the same ones; all if there are no more.

    (N,) int64, on the processor, in the order in which :func:`sampled` takes them.
    """
    if total <= count:
        return torch.arange(total)
    # At random: a regular sample could keep step with a regular texture.
    return torch.randint(total, (count,), generator=torch.Generator().manual_seed(0))
