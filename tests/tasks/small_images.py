"""Small images in a folder, and a source that notes what is read of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from tasks.storage import Storage
from tasks.storage_answers import StorageError


def write_image(path: Path, size: tuple[int, int] = (40, 50)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size[::-1]).save(path)
    return path


@dataclass(frozen=True)
class CountedStorage(Storage):
    """Notes what is read of it, and how much."""

    reads: list[tuple[str, int | None]] = field(default_factory=list)

    def read_many(self, keys: Iterable[str], *, end: int | None = None) -> dict[str, bytes | StorageError]:
        keys = list(keys)
        self.reads.extend((key, end) for key in keys)
        return super().read_many(keys, end=end)
