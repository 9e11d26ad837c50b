"""The two halves of what is measured of one map."""

from ssdnet_core.metrics import evaluate_and_count


def evaluate_map(scores, truth, *, valid=None):
    """Return the metrics alone."""
    return evaluate_and_count(scores, truth, valid=valid)[0]


def count_pixels(scores, truth, *, valid=None):
    """Return the counts alone."""
    return evaluate_and_count(scores, truth, valid=valid)[1]
