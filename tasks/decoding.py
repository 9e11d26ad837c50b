"""From the bytes of an image file to arrays: bit depth kept, upright, only :class:`DecodeError` raised."""

import io
import math
import re
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from ssdnet_core.errors import SsdnetError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
"""Lower-case suffixes of the files worth opening; their format is told by content, never by name."""

DEFAULT_MAX_PIXELS = 400_000_000
"""Height times width above which an image is refused before any of its pixels is decoded."""

_SIGNATURES = {
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "TIFF": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "BMP": re.compile(rb"BM"),
    "WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
_DTYPES = {8: np.uint8, 16: np.uint16, 32: np.float32}
_ORIENTATION_TAG = 274
_PHOTOMETRIC_TAG = 262

# Lossless ones only: a damaged JPEG strip comes back partly grey without an error, and has a size of its own.
_TIFF_COMPRESSIONS = ("NONE", "LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "ZSTD")
_TIFF_SAMPLES = {
    "MINISWHITE": ("b1", "u2", "u4", "u8", "u16"),
    "MINISBLACK": ("b1", "u2", "u4", "u8", "u16", "f16", "f32", "f64"),
    "RGB": ("u8", "u16", "f16", "f32", "f64"),
    "PALETTE": ("b1", "u2", "u4", "u8"),
}
"""Kind and bits of the samples read, by colour space."""
_LARGEST_TILE = 2**24
"""Samples a TIFF tile may have even where its image has fewer: a tile is decoded whole, however large."""


# Not a ValueError too, as the other errors are: decoders catch those, and would swallow the one below.
class DecodeError(SsdnetError):
    """The bytes are no image that can be inspected: unknown, damaged, too large or of an unusual kind."""


class IncompleteHeaderError(DecodeError):
    """The bytes end before the header does: pass more of the file, or all of it."""


@dataclass(frozen=True)
class ImageHeader:
    """What an image file says of itself before any pixel is decoded.

    Attributes
    ----------
    format
        "PNG", "JPEG", "TIFF", "BMP" or "WebP".
    height, width
        In pixels, with the EXIF orientation applied.
    channels
        1 (grey) or 3 (RGB); alpha does not count.
    bit_depth
        8 or 16 (unsigned integers) or 32 (floating point), as :func:`decode` returns them.
    has_alpha
        Whether there is an alpha channel or a transparent colour.
    """

    format: str
    height: int
    width: int
    channels: int
    bit_depth: int
    has_alpha: bool


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """The pixels of an image, upright, and which of them count.

    Attributes
    ----------
    pixels
        (H, W) grey or (H, W, 3) RGB, contiguous; uint8, uint16 or float32, in the units of the file.
    mask
        (H, W) bool, True where a pixel does not count: its alpha is below half of full, or one of its values
        is not finite (the pixel is 0 then). None where every pixel counts.
    """

    pixels: npt.NDArray[np.generic]
    mask: npt.NDArray[np.bool_] | None


def read_header(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageHeader:
    """Read the header of an image file without decoding its pixels.

    Parameters
    ----------
    data
        The bytes of the file, or its first ones: 64 KiB are enough for most PNG, JPEG, BMP and WebP files.
    max_pixels
        Largest height times width accepted.

    Raises
    ------
    IncompleteHeaderError
        If the header goes on past the end of `data`: the directory of a TIFF often stands at the end of the
        file, as does the EXIF orientation of a WebP.
    DecodeError
        If the bytes are no supported image, or one of more than `max_pixels`.
    """
    header, orientation = _stored_header(data, max_pixels)
    return replace(header, height=header.width, width=header.height) if orientation >= 5 else header


def decode(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> DecodedImage:
    """Decode an image file at its full bit depth.

    Parameters
    ----------
    data
        All bytes of a PNG, JPEG, TIFF, BMP or WebP file.
    max_pixels
        Largest height times width accepted, checked before any pixel is decoded.

    Raises
    ------
    DecodeError
        If the bytes are no supported image, one cut short, or one of more than `max_pixels`.
    """
    try:
        header, orientation = _stored_header(data, max_pixels)
        with _decoder_errors(header.format, data):
            samples = _SAMPLE_READERS[header.format](data, header)
    except IncompleteHeaderError as error:
        raise DecodeError(
            f"truncated {_format_of(data)}: it goes on past the {len(data)} bytes there are: "
            "transfer or write the file again"
        ) from error
    return _decoded_image(samples, header, orientation)


def _format_of(data: bytes) -> str:
    if not data:
        raise DecodeError("empty file (0 bytes): transfer or write the file again")
    for name, signature in _SIGNATURES.items():
        if signature.match(data):
            return name
    start = ascii(data[:8].decode("latin-1"))
    raise DecodeError(f"not a PNG, JPEG, TIFF, BMP or WebP image: it begins with {start}: convert it to one of these")


def _stored_header(data: bytes, max_pixels: int) -> tuple[ImageHeader, int]:
    """Header with height and width as stored, and the orientation that they are stored in."""
    name = _format_of(data)
    with _decoder_errors(name, data):
        header, orientation = _HEADER_READERS[name](data)
    size, pixels = f"{header.height} x {header.width}", header.height * header.width
    if min(header.height, header.width) < 1:
        raise DecodeError(f"{name} image is {size} and so has no pixels: write the file again")
    if pixels > max_pixels:
        limit = f"{max_pixels / 1e6:g}"
        raise DecodeError(f"image is {size} = {pixels / 1e6:g} megapixels, over the limit of {limit}: raise max_pixels")
    return header, orientation


@contextmanager
def _decoder_errors(name: str, data: bytes) -> Iterator[None]:
    try:
        yield
    except DecodeError:
        raise
    except MemoryError as error:
        raise DecodeError(f"{name} image asks for more memory than there is: split it, or write it again") from error
    # From malformed bytes the decoders raise anything, SyntaxError and KeyError included.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DecodeError(
            f"truncated or damaged {name} ({len(data)} bytes): {reason}: transfer or write the file again"
        ) from error


def _decoded_image(samples: npt.NDArray[Any], header: ImageHeader, orientation: int) -> DecodedImage:
    if samples.ndim == 2:
        samples = samples[:, :, None]
    expected = (header.height, header.width, header.channels + header.has_alpha)
    if samples.shape != expected:
        raise DecodeError(f"damaged {header.format}: header says {expected}, data {samples.shape}: write it again")
    # Above what float32 holds, float64 turns infinite, and is masked as such.
    with np.errstate(over="ignore"):
        pixels = samples[:, :, : header.channels].astype(_DTYPES[header.bit_depth], copy=False)
    mask = np.zeros(pixels.shape[:2], dtype=bool)
    if header.has_alpha:
        full = 1.0 if header.bit_depth == 32 else np.iinfo(pixels.dtype).max
        mask |= ~(samples[:, :, -1] >= full / 2)
    if header.bit_depth == 32:
        finite = np.isfinite(pixels).all(axis=2)
        pixels = np.where(finite[:, :, None], pixels, np.float32(0))
        mask |= ~finite
    upright = _upright(pixels[:, :, 0] if header.channels == 1 else pixels, orientation)
    return DecodedImage(upright, _upright(mask, orientation) if mask.any() else None)


def _upright(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)


def _orientation_in(exif: bytes) -> int:
    tags = Image.Exif()
    try:
        tags.load(exif)
        return _orientation(tags.get(_ORIENTATION_TAG))
    # Damaged EXIF data say nothing against the pixels: these stay as stored.
    except Exception:  # noqa: BLE001
        return 1


def _orientation(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


class _ExactReader(io.BytesIO):
    """A file that raises when it ends early, where decoders would go on with the bytes they got."""

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if size is not None and len(found) < size:
            self._raise_at_end()
        return found

    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer)
        if count < memoryview(buffer).nbytes:
            self._raise_at_end()
        return count

    def _raise_at_end(self) -> NoReturn:
        raise IncompleteHeaderError(f"header goes on past the {self.tell()} bytes given: pass the whole file")

    def unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self.read(struct.calcsize(layout)))


# Below, each format has a reader of its header, as stored, and one of its samples: (H, W) or (H, W, C), alpha
# last. Pillow's plug-ins are called directly: Image.open adds a pixel limit of its own, which is global.


def _png_header(data: bytes) -> tuple[ImageHeader, int]:
    image = PngImageFile(_ExactReader(data))
    if image.n_frames > 1:
        raise DecodeError(f"PNG is an animation of {image.n_frames} frames: split it into one file per frame")
    # Pillow's mode does not tell: it takes 16-bit grey with alpha for 8-bit RGBA.
    bit_depth, colour_type = data[24], data[25]
    channels = 3 if colour_type & 2 else 1
    has_alpha = bool(colour_type & 4) or "transparency" in image.info
    header = ImageHeader("PNG", image.height, image.width, channels, max(8, bit_depth), has_alpha)
    return header, _orientation_in(image.info.get("exif", b""))


def _png_samples(data: bytes, header: ImageHeader) -> npt.NDArray[Any]:
    # Pillow does without the last chunk, and without the checksum of the pixels before it.
    _require_png_end(data)
    # Pillow first, at any bit depth: with each PNG that imagecodecs 2026.3 fails on, it drops a reference to
    # None that it does not own, and after some thousands of these Python 3.11 aborts.
    samples = _pillow_samples(PngImageFile, data, header)
    return imagecodecs.png_decode(data) if header.bit_depth == 16 else samples


def _require_png_end(data: bytes) -> None:
    reader = _ExactReader(data)
    reader.seek(8)
    kind = b""
    while kind != b"IEND":
        length, kind = reader.unpack(">I4s")
        reader.seek(length, io.SEEK_CUR)
        reader.unpack(">I")


def _jpeg_header(data: bytes) -> tuple[ImageHeader, int]:
    image = JpegImageFile(_ExactReader(data))
    return _pillow_header(image), _orientation_in(image.info.get("exif", b""))


def _bmp_header(data: bytes) -> tuple[ImageHeader, int]:
    image = BmpImageFile(_ExactReader(data))
    # What is missing of a run-length encoded one, Pillow fills with zeros.
    if image.info["compression"] in (BmpImageFile.COMPRESSIONS["RLE8"], BmpImageFile.COMPRESSIONS["RLE4"]):
        raise DecodeError("BMP is run-length encoded, which is not supported: save it uncompressed, or as PNG")
    return _pillow_header(image), 1


def _pillow_header(image: ImageFile) -> ImageHeader:
    channels = 1 if image.mode in ("1", "L") else 3
    return ImageHeader(str(image.format), image.height, image.width, channels, 8, image.mode == "RGBA")


def _pillow_samples(plugin: type[ImageFile], data: bytes, header: ImageHeader) -> npt.NDArray[Any]:
    mode = ("L" if header.channels == 1 else "RGB") + ("A" if header.has_alpha else "")
    return np.array(plugin(io.BytesIO(data)).convert(mode))


def _webp_header(data: bytes) -> tuple[ImageHeader, int]:
    # By hand: libwebp, and so Pillow, takes whole files only.
    reader = _ExactReader(data)
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
    return ImageHeader("WebP", height, width, 3, 8, has_alpha), _orientation_in(exif)


def _webp_exif(reader: _ExactReader, end: int) -> bytes:
    while reader.tell() < end:
        kind, length = reader.unpack("<4sI")
        if kind == b"EXIF":
            return reader.read(length)
        reader.seek(length + length % 2, io.SEEK_CUR)
    return b""


def _webp_samples(data: bytes, header: ImageHeader) -> npt.NDArray[Any]:
    return imagecodecs.webp_decode(data, hasalpha=header.has_alpha)


def _tiff_header(data: bytes) -> tuple[ImageHeader, int]:
    if (pages := _count_tiff_pages(data)) > 1:
        raise DecodeError(f"TIFF has {pages} pages: split it into one file per page")
    # Tifffile drops tags whose values lie beyond the size it knows; here it is to run into the end instead.
    with tifffile.TiffFile(_ExactReader(data), size=sys.maxsize) as tiff:
        page = tiff.pages.first
        _require_plain_tiff(page)
        has_alpha = _has_alpha(page)
        channels = 3 if _name(page.photometric) == "PALETTE" else page.samplesperpixel - has_alpha
        bit_depth = 32 if _sample_kind(page) == "f" else max(8, page.bitspersample)
        height, width = int(page.imagelength), int(page.imagewidth)
        header = ImageHeader("TIFF", height, width, channels, bit_depth, has_alpha)
        return header, _orientation(page.tags.valueof(_ORIENTATION_TAG))


def _count_tiff_pages(data: bytes) -> int:
    # By hand: where the chain of pages leaves the bytes given, tifffile ends it.
    reader = _ExactReader(data)
    order = "<" if reader.read(2) == b"II" else ">"
    big = reader.unpack(order + "H") == (43,)
    count, entry_size, link = ("Q", 20, "Q") if big else ("H", 12, "I")
    reader.seek(8 if big else 4)
    pages: set[int] = set()
    while offset := reader.unpack(order + link)[0]:
        if offset in pages:
            raise DecodeError("damaged TIFF: its last page leads back to an earlier one: write the file again")
        pages.add(offset)
        reader.seek(offset)
        (entries,) = reader.unpack(order + count)
        reader.seek(entries * entry_size, io.SEEK_CUR)
    return len(pages)


def _require_plain_tiff(page: tifffile.TiffPage) -> None:
    # The tag itself: tifffile's attribute says MINISWHITE where there is none.
    colours = _name(page.tags.valueof(_PHOTOMETRIC_TAG))
    if colours not in _TIFF_SAMPLES:
        raise DecodeError(f"TIFF has colour space {colours}: convert it to grey or RGB")
    if f"{_sample_kind(page)}{page.bitspersample}" not in _TIFF_SAMPLES[colours]:
        raise DecodeError(
            f"TIFF has {page.bitspersample}-bit samples of type {page.dtype} and colour space {colours}: "
            "convert it to uint8, uint16 or float32, grey or RGB"
        )
    if _name(page.compression) not in _TIFF_COMPRESSIONS:
        raise DecodeError(f"TIFF is compressed with {_name(page.compression)}: save it with LZW, Deflate or none")
    if page.samplesperpixel - _has_alpha(page) not in (1, 3):
        raise DecodeError(
            f"TIFF has {page.samplesperpixel} channels, {int(_has_alpha(page))} of them marked as alpha: "
            "keep one or three, and mark alpha as such"
        )
    if page.imagedepth != 1:
        raise DecodeError(f"TIFF is a volume of {page.imagedepth} slices: split it into one file per slice")


def _sample_kind(page: tifffile.TiffPage) -> str:
    return page.dtype.kind if page.dtype else ""


def _has_alpha(page: tifffile.TiffPage) -> bool:
    return bool(page.extrasamples) and _name(page.extrasamples[-1]) in ("ASSOCALPHA", "UNASSALPHA")


def _name(value: object) -> str:
    return str(getattr(value, "name", value))


def _tiff_samples(data: bytes, header: ImageHeader) -> npt.NDArray[Any]:
    with tifffile.TiffFile(_ExactReader(data)) as tiff:
        page = tiff.pages.first
        _require_all_segments(page)
        # One thread: whoever decodes many images does so side by side already.
        samples = page.asarray(maxworkers=1)
    if page.axes == "SYX":
        samples = np.moveaxis(samples, 0, -1)
    colours = _name(page.photometric)
    if colours == "PALETTE":
        # 16-bit: 256 or 257 times the 8-bit colours that it was made of.
        palette = np.asarray(page.colormap) >> 8
        return palette.astype(np.uint8).T[samples.astype(np.uint8)]
    samples = samples.reshape(header.height, header.width, -1)
    if page.bitspersample < 8:
        samples = samples.astype(np.uint8) * np.uint8(255 // (2**page.bitspersample - 1))
    if colours == "MINISWHITE":
        grey = samples[:, :, :1]
        np.subtract(np.iinfo(samples.dtype).max, grey, out=grey)
    return samples


def _require_all_segments(page: tifffile.TiffPage) -> None:
    """Tifffile fills missing strips and tiles with zeros, and allocates a tile of any size."""
    expected = math.prod(page.chunked)
    segments = zip(page.dataoffsets, page.databytecounts, strict=False)
    present = sum(offset > 0 and count > 0 for offset, count in segments)
    if present != expected:
        raise DecodeError(f"TIFF has {present} of its {expected} strips or tiles: write the file again")
    if math.prod(page.chunks) > max(_LARGEST_TILE, math.prod(page.shape)):
        raise DecodeError(f"TIFF has tiles of {page.chunks} samples: write it with smaller ones")


_HEADER_READERS: dict[str, Callable[[bytes], tuple[ImageHeader, int]]] = {
    "PNG": _png_header,
    "JPEG": _jpeg_header,
    "TIFF": _tiff_header,
    "BMP": _bmp_header,
    "WebP": _webp_header,
}
_SAMPLE_READERS: dict[str, Callable[[bytes, ImageHeader], npt.NDArray[Any]]] = {
    "PNG": _png_samples,
    "JPEG": partial(_pillow_samples, JpegImageFile),
    "TIFF": _tiff_samples,
    "BMP": partial(_pillow_samples, BmpImageFile),
    "WebP": _webp_samples,
}
