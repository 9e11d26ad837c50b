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
        Of the line.
    images, results
        Addresses.
    timezone
        The site's.
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
