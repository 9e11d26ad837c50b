"""Numbers of things in words, for messages."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as ``1 image`` and ``2 images``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
