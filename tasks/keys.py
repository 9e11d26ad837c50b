"""Suffixes of objects' keys, and which keys are hidden."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath


def suffix_of(key: str) -> str:
    """Return its suffix in lower case, as ``.png``; empty if it has none."""
    return PurePosixPath(key).suffix.lower()


def suffixes_of(keys: Iterable[str]) -> Counter[str]:
    """Return how many keys end in each suffix."""
    return Counter(map(suffix_of, keys))


def count_by_suffix(suffixes: Mapping[str, int]) -> str:
    """Return in words what :func:`suffixes_of` counts, as ``3 .heic, 1 without a suffix``."""
    return ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in sorted(suffixes.items()))


def without_suffix(key: str) -> str:
    """Return the key less its last suffix."""
    return str(PurePosixPath(key).with_suffix(""))


def is_hidden(key: str) -> bool:
    """Whether it, or a folder it lies in, is a hidden one."""
    return any(part.startswith(".") for part in key.split("/"))
