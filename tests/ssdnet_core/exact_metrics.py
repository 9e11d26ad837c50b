"""AUPRO by its definition, of many images at once: what the metrics by counts are held against."""

import math

import numpy as np

from ssdnet_core.metrics import FPR_LIMIT, area_up_to
from ssdnet_core.pixel_counts import region_shares


def aupro(scores, truths, *, valids=None, fpr_limit=FPR_LIMIT):
    """Return the area under the per-region-overlap curve of maps (H, W) on one common scale; sizes may differ."""
    valids = [None] * len(scores) if valids is None else valids
    images = [region_shares(s, t, valid=v) for s, t, v in zip(scores, truths, valids, strict=True)]
    counted, shares = (np.concatenate(parts) for parts in zip(*images, strict=True))
    if not shares.any() or shares.all():
        return math.nan
    order = np.argsort(counted)[::-1]
    # One point for each distinct score: the order among equal ones must not matter.
    last_of_ties = np.append(np.diff(counted[order]) != 0, True)
    fpr, overlap = (np.append(0.0, np.cumsum(values[order])[last_of_ties]) for values in (shares == 0, shares))
    return area_up_to(fpr_limit, fpr / fpr[-1], y=overlap / overlap[-1])
