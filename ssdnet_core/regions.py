"""Defect regions: the connected parts of a map above a level, in pixels of the original image."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ssdnet_core.config import VerdictConfig

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Region:
    """One connected part of the image that its own structure does not explain.

    Attributes
    ----------
    top, left, bottom, right
        The box in pixels of the original image; bottom and right are exclusive.
    area
        In pixels of the original image.
    peak
        Highest value of the verdict's map in the region, in robust standard deviations.
    centroid
        (y, x) in pixels of the original image, weighted by the map.
    """

    top: int
    left: int
    bottom: int
    right: int
    area: int
    peak: float
    centroid: tuple[float, float]


def find_regions(
    levels: npt.NDArray[np.float32], labels: npt.NDArray[np.int32], *, original_shape: tuple[int, int]
) -> tuple[Region, ...]:
    """Return the regions of a map, in the order of their numbers.

    Parameters
    ----------
    levels
        (h, w) float32, the map at working size.
    labels
        (h, w), as :func:`label_regions` returns them.
    original_shape
        (H, W) of the image the boxes are for.
    """
    scale = _scale(levels, original_shape)
    return tuple(
        _describe(levels[box], labels[box] == label, corner=(box[0].start, box[1].start), scale=scale)
        for label, box in enumerate(ndimage.find_objects(labels), start=1)
    )


def label_regions(
    levels: npt.NDArray[np.float32],
    threshold: float,
    *,
    original_shape: tuple[int, int],
    anomaly_map: npt.NDArray[np.float32],
    config: VerdictConfig,
    alarming: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.int32]:
    """Return the number of the region that each pixel of a map is in: (h, w).

    A region is connected, at or above the threshold, and in the anomaly map not far below the highest value around it:
    the windows of the scores make a strong defect's surroundings exceed the threshold, too. 1 is the region with the
    highest peak, 0 none.

    Parameters
    ----------
    levels
        (h, w) float32, the map at working size that the verdict reads.
    threshold
        In the map's units.
    original_shape
        (H, W) of the image.
    anomaly_map
        (h, w) float32, the map before it was smoothed for the verdict.
    config
        In each connected part at or above the threshold, what is lower than ``share_of_peak`` of the anomaly map's
        highest value there is in no region. Regions smaller than ``min_area``, in pixels of the original image, are
        left out, and so are those smaller than ``min_further_area``, in pixels of the map, but for the one with the
        highest peak.
    alarming
        (h, w), where the map reached the alarm level before it was sharpened. But for the one with the highest peak,
        regions without such a pixel are left out, too: no law of false alarms holds for what sharpening has raised.
    """
    inside = levels >= threshold
    if not inside.any():
        return np.zeros(levels.shape, dtype=np.int32)
    labels, highest = _labelled(anomaly_map, inside)
    # In place, and of the pixels inside alone: a map may be large.
    inside[inside] = anomaly_map[inside] >= config.share_of_peak * highest[labels[inside]]
    labels, peaks = _labelled(levels, inside)
    count = len(peaks) - 1
    # Of the pixels inside alone: ndimage's own statistics would copy and sort the whole map.
    cells = np.bincount(labels[inside], minlength=count + 1)[1:]
    scale = _scale(levels, original_shape)
    large = [
        region for region in np.argsort(-peaks[1:], kind="stable") if _area(cells[region], scale) >= config.min_area
    ]
    further = cells >= config.min_further_area
    if alarming is not None:
        further &= np.bincount(labels[alarming & inside], minlength=count + 1)[1:] > 0
    kept = large[:1] + [region for region in large[1:] if further[region]]
    numbers = np.zeros(count + 1, dtype=np.int32)
    numbers[np.array(kept, dtype=np.intp) + 1] = np.arange(1, len(kept) + 1)
    return numbers[labels]


def _labelled(
    levels: npt.NDArray[np.float32], inside: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Return the number of the connected part that each pixel is in, 0 if in none, and by number their peaks."""
    labels, count = ndimage.label(inside, structure=EIGHT_CONNECTED)
    # In the levels' own dtype: with another numpy converts them one by one, which takes thirty times as long.
    peaks = np.full(count + 1, -np.inf, dtype=levels.dtype)
    np.maximum.at(peaks, labels[inside], levels[inside])
    return labels, peaks


def enlarge_labels(labels: npt.NDArray[np.int32], original_shape: tuple[int, int]) -> npt.NDArray[np.int32]:
    """Return the numbers (h, w) at the original size (H, W): each pixel has that of the working pixel it lies in."""
    rows, columns = (
        (2 * np.arange(large) + 1) * small // (2 * large)
        for large, small in zip(original_shape, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]


def _scale(levels: npt.NDArray[np.float32], original_shape: tuple[int, int]) -> tuple[Fraction, Fraction]:
    # Fractions: a box must not end a rounding error past the image.
    return Fraction(original_shape[0], levels.shape[0]), Fraction(original_shape[1], levels.shape[1])


def _area(cells: int, scale: tuple[Fraction, Fraction]) -> int:
    return round(int(cells) * scale[0] * scale[1])


def _describe(
    levels: npt.NDArray[np.float32],
    inside: npt.NDArray[np.bool_],
    *,
    corner: tuple[int, int],
    scale: tuple[Fraction, Fraction],
) -> Region:
    rows, columns = np.nonzero(inside)
    values = levels[inside].astype(np.float64)
    # Never all zero, whatever the threshold.
    weights = values + 1e-9
    (top, left), (down, right) = corner, inside.shape
    # Pixel centres lie at half coordinates: the centre of working pixel i is at (i + 0.5) * scale.
    centre_y = (top + np.average(rows, weights=weights) + 0.5) * float(scale[0]) - 0.5
    centre_x = (left + np.average(columns, weights=weights) + 0.5) * float(scale[1]) - 0.5
    return Region(
        top=math.floor(top * scale[0]),
        left=math.floor(left * scale[1]),
        bottom=math.ceil((top + down) * scale[0]),
        right=math.ceil((left + right) * scale[1]),
        area=_area(len(rows), scale),
        peak=float(values.max()),
        centroid=(float(centre_y), float(centre_x)),
    )
