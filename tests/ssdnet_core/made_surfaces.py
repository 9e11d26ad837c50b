"""Made surfaces as tensors, with defects and predictions, and where a score of theirs is highest."""

import numpy as np
import torch
from scipy import ndimage

from ssdnet_core.filters import GRID, enlarge_squares


def texture(height=96, width=96, *, channels=1, seed=0, smooth=1.0):
    """Smoothed noise of zero mean and unit standard deviation: (C, H, W)."""
    noise = np.random.default_rng(seed).standard_normal((channels, height, width))
    noise = ndimage.gaussian_filter(noise, (0, smooth, smooth))
    return torch.from_numpy((noise - noise.mean()) / noise.std()).float()


def blind(image, *, seed=100, error=0.4):
    """Return a prediction as a network makes it: the structure, less contrast, and errors everywhere."""
    return 0.8 * image + error * texture(*image.shape[1:], channels=len(image), seed=seed)


def reflection(height, width):
    """Return what a lamp's broad reflection adds to the light, 1 at its middle: (1, H, W)."""
    rows, columns = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    return torch.exp(-((rows - 0.3) ** 2 + (columns + 0.2) ** 2) / 0.8)[None]


def everything(image):
    return torch.ones_like(image[:1])


def all_but_holes(image, *, seed, share=0.2):
    """Return flags with rectangular holes."""
    valid, rng = everything(image), np.random.default_rng(seed)
    while float(valid.mean()) > 1 - share:
        top, left = rng.integers(valid.shape[1]), rng.integers(valid.shape[2])
        valid[:, top : top + 12, left : left + 12] = 0
    return valid


def highest(scores):
    return divmod(int(scores.argmax()), scores.shape[1])


def at_full_size(score, size=(128, 128)):
    """Return a score (1, h, w) of wide windows, which is on a coarser grid: (H, W)."""
    return enlarge_squares(score, GRID, like=torch.empty(size))[0]


def with_defect(image, defect, top, left, size):
    box = (..., slice(top, top + size), slice(left, left + size))
    changed = image.clone()
    if defect == "flat":
        changed[box] = image[box].mean()
    elif defect == "finer":
        changed[box] = texture(*image.shape[1:], channels=len(image), seed=55, smooth=0.3)[box]
    elif defect == "spot":
        changed[box] += 4.0
    return changed
