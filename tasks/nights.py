"""Which night of which line a batch holds: its name tells."""

import re
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, order=True)
class Night:
    """One night of a line: a batch named ``LINE-YYYY-MM-DD``, or ``LINE-YYYY-MM-DD~FINGERPRINT`` under other settings.

    Attributes
    ----------
    line
        Name of the line.
    day
        The day its images were taken.
    """

    line: str
    day: date


def night_of(batch: str) -> Night | None:
    """Return the night that a batch holds, None if its name is not that of one."""
    parts = re.fullmatch(r"(?P<line>.+)-(?P<day>\d{4}-\d{2}-\d{2})(~[0-9a-f]+)?", batch)
    if parts is None:
        return None
    try:
        return Night(line=parts["line"], day=date.fromisoformat(parts["day"]))
    except ValueError:
        return None  # Digits that are no date: 2026-13-40.
