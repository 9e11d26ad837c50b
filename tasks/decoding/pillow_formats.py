"""PNG, JPEG and BMP, by Pillow; 16-bit PNG, which Pillow cuts to 8 bits, and transparent grey by imagecodecs.

Pillow's plug-ins are called directly: ``Image.open`` adds a pixel limit of its own, which is global.
"""

import io
import re
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from tasks.decoding.header import DecodeError, ExactReader, ImageHeader, orientation_in

# A marker, not a stuffed byte or a restart in the pixels' data, nor a fill byte.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_JPEG_END = b"\xd9"


def png_header(data: bytes) -> tuple[ImageHeader, int]:
    """Return the header as stored, and the orientation it is stored in."""
    image = PngImageFile(ExactReader(data))
    if image.n_frames > 1:
        raise DecodeError(f"PNG is an animation of {image.n_frames} frames: split it into one file per frame")
    # Pillow's mode does not tell: it takes 16-bit grey with alpha for 8-bit RGBA.
    bit_depth, colour_type = data[24], data[25]
    channels = 3 if colour_type & 2 else 1
    has_alpha = bool(colour_type & 4) or "transparency" in image.info
    header = ImageHeader(
        format="PNG",
        height=image.height,
        width=image.width,
        channels=channels,
        bit_depth=max(8, bit_depth),
        has_alpha=has_alpha,
    )
    return header, orientation_in(image.info.get("exif", b""))


def png_samples(data: bytes, header: ImageHeader) -> npt.NDArray[Any]:
    """Return (H, W) or (H, W, C) of uint8 or uint16, alpha last."""
    # Pillow does without the last chunk, and without the checksum of the pixels before it.
    _require_png_end(data)
    # Pillow first, at any bit depth: with each PNG that imagecodecs 2026.3 fails on, it drops a reference to
    # None that it does not own, and after some thousands of these Python 3.11 aborts.
    samples = pillow_samples(data, header, plugin=PngImageFile)
    # Of grey with fewer than 8 bits, Pillow compares what is transparent with values that it has scaled already.
    transparent_grey = header.channels == 1 and header.has_alpha
    return imagecodecs.png_decode(data) if header.bit_depth == 16 or transparent_grey else samples


def _require_png_end(data: bytes) -> None:
    reader = ExactReader(data)
    reader.seek(8)
    kind = b""
    while kind != b"IEND":
        length, kind = reader.unpack(">I4s")
        reader.seek(length, io.SEEK_CUR)
        reader.unpack(">I")


def jpeg_header(data: bytes) -> tuple[ImageHeader, int]:
    """Return the header as stored, and the orientation it is stored in."""
    image = JpegImageFile(ExactReader(data))
    return pillow_header(image), orientation_in(image.info.get("exif", b""))


def jpeg_samples(data: bytes, header: ImageHeader) -> npt.NDArray[Any]:
    """Return (H, W) or (H, W, C) of uint8."""
    # Of a file whose last part is zeros, Pillow makes grey rows.
    _require_jpeg_end(data)
    return pillow_samples(data, header, plugin=JpegImageFile)


def _require_jpeg_end(data: bytes) -> None:
    place = 2
    while (marker := _JPEG_MARKER.search(data, place)) and marker[1] != _JPEG_END:
        # A segment, as of an EXIF thumbnail with an end of its own, is skipped by its length.
        place = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    if marker is None:
        raise DecodeError(
            f"truncated JPEG: its {len(data)} bytes do not come to its end: transfer or write the file again"
        )


def bmp_header(data: bytes) -> tuple[ImageHeader, int]:
    """Return the header and orientation 1: a BMP has none."""
    image = BmpImageFile(ExactReader(data))
    # Pillow fills what is missing of a run-length encoded BMP with zeros.
    if image.info["compression"] in (BmpImageFile.COMPRESSIONS["RLE8"], BmpImageFile.COMPRESSIONS["RLE4"]):
        raise DecodeError("BMP is run-length encoded, which is not supported: save it uncompressed, or as PNG")
    return pillow_header(image), 1


def pillow_header(image: ImageFile) -> ImageHeader:
    """Return what Pillow says of an 8-bit image."""
    channels = 1 if image.mode in ("1", "L") else 3
    return ImageHeader(
        format=str(image.format),
        height=image.height,
        width=image.width,
        channels=channels,
        bit_depth=8,
        has_alpha=image.mode == "RGBA",
    )


def pillow_samples(data: bytes, header: ImageHeader, *, plugin: type[ImageFile]) -> npt.NDArray[Any]:
    """Return (H, W) or (H, W, C) of uint8, alpha last."""
    mode = ("L" if header.channels == 1 else "RGB") + ("A" if header.has_alpha else "")
    return np.array(plugin(io.BytesIO(data)).convert(mode))
