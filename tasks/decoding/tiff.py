"""TIFF, by tifffile: one page, grey or RGB, lossless compression; whatever tifffile would paper over is refused."""

import io
import math
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from tasks.decoding.header import ORIENTATION_TAG, DecodeError, ExactReader, ImageHeader, orientation

_PHOTOMETRIC_TAG = 262
_PREMULTIPLIED = "ASSOCALPHA"

# Lossless ones only: a damaged JPEG strip comes back partly grey without an error, and has a size of its own.
_COMPRESSIONS = ("NONE", "LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "ZSTD")
_SAMPLES = {
    "MINISWHITE": ("b1", "u2", "u4", "u8", "u16"),
    "MINISBLACK": ("b1", "u2", "u4", "u8", "u16", "f16", "f32", "f64"),
    "RGB": ("u8", "u16", "f16", "f32", "f64"),
    "PALETTE": ("b1", "u2", "u4", "u8"),
}
"""Kind and bits of the samples read, by colour space."""
_LARGEST_TILE = 2**24
"""Samples a TIFF tile may have even where its image has fewer: a tile is decoded whole, however large."""


def tiff_header(data: bytes) -> tuple[ImageHeader, int]:
    """Return the header as stored, and the orientation it is stored in."""
    if (pages := _count_tiff_pages(data)) > 1:
        raise DecodeError(f"TIFF has {pages} pages: split it into one file per page")
    # Tifffile drops tags whose values lie beyond the size it knows; here it is to run into the end instead.
    with tifffile.TiffFile(ExactReader(data), size=sys.maxsize) as tiff:
        page = tiff.pages.first
        _require_plain_tiff(page)
        has_alpha = _has_alpha(page)
        channels = 3 if _name(page.photometric) == "PALETTE" else page.samplesperpixel - has_alpha
        bit_depth = max(32 if _sample_kind(page) == "f" else 8, page.bitspersample)
        height, width = int(page.imagelength), int(page.imagewidth)
        header = ImageHeader(
            format="TIFF", height=height, width=width, channels=channels, bit_depth=bit_depth, has_alpha=has_alpha
        )
        return header, orientation(page.tags.valueof(ORIENTATION_TAG))


def _count_tiff_pages(data: bytes) -> int:
    # By hand: where the chain of pages leaves the bytes given, tifffile ends it.
    reader = ExactReader(data)
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
    if colours not in _SAMPLES:
        raise DecodeError(f"TIFF has colour space {colours}: convert it to grey or RGB")
    if f"{_sample_kind(page)}{page.bitspersample}" not in _SAMPLES[colours]:
        raise DecodeError(
            f"TIFF has {page.bitspersample}-bit samples of type {page.dtype} and colour space {colours}: "
            "convert it to uint8, uint16 or float32, grey or RGB"
        )
    if _name(page.compression) not in _COMPRESSIONS:
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
    return _last_extra_sample(page) in (_PREMULTIPLIED, "UNASSALPHA")


def _last_extra_sample(page: tifffile.TiffPage) -> str:
    return _name(page.extrasamples[-1]) if page.extrasamples else ""


def _require_all_or_nothing(alpha: npt.NDArray[Any]) -> None:
    """Refuse partial alpha: colours multiplied by it are no longer the surface's own."""
    full = 1 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
    between = np.count_nonzero((alpha > 0) & (alpha < full))
    if between:
        raise DecodeError(
            f"TIFF has {between} pixels of partial transparency whose colours were multiplied by it: save it with "
            "unassociated alpha, or without"
        )


def _name(value: object) -> str:
    return str(getattr(value, "name", value))


def tiff_samples(data: bytes, header: ImageHeader) -> npt.NDArray[Any]:
    """Return (H, W, C) of the file's own type, or of uint8 for a palette, alpha last."""
    with tifffile.TiffFile(ExactReader(data)) as tiff:
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
    if _last_extra_sample(page) == _PREMULTIPLIED:
        _require_all_or_nothing(samples[:, :, -1])
    if colours == "MINISWHITE":
        grey = samples[:, :, :1]
        np.subtract(np.iinfo(samples.dtype).max, grey, out=grey)
    return samples


def _require_all_segments(page: tifffile.TiffPage) -> None:
    """Refuse missing segments, which tifffile fills with zeros, and tiles of excess size."""
    expected = math.prod(page.chunked)
    segments = zip(page.dataoffsets, page.databytecounts, strict=False)
    present = sum(offset > 0 and count > 0 for offset, count in segments)
    if present != expected:
        raise DecodeError(f"TIFF has {present} of its {expected} strips or tiles: write the file again")
    if math.prod(page.chunks) > max(_LARGEST_TILE, math.prod(page.shape)):
        raise DecodeError(f"TIFF has tiles of {page.chunks} samples: write it with smaller ones")
