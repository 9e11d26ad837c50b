"""How many false alarms a score would raise by chance: the a-contrario reading of the anomaly map.

The map is normalised by the image's own medians, so one law serves all images: the number of false alarms (NFA;
Desolneux, Moisan and Morel, IJCV 2000) above a level falls exponentially with the level. Its two constants were
fitted to defect-free photographs of five textures, and drawn a little towards other surfaces; how high the levels of
*this* image's normal surface are is estimated from the image itself (:mod:`ssdnet_core.restlessness`).
"""

import math

LOG_NFA_AT_ZERO = 6.75
LOG_NFA_SLOPE = 1.27
REFERENCE_AREA = 256 * 256
MOST_SIGNIFICANT = 100.0


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
        The image's :func:`~ssdnet_core.restlessness.restlessness`.
    """
    log_nfa = _log_nfa_at_zero(area) - LOG_NFA_SLOPE * level / restless
    return min(MOST_SIGNIFICANT, -log_nfa / math.log(10))


def alarm_level(expected_false_alarms: float, *, area: float, restless: float = 1.0) -> float:
    """Return the level that images without defects exceed the given number of times on average.

    The inverse of :func:`significance`. On the calmest surface, and for 100 false alarms, the most that can be asked
    for, the level is still 1.4.
    """
    quiet = (_log_nfa_at_zero(area) - math.log(expected_false_alarms)) / LOG_NFA_SLOPE
    return quiet * restless


def _log_nfa_at_zero(area: float) -> float:
    # More places, more chances. A smaller image is not given a lower level: its own medians are less certain.
    return LOG_NFA_AT_ZERO + math.log(max(area, REFERENCE_AREA) / REFERENCE_AREA)
