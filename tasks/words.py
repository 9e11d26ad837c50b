"""Numbers as people read them."""

import math


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as ``1 image`` and ``2 images``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def shown_score(score: float) -> str:
    """Return a score with two decimals, the others cut off: rounded, a good image's .998 would reach the alarm at 1."""
    # Two decimals of a binary fraction may lie a rounding error below what was meant.
    return f"{math.floor(round(100 * score, 6)) / 100:.2f}"
