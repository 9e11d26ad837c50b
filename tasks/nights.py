"""A line's night: where its images lie, and how its batch is named.

A line (camera) has a folder of its own below the images of all lines, and in it one folder a day:
``IMAGES/LINE/YYYY-MM-DD``. Masks and truth lie likewise.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from ssdnet_core.errors import InvalidConfigError
from tasks.discovery import NothingToInspectError, list_images
from tasks.storage import Storage

DEFAULT_ZONE = "UTC"
"""Time zone of a site for which none is given."""


class NoSuchLineError(NothingToInspectError):
    """There is no folder of this line: a misspelt name must not look like a line that stood still."""


@dataclass(frozen=True)
class Night:
    """One day of a line.

    Attributes
    ----------
    line
        Name of the line: its folder below the images.
    day
        In the site's own time zone.
    """

    line: str
    day: date

    def __str__(self) -> str:
        return f"{self.line} {self.day.isoformat()}"

    @property
    def batch(self) -> str:
        """Name of its batch."""
        return f"{self.line}-{self.day.isoformat()}"

    def below(self, root: str) -> Storage:
        """Return its folder below that of all lines' images, masks or truth."""
        return Storage(root).below(self.line).below(self.day.isoformat())


def night_of(batch: str) -> Night | None:
    """Return the night that a batch holds, ``LINE-YYYY-MM-DD`` perhaps with ``~FINGERPRINT``; None if none."""
    parts = re.fullmatch(r"(?P<line>.+)-(?P<day>\d{4}-\d{2}-\d{2})(~[0-9a-f]+)?", batch)
    if parts is None:
        return None
    try:
        return Night(line=parts["line"], day=date.fromisoformat(parts["day"]))
    except ValueError:
        return None  # Digits that are no date: 2026-13-40.


def day_before(start: datetime, timezone: str | None) -> date:
    """Return the calendar day before a moment, both in the site's time zone, whatever its clocks did that night.

    ``timezone`` is as for :func:`site_zone`.

    Raises
    ------
    InvalidConfigError
        If there is no such time zone.
    """
    return start.astimezone(site_zone(timezone)).date() - timedelta(days=1)


def site_zone(timezone: str | None) -> ZoneInfo:
    """Return a time zone by its name; UTC if none is given, or an empty one, as an emptied form sends it.

    Raises
    ------
    InvalidConfigError
        If there is no such time zone.
    """
    try:
        return ZoneInfo(timezone or DEFAULT_ZONE)
    except (LookupError, ValueError, TypeError, OSError) as error:
        raise InvalidConfigError(f"there is no time zone {timezone!r}: use a name as Europe/Madrid") from error


def days_on_storage(images: str, line: str) -> frozenset[str]:
    """Return the names of the folders that a line has, which are its days.

    Raises
    ------
    NoSuchLineError
        If the line has no folder; names the lines there are.
    StorageError
        If the images cannot be listed.
    """
    root = Storage(images)
    lines = root.folders()
    if line not in lines:
        there = f"there are {', '.join(lines)}" if lines else "it holds no folder at all"
        raise NoSuchLineError(f"no line {line!r} in {root.address}: {there}")
    return frozenset(root.below(line).folders())


def count_images(images: str, night: Night, *, days: frozenset[str]) -> int:
    """Return how many images a night has; 0 if the line stood still.

    Parameters
    ----------
    days
        As :func:`days_on_storage` returns them.

    Raises
    ------
    NothingToInspectError
        If the night has files, but none of them is an image.
    """
    if night.day.isoformat() not in days:
        return 0
    folder = night.below(images)
    try:
        return len(list_images(folder))
    except NothingToInspectError:
        if folder.list():
            raise
        return 0  # A camera's computer may make the folder before the first image comes.
