"""Pictures that people look at: the photograph, and the anomaly map as a transparent layer over it."""

import io
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from PIL import Image, ImageDraw

LONG_SIDE = 1024
JPEG_QUALITY = 85
COLOUR_MAP = "inferno"
OPACITY = 0.85
BOX_COLOUR = "#00e5ff"
STRIPE = 8
"""Width of the stripes over what was left out, along a row in pixels as shown."""
STRIPE_GREYS = (105, 160)
STRIPE_OPACITY = 0.7

QUANTILE_VALUES = 2**20
"""Most values that the quantiles of a photograph are taken of."""

REDUCING_GAP = 2.0
"""A photograph is averaged over whole blocks, to at least so many times the side it is shown at, then resampled."""

PART_SIDE = 512
"""Pixels a side that are drawn at once."""

Box = tuple[float, float, float, float]


def photograph(pixels: npt.NDArray[np.generic], left_out: npt.NDArray[np.bool_] | None = None) -> bytes:
    """Return an image (H, W) or (H, W, 3) as a JPEG of at most 1024 pixels a side.

    Anything but 8 bits is stretched between the 0.1 and 99.9 percent quantiles of what is not left out: 12 bits in a
    16-bit file would look black. Where pixels are ``left_out``, (H, W), it is striped: what was not looked at must not
    look good.
    """
    height, width = pixels.shape[:2]
    size = _shown_size(width, height)
    across, down = (max(1, int(side / shown / REDUCING_GAP)) for side, shown in zip((width, height), size, strict=True))
    mode = "L" if pixels.ndim == 2 else "RGB"
    picture = _drawn(pixels, _to_eight_bits(pixels, left_out), mode=mode, reduced=(across, down))
    picture = picture.resize(size, Image.Resampling.LANCZOS, box=(0, 0, width / across, height / down))
    if left_out is not None:
        _stripe(picture, left_out)
    return _encoded(picture, "JPEG", quality=JPEG_QUALITY)


def heat_layer(anomaly_map: npt.NDArray[np.float32], *, lowest: float, highest: float) -> bytes:
    """Return an anomaly map (h, w) as a transparent PNG.

    Colours run from ``lowest`` (fully transparent) to ``highest``, in the map's own units: never from the map's own
    least to its largest value, with which a good image would glow.
    """

    def colours(part: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        heat = np.clip((part - lowest) / (highest - lowest), 0, 1)
        drawn: npt.NDArray[np.uint8] = colormaps[COLOUR_MAP](heat, bytes=True)
        drawn[..., 3] = (255 * OPACITY * np.sqrt(heat)).astype(np.uint8)
        return drawn

    picture = _drawn(anomaly_map, colours, mode="RGBA")
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


def _stripe(picture: Image.Image, left_out: npt.NDArray[np.bool_]) -> None:
    where = Image.fromarray(left_out.astype(np.uint8) * np.uint8(255)).resize(picture.size, Image.Resampling.BOX)
    down, right = np.indices(picture.size[::-1], dtype=np.int16)
    stripes = Image.fromarray(np.where((down + right) // STRIPE % 2 == 0, *STRIPE_GREYS).astype(np.uint8))
    picture.paste(Image.blend(picture, stripes.convert(picture.mode), STRIPE_OPACITY), mask=where)


def can_be_shown(picture: bytes) -> bool:
    """Whether this is the whole of a picture."""
    try:
        Image.open(io.BytesIO(picture)).load()
    except (OSError, SyntaxError):
        return False
    return True


def _shown_size(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, LONG_SIDE / max(width, height))
    return max(1, round(scale * width)), max(1, round(scale * height))


def _drawn(
    values: npt.NDArray[Any],
    draw: Callable[[npt.NDArray[Any]], npt.NDArray[np.uint8]],
    *,
    mode: str,
    reduced: tuple[int, int] = (1, 1),
) -> Image.Image:
    """Draw an array, averaged over blocks of so many pixels across and down.

    In parts: what is computed on the way takes up to 19 bytes a pixel.
    """
    across, down = reduced
    height, width = values.shape[:2]
    picture = Image.new(mode, (math.ceil(width / across), math.ceil(height / down)))
    columns, rows = (max(1, PART_SIDE // block) * block for block in reduced)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            part = Image.fromarray(draw(values[top : top + rows, left : left + columns]))
            picture.paste(part.reduce(reduced), (left // across, top // down))
    return picture


def _to_eight_bits(
    pixels: npt.NDArray[np.generic], left_out: npt.NDArray[np.bool_] | None
) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.uint8]]:
    if pixels.dtype == np.uint8:
        return np.asarray
    stride = math.ceil(math.sqrt(pixels.size / QUANTILE_VALUES))
    exact = np.float64 if pixels.dtype == np.float64 else np.float32
    seen = pixels[::stride, ::stride]
    if left_out is not None and not (hidden := left_out[::stride, ::stride]).all():
        # A missing value is 0 there, and the ground under a mask anything: the surface between them would look flat.
        seen = seen[~hidden]
    low, high = np.quantile(seen.astype(exact), [0.001, 0.999])

    def stretched(part: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        values: npt.NDArray[Any] = part.astype(exact)
        values -= low
        values *= 255 / max(float(high - low), 1e-9)
        return np.clip(values, 0, 255, out=values).astype(np.uint8)

    return stretched


def _encoded(picture: Image.Image, form: str, **options: int | bool) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()
