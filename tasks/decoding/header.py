"""What an image file says of itself, and the reader that notices where it ends."""

import io
import struct
from dataclasses import dataclass
from typing import Any, NoReturn

from PIL import Image

from ssdnet_core.errors import SsdnetError

ORIENTATION_TAG = 274


# Not a ValueError too, as the other errors are: decoders catch those, and would swallow the one below.
class DecodeError(SsdnetError):
    """The bytes are no image that can be inspected: unknown, damaged, too large or of an unusual kind."""


class IncompleteHeaderError(DecodeError):
    """The bytes end before the header does: pass more of the file, or all of it."""


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """What an image file says of itself before any pixel is decoded.

    Attributes
    ----------
    format
        "PNG", "JPEG", "TIFF", "BMP" or "WebP".
    height, width
        In pixels; :func:`read_header` applies the EXIF orientation, the readers of a format do not.
    channels
        1 (grey) or 3 (RGB); alpha does not count.
    bit_depth
        8 or 16 (unsigned integers), 32 or 64 (floating point), as :func:`decode` returns them.
    has_alpha
        Whether there is an alpha channel or a transparent colour.
    """

    format: str
    height: int
    width: int
    channels: int
    bit_depth: int
    has_alpha: bool


class ExactReader(io.BytesIO):
    """A file that raises when it ends early, where decoders would go on with the bytes they got."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read ``size`` bytes, all of them or none."""
        found = super().read(size)
        if size is not None and len(found) < size:
            self._raise_at_end()
        return found

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer, wholly or not at all."""
        count = super().readinto(buffer)
        if count < memoryview(buffer).nbytes:
            self._raise_at_end()
        return count

    def _raise_at_end(self) -> NoReturn:
        raise IncompleteHeaderError(f"header goes on past the {self.tell()} bytes given: pass the whole file")

    def unpack(self, layout: str) -> tuple[Any, ...]:
        """Read the values of a :mod:`struct` layout."""
        return struct.unpack(layout, self.read(struct.calcsize(layout)))


def orientation_in(exif: bytes) -> int:
    """Return the orientation, 1 to 8, in a block of EXIF data."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        return orientation(tags.get(ORIENTATION_TAG))
    # Damaged EXIF data say nothing against the pixels: these stay as stored.
    except Exception:  # noqa: BLE001
        return 1


def orientation(value: object) -> int:
    """Return a tag's value if it is an orientation, 1 to 8, else 1: as stored."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
