"""From the bytes of an image file to arrays: bit depth kept, upright, any fault of the file a :class:`DecodeError`."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL.BmpImagePlugin import BmpImageFile

from tasks.decoding.header import DecodeError, ImageHeader, IncompleteHeaderError
from tasks.decoding.jpeg_warnings import jpeg_warnings
from tasks.decoding.pillow_formats import (
    bmp_header,
    jpeg_header,
    jpeg_samples,
    pillow_samples,
    png_header,
    png_samples,
)
from tasks.decoding.tiff import tiff_header, tiff_samples
from tasks.decoding.webp import webp_header, webp_samples

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "SUFFIXES",
    "DecodeError",
    "DecodedImage",
    "ImageHeader",
    "IncompleteHeaderError",
    "decode",
    "read_header",
    "require_size",
]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp"})
"""Lower-case suffixes of the files worth opening; their format is told by content, never by name."""

MAX_PIXELS = 400_000_000
"""Height times width above which an image is refused before any of its pixels is decoded."""

MAX_BYTES = 8 * MAX_PIXELS
"""Size above which a file is refused before it is read: as many pixels with colour, alpha and 16 bits take no more."""

_SIGNATURES = {
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "TIFF": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "BMP": re.compile(rb"BM"),
    "WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
_SMALLER = "cut it into parts, or scale it down"
_DTYPES = {8: np.uint8, 16: np.uint16, 32: np.float32, 64: np.float64}
_LARGEST = np.finfo(np.float32).max


@dataclass(frozen=True, eq=False, kw_only=True)
class DecodedImage:
    """The pixels of an image, upright, and which of them count.

    Attributes
    ----------
    pixels
        (H, W) grey or (H, W, 3) RGB, contiguous; uint8, uint16, float32 or float64, in the units of the
        file.
    mask
        (H, W) bool, True where a pixel does not count: its alpha is below half of full, or one of its values
        is not finite in single precision (the pixel is 0 then). None where every pixel counts.
    not_finite
        Share of the pixels that are not transparent and have such a value, 0 to 1.
    warnings
        What the reader of the result should know of the file.
    """

    pixels: npt.NDArray[np.generic]
    mask: npt.NDArray[np.bool_] | None
    not_finite: float = 0.0
    warnings: tuple[str, ...] = ()


def require_size(size: int) -> None:
    """Raise a :class:`DecodeError` if a file of so many bytes is larger than any image that is accepted."""
    if size > MAX_BYTES:
        raise DecodeError(f"file has {size / 1e9:.3g} GB, over the limit of {MAX_BYTES / 1e9:g}: {_SMALLER}")


def read_header(data: bytes) -> ImageHeader:
    """Read the header of an image file without decoding its pixels.

    Parameters
    ----------
    data
        The bytes of the file, or its first ones: 64 KiB are enough for most PNG, JPEG, BMP and WebP files.

    Raises
    ------
    IncompleteHeaderError
        If the header goes on past the end of `data`: the directory of a TIFF often stands at the end of the
        file, as does the EXIF orientation of a WebP.
    DecodeError
        If the bytes are no supported image, or one of more than `MAX_PIXELS`.
    """
    header, orientation = _stored_header(data)
    return replace(header, height=header.width, width=header.height) if orientation >= 5 else header


def decode(data: bytes) -> DecodedImage:
    """Decode an image file at its full bit depth.

    Parameters
    ----------
    data
        All bytes of a PNG, JPEG, TIFF, BMP or WebP file.

    Raises
    ------
    DecodeError
        If the bytes are no supported image, one cut short, or one of more than `MAX_PIXELS`.
    MemoryError
        If there is not enough for its pixels at the moment.
    """
    try:
        header, orientation = _stored_header(data)
        with _decoder_errors(header.format, data):
            samples = _SAMPLE_READERS[header.format](data, header)
            warnings = jpeg_warnings(data) if header.format == "JPEG" else ()
    except IncompleteHeaderError as error:
        raise DecodeError(
            f"truncated {_format_of(data)}: it goes on past the {len(data)} bytes there are: "
            "transfer or write the file again"
        ) from error
    return replace(_decoded_image(samples, header, orientation=orientation), warnings=warnings)


def _format_of(data: bytes) -> str:
    if not data:
        raise DecodeError("empty file (0 bytes): transfer or write the file again")
    for name, signature in _SIGNATURES.items():
        if signature.match(data):
            return name
    start = ascii(data[:8].decode("latin-1"))
    raise DecodeError(f"not a PNG, JPEG, TIFF, BMP or WebP image: it begins with {start}: convert it to one of these")


def _stored_header(data: bytes) -> tuple[ImageHeader, int]:
    """Header with height and width as stored, and the orientation that they are stored in."""
    name = _format_of(data)
    with _decoder_errors(name, data):
        try:
            header, orientation = _HEADER_READERS[name](data)
        except MemoryError as error:
            raise DecodeError(f"{name} header asks for more memory than there is: write the file again") from error
    size, pixels = f"{header.width} x {header.height}", header.height * header.width
    if min(header.height, header.width) < 1:
        raise DecodeError(f"{name} image is {size} and so has no pixels: write the file again")
    if pixels > MAX_PIXELS:
        raise DecodeError(
            f"image is {size} = {pixels / 1e6:g} megapixels, over the limit of {MAX_PIXELS / 1e6:g}: {_SMALLER}"
        )
    return header, orientation


@contextmanager
def _decoder_errors(name: str, data: bytes) -> Iterator[None]:
    try:
        yield
    # Memory may be there the next time: no fault of the image.
    except (DecodeError, MemoryError):
        raise
    # From malformed bytes the decoders raise anything, SyntaxError and KeyError included.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DecodeError(
            f"truncated or damaged {name} ({len(data)} bytes): {reason}: transfer or write the file again"
        ) from error


def _decoded_image(samples: npt.NDArray[Any], header: ImageHeader, *, orientation: int) -> DecodedImage:
    if samples.ndim == 2:
        samples = samples[:, :, None]
    expected = (header.height, header.width, header.channels + header.has_alpha)
    if samples.shape != expected:
        raise DecodeError(f"damaged {header.format}: header says {expected}, data {samples.shape}: write it again")
    pixels = samples[:, :, : header.channels].astype(_DTYPES[header.bit_depth], copy=False)
    floating = header.bit_depth >= 32
    mask, not_finite = np.zeros(pixels.shape[:2], dtype=bool), 0.0
    if header.has_alpha:
        full = 1.0 if floating else np.iinfo(pixels.dtype).max
        mask |= ~(samples[:, :, -1] >= full / 2)
    if floating:
        # Double precision is kept, for small differences between large values; those beyond single mean no data.
        finite = (np.abs(pixels) <= _LARGEST).all(axis=2)
        pixels = np.where(finite[:, :, None], pixels, pixels.dtype.type(0))
        not_finite = float((~finite & ~mask).mean())
        mask |= ~finite
    upright = _upright(pixels[:, :, 0] if header.channels == 1 else pixels, orientation)
    left_out = _upright(mask, orientation) if mask.any() else None
    return DecodedImage(pixels=upright, mask=left_out, not_finite=not_finite)


def _upright(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)


# For each format a reader of its header, as stored, and one of its samples: (H, W) or (H, W, C), alpha last.
_HEADER_READERS: dict[str, Callable[[bytes], tuple[ImageHeader, int]]] = {
    "PNG": png_header,
    "JPEG": jpeg_header,
    "TIFF": tiff_header,
    "BMP": bmp_header,
    "WebP": webp_header,
}
_SAMPLE_READERS: dict[str, Callable[[bytes, ImageHeader], npt.NDArray[Any]]] = {
    "PNG": png_samples,
    "JPEG": jpeg_samples,
    "TIFF": tiff_samples,
    "BMP": partial(pillow_samples, plugin=BmpImageFile),
    "WebP": webp_samples,
}
