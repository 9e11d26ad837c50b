"""Rings along the border, where a network predicts worse: what they exceed the rest of the image by is taken off."""

import torch
from torch import Tensor

from ssdnet_core.medians import median, row_medians, values_that_count

RING_WIDTH, RING_DEPTH = 2, 12
"""Width in pixels of the rings along the border that are looked at, and how far in from it they reach."""


def without_ring_excess(values: Tensor, valid: Tensor, *, grid: int = 1) -> Tensor:
    """Lower each ring along the image's border by what its median exceeds the image's by, if it does.

    A network predicts worse where its context ends. The rings are 2 pixels wide and reach 12 pixels in from the border;
    where a value stands for a square of ``grid`` > 2 pixels, they are one square wide.
    """
    height, width = values.shape[-2:]
    overall = median(values, valid)
    result = values.clone()
    ring_width = max(1, RING_WIDTH // grid)
    for start in range(0, RING_DEPTH // grid, ring_width):
        sides = _ring(height, width, start=start, ring_width=ring_width)
        counted = [values_that_count(values[..., *side], valid[:, *side]) for side in sides]
        if sum(part.shape[-1] for part in counted):
            excess = (row_medians(torch.cat(counted, dim=-1))[..., None, None] - overall).clamp_min(0)
            for side in sides:
                result[..., *side] -= excess
    return result


def _ring(height: int, width: int, *, start: int, ring_width: int) -> list[tuple[slice, slice]]:
    # The ring's four sides, which do not overlap; what is left in the middle of a small image is one piece.
    end = start + ring_width
    rows, columns = slice(start, height - start), slice(start, width - start)
    if min(height, width) <= 2 * start:
        return []
    if min(height, width) <= 2 * end:
        return [(rows, columns)]
    between = slice(end, height - end)
    return [
        (slice(start, end), columns),
        (slice(height - end, height - start), columns),
        (between, slice(start, end)),
        (between, slice(width - end, width - start)),
    ]
