"""How many false alarms a score would raise by chance: the a-contrario reading of the anomaly map.

The map is normalised by the image's own medians, so one law serves all images: the number of false alarms (NFA;
Desolneux, Moisan and Morel, IJCV 2000) above a level falls exponentially with the level. Its two constants were
measured on defect-free photographs of four textures; how far apart the levels of *this* image's normal surface lie is
estimated from the image itself (docs/METHOD.md).
"""

import math

import numpy as np
import numpy.typing as npt

LOG_NFA_AT_ZERO = 6.97
LOG_NFA_SLOPE = 1.2
REFERENCE_AREA = 256 * 256
MOST_SIGNIFICANT = 100.0
LOWEST_ALARM = 1.0
"""No alarm below one robust standard deviation, however many are asked for: a map of zeros has none."""

CALM_SPREAD = 0.45
"""Distance from the 10 % quantile of the verdict's map to its median, on the calmer third of the good photographs."""

MOST_RESTLESS = 2.0


def restlessness(judged: npt.NDArray[np.float32], counted: npt.NDArray[np.bool_]) -> float:
    """Return how restless an image's normal surface is, relative to the photographs that the law was measured on.

    The root of the spread of the lower half of the verdict's map, which defects on less than half of the surface do not
    reach. On leather with folds or metal in uneven light a peak means less than on a plain weave. The root, since the
    lower half tells only part of how heavy the upper tail is; a calmer surface than most is given no lower level
    (docs/METHOD.md has the variants).

    Parameters
    ----------
    judged
        (H, W), :func:`ssdnet_core.scoring.verdict_map`.
    counted
        (H, W), True where a pixel counts.

    Returns
    -------
    float
        1 on a calm image, at most 2.
    """
    low, middle = np.quantile(judged[counted], (0.1, 0.5))
    return float(np.clip(math.sqrt((middle - low) / CALM_SPREAD), 1.0, MOST_RESTLESS))


def significance(level: float, *, area: float, restless: float = 1.0) -> float:
    """Return -log10 of the expected number of false alarms above a level, at most 100.

    1 means: an image without defects reaches this level once in ten. The law was measured up to 3 or so; what lies
    beyond only orders the images.

    Parameters
    ----------
    level
        A value of :func:`ssdnet_core.scoring.verdict_map`, in robust standard deviations.
    area
        Number of pixels at the working size among which the level was sought.
    restless
        The image's :func:`restlessness`.
    """
    log_nfa = _log_nfa_at_zero(area) - LOG_NFA_SLOPE * level / restless
    return min(MOST_SIGNIFICANT, -log_nfa / math.log(10))


def alarm_level(expected_false_alarms: float, *, area: float, restless: float = 1.0) -> float:
    """Return the level that images without defects exceed the given number of times on average.

    The inverse of :func:`significance`, but at least 1.
    """
    quiet = (_log_nfa_at_zero(area) - math.log(expected_false_alarms)) / LOG_NFA_SLOPE
    return max(LOWEST_ALARM, quiet * restless)


def _log_nfa_at_zero(area: float) -> float:
    # More places, more chances. A smaller image is not given a lower level: its own medians are less certain.
    return LOG_NFA_AT_ZERO + math.log(max(area, REFERENCE_AREA) / REFERENCE_AREA)
