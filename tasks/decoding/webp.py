"""WebP: the header by hand, since libwebp takes whole files only."""

import io
from typing import Any

import imagecodecs
import numpy.typing as npt

from tasks.decoding.header import DecodeError, ExactReader, ImageHeader, orientation_in


def webp_header(data: bytes) -> tuple[ImageHeader, int]:
    """Return the header as stored, and the orientation it is stored in."""
    reader = ExactReader(data)
    end, kind = reader.unpack("<4xI4x4s4x")
    exif = b""
    if kind == b"VP8X":
        flags, *sides = reader.unpack("<B3xHBHB")
        width, height = sides[0] + (sides[1] << 16) + 1, sides[2] + (sides[3] << 16) + 1
        has_alpha = bool(flags & 0x10)
        if flags & 0x02:
            raise DecodeError("WebP is an animation: split it into one file per frame")
        if flags & 0x08:
            exif = _webp_exif(reader, end + 8)
    elif kind == b"VP8L":
        (bits,) = reader.unpack("<xI")
        width, height, has_alpha = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in reader.unpack("<6xHH"))
        has_alpha = False
    else:
        raise DecodeError(f"damaged WebP: it begins with a chunk of type {kind!r}: write the file again")
    return ImageHeader(
        format="WebP", height=height, width=width, channels=3, bit_depth=8, has_alpha=has_alpha
    ), orientation_in(exif)


def _webp_exif(reader: ExactReader, end: int) -> bytes:
    while reader.tell() < end:
        kind, length = reader.unpack("<4sI")
        if kind == b"EXIF":
            return reader.read(length)
        reader.seek(length + length % 2, io.SEEK_CUR)
    return b""


def webp_samples(data: bytes, header: ImageHeader) -> npt.NDArray[Any]:
    """Return (H, W, C) of uint8, alpha last."""
    return imagecodecs.webp_decode(data, hasalpha=header.has_alpha)
