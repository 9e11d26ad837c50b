"""What an object's key tells of it."""

from pathlib import PurePosixPath


def suffix_of(key: str) -> str:
    """Return its suffix in lower case, as ``.png``; empty if it has none."""
    return PurePosixPath(key).suffix.lower()


def without_suffix(key: str) -> str:
    """Return the key less its last suffix."""
    return str(PurePosixPath(key).with_suffix(""))


def is_hidden(key: str) -> bool:
    """Whether it, or a folder it lies in, is a hidden one."""
    return any(part.startswith(".") for part in key.split("/"))
