"""Pictures that people look at: the photograph, and the anomaly map as a transparent layer over it."""

import io
import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from PIL import Image, ImageDraw

LONG_SIDE = 1024
JPEG_QUALITY = 85
COLOUR_MAP = "inferno"
OPACITY = 0.85
BOX_COLOUR = "#00e5ff"

QUANTILE_VALUES = 2**20
"""Values at most by which a photograph is stretched."""

Box = tuple[float, float, float, float]


def photograph(pixels: npt.NDArray[np.generic]) -> bytes:
    """Return an image (H, W) or (H, W, 3) as a JPEG of at most 1024 pixels a side.

    Anything but 8 bits is stretched between its 0.1 and 99.9 percent quantiles: 12 bits in a 16-bit file would
    look black.
    """
    picture = Image.fromarray(_eight_bits(pixels))
    picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return _encoded(picture, "JPEG", quality=JPEG_QUALITY)


def heat_layer(anomaly_map: npt.NDArray[np.float32], *, lowest: float, highest: float) -> bytes:
    """Return an anomaly map (h, w) as a transparent PNG.

    Colours run from ``lowest`` (fully transparent) to ``highest``, in the map's own units: one scale for all images,
    so that a good image does not glow.
    """
    heat = np.clip((anomaly_map - lowest) / (highest - lowest), 0, 1)
    colours = colormaps[COLOUR_MAP](heat, bytes=True)
    colours[..., 3] = (255 * OPACITY * np.sqrt(heat)).astype(np.uint8)
    picture = Image.fromarray(colours)
    picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.BILINEAR)
    return _encoded(picture, "PNG", optimize=True)


def overlay(photo: bytes, heat: bytes, *, boxes: Iterable[Box]) -> bytes:
    """Return what :func:`photograph` and :func:`heat_layer` made as one JPEG, with the regions drawn.

    Parameters
    ----------
    boxes
        Left, top, right, bottom of each region, as shares of the image's width and height.
    """
    with Image.open(io.BytesIO(photo)) as shown, Image.open(io.BytesIO(heat)) as layer:
        picture = shown.convert("RGBA")
        picture.alpha_composite(layer.convert("RGBA").resize(picture.size, Image.Resampling.BILINEAR))
    pen = ImageDraw.Draw(picture)
    width, height = picture.size
    for left, top, right, bottom in boxes:
        pen.rectangle((left * width, top * height, right * width, bottom * height), outline=BOX_COLOUR, width=2)
    return _encoded(picture.convert("RGB"), "JPEG", quality=JPEG_QUALITY)


def colour_bar() -> list[str]:
    """Return the colour scale as CSS colours, from lowest to highest."""
    return [
        f"rgba({r}, {g}, {b}, {OPACITY * np.sqrt(value):.2f})"
        for value in np.linspace(0, 1, 9)
        for r, g, b, _ in [colormaps[COLOUR_MAP](value, bytes=True)]
    ]


def _eight_bits(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    stride = math.ceil(math.sqrt(pixels.size / QUANTILE_VALUES))
    low, high = np.quantile(pixels[::stride, ::stride].astype(np.float32), [0.001, 0.999])
    stretched = pixels.astype(np.float32)
    stretched -= low
    stretched *= 255 / max(float(high - low), 1e-9)
    return np.clip(stretched, 0, 255, out=stretched).astype(np.uint8)


def _encoded(picture: Image.Image, form: str, **options: int | bool) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()
