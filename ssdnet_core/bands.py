"""Bands of rows: wide features of a large image are computed and reduced one band at a time.

Filters give many channels, which are then reduced to one or a few. Only the reduced values are kept for the whole
image, so that memory grows with the band and not with the image.
"""

from collections.abc import Iterator
from dataclasses import dataclass

BAND_PIXELS = 2**18
"""Most pixels of a band: a megabyte for each channel. An image of 512 x 512 is one band."""


@dataclass(frozen=True)
class Band:
    """Some rows of an image.

    Attributes
    ----------
    inner
        The rows that the band answers for; the bands' inner rows tile the image.
    outer
        The same and as many rows above and below as a filter reaches, where the image has them.
    kept
        The inner rows, counted from the first of the outer ones.
    """

    inner: slice
    outer: slice
    kept: slice


def bands(height: int, width: int, *, reach: int, multiple: int = 1) -> Iterator[Band]:
    """Cut an image into bands that start at multiples of a number of rows.

    Parameters
    ----------
    reach
        Rows that a filter sees above and below.
    multiple
        Number of rows that must stay in one band, as rows that are averaged together.
    """
    rows = max(1, BAND_PIXELS // (width * multiple)) * multiple
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(0, top - reach), min(height, bottom + reach)
        yield Band(slice(top, bottom), slice(first, last), slice(top - first, bottom - first))
