"""How far a night departs from the nights before it, robustly: some of those may have been odd themselves.

One rule for the defect rate and for the quartiles of the scores: a night is flagged that lies more than `LIMIT` robust
standard deviations from the median of the trailing nights. The nights are the sample, not their images: with thousands
of images, a test of two nights against each other (Kolmogorov and Smirnov's, say) flags every ordinary difference.

False flags, simulated for nights of 20 to 2000 images that vary at random with nothing wrong: fewer than 3 nights in
100 in the second week, 3 in 200 from the third on (`tests/tasks/test_departure.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MOST_NIGHTS_COMPARED = 28
"""Most earlier nights that a night is compared with; a lasting change is the new normal once it fills half of them."""

LEAST_NIGHTS = 7
"""Fewer nights say nothing: no flag in the first week."""

LIMIT = 3.0

SCORE_RESOLUTION = 0.05
"""In units of the score: the least standard deviation taken seriously."""


@dataclass(frozen=True, kw_only=True)
class Departure:
    """A night's value beside those of the nights before it.

    Attributes
    ----------
    deviations
        Distance from the middle in robust standard deviations, signed.
    lowest, middle, highest
        The median of the trailing nights, and the values between which no flag is raised.
    """

    deviations: float
    lowest: float
    middle: float
    highest: float

    @property
    def flagged(self) -> bool:
        """Whether the night is out of the ordinary."""
        return abs(self.deviations) > LIMIT


def departure(value: float, trailing: Sequence[float], *, least_scale: float) -> Departure:
    """Compare a value with those of the trailing nights, at least two.

    Parameters
    ----------
    least_scale
        Standard deviation that known causes alone, such as counting, would give the value; in its unit.
    """
    values = np.asarray(trailing, dtype=np.float64)
    # A few nights know their own spread less well than many; the 4 is by simulation.
    scale = max(qn_scale(values) * (1 + 4 / len(values)), least_scale)
    middle = float(np.median(values))
    return Departure(
        deviations=(value - middle) / scale,
        lowest=middle - LIMIT * scale,
        middle=middle,
        highest=middle + LIMIT * scale,
    )


def rate_departure(night: tuple[int, int], trailing: Sequence[tuple[int, int]]) -> Departure:
    """Compare a defect rate, given as counts (defective, inspected), with those of the trailing nights.

    The comparison is of Anscombe's arcsines of the rates, whose scatter by counting alone is known; the result's bounds
    are rates again.
    """
    turned = departure(
        _arcsine(night), [_arcsine(earlier) for earlier in trailing], least_scale=1 / math.sqrt(night[1] + 0.5)
    )
    lowest, middle, highest = (
        _rate(bound, inspected=night[1]) for bound in (turned.lowest, turned.middle, turned.highest)
    )
    return Departure(deviations=turned.deviations, lowest=lowest, middle=middle, highest=highest)


def quantile_departure(value: float, trailing: Sequence[float], *, images: int, width: float) -> Departure:
    """Compare a quantile of the scores with the same one of the trailing nights.

    Parameters
    ----------
    images
        Number of images inspected in the night.
    width
        Usual distance of the scores' quartiles: quartiles and median have a sampling error of at most about 1.25 times
        this over the root of the number of images.
    """
    sampling = 1.25 * width / math.sqrt(images)
    return departure(value, trailing, least_scale=max(sampling, SCORE_RESOLUTION))


def qn_scale(values: npt.NDArray[np.float64]) -> float:
    """Return Qn, a standard deviation that half of the values (n,) cannot spoil: about the first quartile of distances.

    Rousseeuw and Croux, Alternatives to the median absolute deviation, JASA 1993.
    """
    first, second = np.triu_indices(len(values), 1)
    half = len(values) // 2 + 1
    return 2.2219 * float(np.sort(np.abs(values[first] - values[second]))[half * (half - 1) // 2 - 1])


def _arcsine(counts: tuple[int, int]) -> float:
    defective, inspected = counts
    return 2 * math.asin(math.sqrt((defective + 3 / 8) / (inspected + 3 / 4)))


def _rate(turned: float, *, inspected: int) -> float:
    """Return the rate, of so many images, whose arcsine this is; 0 or 1 where there is none."""
    share = math.sin(min(max(turned, 0.0), math.pi) / 2) ** 2
    return min(max((share * (inspected + 3 / 4) - 3 / 8) / inspected, 0.0), 1.0)
