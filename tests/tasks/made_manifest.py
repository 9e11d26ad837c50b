"""A manifest of keys alone."""

from ssdnet_core.config import Config
from tasks.manifest import ImageEntry, Manifest


def manifest(*keys: str, settings: Config | None = None, source: str = "/in") -> Manifest:
    entries = tuple(ImageEntry(index=i, key=key, etag=f"e{i}", size=1) for i, key in enumerate(keys))
    return Manifest(batch="n", input=source, pattern="", config=settings or Config(), entries=entries)
