"""A line as it is deployed at the Prefect server."""

from dataclasses import dataclass
from uuid import UUID

from ssdnet_core.config import Config


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line's deployment, and what it runs its nights with.

    Attributes
    ----------
    deployment, id
        Name as ``nightly/line-1``, and id.
    name
        Name of the line.
    images, results
        Addresses of all lines' images, and of the results.
    timezone
        Name of the site's time zone.
    config
        Settings of the method.
    pool
        The work pool that its runs take a place of.
    limit
        Most of its runs at once; None for any number.
    problem
        Why no night can run through it, else empty.
    """

    deployment: str
    id: UUID
    name: str
    images: str
    results: str
    timezone: str
    config: Config
    pool: str | None
    limit: int | None
    problem: str = ""
