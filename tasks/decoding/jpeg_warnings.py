"""What the reader of a result should know of the JPEG it is of, beside its pixels: coarse steps, damaged data."""

import io
import re

import simplejpeg
from PIL.JpegImagePlugin import JpegImageFile

COARSE = 110.0
"""Mean step of a JPEG's luminance coefficients above which its blocks may alarm: libjpeg's quality 26 and below. Of 33
good photographs 3 alarmed at quality 30 (95.7), 4 at 25 (115.2) and 11 at 20 (141.5)."""

# How libjpeg says that it goes on after data that it cannot read; its other warnings are of harmless headers.
# Of 3705 whole JPEGs from programs and games none says it.
_DAMAGE = re.compile(r"Corrupt JPEG data|Inconsistent progression")


def jpeg_warnings(data: bytes) -> tuple[str, ...]:
    """Return the warnings of a JPEG that can be decoded; most have none."""
    return (*_compression(data), *_damage(data))


def _compression(data: bytes) -> tuple[str, ...]:
    tables = JpegImageFile(io.BytesIO(data)).quantization
    # The first table is that of luminance; a file may define none, and leave its decoder to assume one.
    steps = tables[min(tables)] if tables else [0]
    step = sum(steps) / len(steps)
    if step <= COARSE:
        return ()
    return (
        f"JPEG is strongly compressed: its luminance is quantised in steps of {step:.0f} on average, and above "
        f"{COARSE:.0f} its blocks of 8 x 8 pixels may alarm; store images at a higher quality",
    )


def _damage(data: bytes) -> tuple[str, ...]:
    # Pillow and imagecodecs leave out what libjpeg says. An eighth of the size is enough: all the data are read for it.
    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", fastdct=True, min_height=1, min_width=1, strict=True)
    except ValueError as error:
        if _DAMAGE.match(str(error)):
            return (
                f"JPEG seems to be damaged: its decoder met data that it could not read ({error}), and alarms may come "
                "from that; transfer or write the file again",
            )
    return ()
