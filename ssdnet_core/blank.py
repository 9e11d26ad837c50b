"""Blank ground beside the surface: past the end of a strip, under a piece, in the corners of a turned image.

It has no structure, so the method has nothing to say of it; but beside it the whole surface would stand out, and a
defect in the surface would drown. Not from the paper.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

LEAST_RUN = 8
"""Pixels of its value that ground has at least along the border about each corner that it is recognised by. Where a
photograph was turned by a fraction of a degree it may be a single row there."""

TOLERANCE = 0.01
"""How far ground may differ from its value, as a share of the range of the image's values: compression changes a blank
value that much beside an edge."""

COMPRESSED = 0.001
"""Share of the ground that differs from its value by this tolerance above which it was compressed with loss."""

RINGING, RING, RUNG = 0.2, 4, 64
"""Blocks of JPEG's that the surface's edge crosses ring: how far ground may differ from its value there, as a share of
the range; within how many pixels another one has it; and how many pixels from the rest of the ground that is."""

EDGE_CONTRAST = 0.05
"""Share of the same range: ground ends at an edge if three quarters of what lies around it differ from it by more."""

LEAST_SURFACE = 0.25
"""Share of the pixels that must be left: on a dark field with scratches, what looks like ground *is* the surface."""

MOST_PIECES, THEIR_SHARE = 3, 0.9
"""At most so many pieces must hold this share of the remaining surface: ground that cuts it into more, as clipped
joints between tiles do, is the surface's pattern."""

MARGIN = 3
"""Width in working pixels that a blurred edge may have."""

SQUARE = np.ones((3, 3), dtype=bool)

Places: TypeAlias = list[tuple[slice, slice]]


def find_blank_ground(
    pixels: npt.NDArray[np.generic], counted: npt.NDArray[np.bool_], *, margin: int = MARGIN, selvage: int = 0
) -> npt.NDArray[np.bool_] | None:
    """Return which pixels are blank ground, (H, W) bool, or None if there is none.

    Ground is recognised by a whole side, or all four corners, of exactly one value: black, overexposed or filled in,
    since no camera gives a surface one value. From there it extends as far as the value does, though not through gaps
    of one or two pixels; in a file that was compressed with loss it may ring at its edge. A side must be more than a
    single line of it, as a camera's dead one is; about the corners it may be a single row that runs on along the
    border. It must end at an edge, or be surrounded by pixels that do not count. So a hole or a glare that the surface
    surrounds is not ground, even at the image's border, nor are clipped joints that cut the surface into many pieces.

    Parameters
    ----------
    pixels
        (H, W, C), finite where they count.
    counted
        (H, W) bool, True where a pixel counts, at least one. A side is the outermost line with a pixel that counts.
    margin
        Width in pixels by which the ground is widened for its blurred edge.
    selvage
        Further width in pixels, for what borders on the ground and is not the surface, as a fringe.
    """
    rows, columns = (np.flatnonzero(counted.any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside, seen = pixels[box], counted[box]
    # A large image is looked at in steps of a few pixels, a small part of the margin.
    step = max(1, margin // (2 * MARGIN))
    shown, looked_at = _in_steps(inside, step), _in_steps(seen, step)
    ground, coarse_margin = np.zeros_like(looked_at), -(-margin // step)
    for places, value in _anchors(inside, seen):
        if all(ground[place].all() for place in places):
            continue  # Reached from another side.
        ground |= _reached(shown, looked_at, places=places, value=value, margin=coarse_margin, rung=-(-RUNG // step))
    if not ground.any():
        return None
    found = np.zeros_like(counted)
    found[box] = (
        _grown(ground, coarse_margin).repeat(step, axis=0).repeat(step, axis=1)[: seen.shape[0], : seen.shape[1]]
    )
    surface = counted & ~found
    enough = surface.sum() >= LEAST_SURFACE * counted.sum()
    return _grown(found, selvage) if enough and _in_few_pieces(surface[::step, ::step]) else None


def _in_steps(values: npt.NDArray[Any], step: int) -> npt.NDArray[Any]:
    """Return every few lines of (H, W, ...) along both axes, and the last ones, which ground may begin at."""
    if step == 1:
        return values
    rows, columns = (np.unique(np.append(np.arange(0, side, step), side - 1)) for side in values.shape[:2])
    return values[np.ix_(rows, columns)]


def _in_few_pieces(surface: npt.NDArray[np.bool_]) -> bool:
    labels, _ = ndimage.label(surface, SQUARE)
    sizes = np.sort(np.bincount(labels[surface]))
    return bool(sizes[-MOST_PIECES:].sum() >= THEIR_SHARE * sizes.sum())


def _anchors(
    pixels: npt.NDArray[np.generic], counted: npt.NDArray[np.bool_]
) -> Iterator[tuple[Places, npt.NDArray[np.generic]]]:
    """Yield the sides that have one value, and the four corners together if they have: places, and the value (C,)."""
    first, last, all_along = slice(0, 1), slice(-1, None), slice(None)
    sides: list[Places] = [[(first, all_along)], [(last, all_along)], [(all_along, first)], [(all_along, last)]]
    corners: Places = [(down, right) for down in (first, last) for right in (first, last)]
    for places in (*sides, corners):
        seen = np.concatenate([counted[place].ravel() for place in places])
        values = np.concatenate([pixels[place].reshape(-1, pixels.shape[-1]) for place in places])[seen]
        if 2 * len(values) >= len(seen) and (values == values[0]).all():
            yield places, values[0]


def _reached(
    pixels: npt.NDArray[np.generic],
    counted: npt.NDArray[np.bool_],
    *,
    places: Places,
    value: npt.NDArray[np.generic],
    margin: int,
    rung: int,
) -> npt.NDArray[np.bool_]:
    """Return the pixels of nearly this value connected with the places, (h, w) bool; none if they end at no edge."""
    # Channel by channel: a large image would take much memory in double precision.
    distance = np.zeros(counted.shape)
    for channel, of_channel in enumerate(value):
        np.maximum(distance, np.abs(np.subtract(pixels[..., channel], float(of_channel))), out=distance)
    spread = float(np.ptp(pixels[counted])) if counted.any() else 0.0
    alike = counted & (distance <= TOLERANCE * spread)
    corners = places if len(places) > 1 else []
    ground = _connected(alike, places, corners=corners)
    if not _runs_on(ground, [corner for corner in corners if counted[corner].any()]):
        return np.zeros_like(ground)

    def ends(ground: npt.NDArray[np.bool_]) -> bool:
        around = counted & _grown(ground, 2 * margin) & ~_grown(ground, margin)
        # Where a mask lies all around it, as over a selvage, nothing is left to compare it with.
        return bool(not around.any() or np.quantile(distance[around], 0.25) > EDGE_CONTRAST * spread)

    if np.count_nonzero(distance[ground]) > COMPRESSED * np.count_nonzero(ground):
        nearby = ndimage.minimum_filter(distance, size=2 * RING + 1) <= TOLERANCE * spread
        ringing = _connected(counted & nearby & (distance <= RINGING * spread), places, corners=corners)
        with_ringing = ground | (ringing & _grown(ground, rung))
        if ends(with_ringing):
            return with_ringing
    return ground if ends(ground) else np.zeros_like(ground)


def _connected(alike: npt.NDArray[np.bool_], places: Places, *, corners: Places) -> npt.NDArray[np.bool_]:
    """Return what is connected with the places by more than two pixels, or with corners along the border."""
    labels, _ = ndimage.label(ndimage.binary_erosion(alike, SQUARE, border_value=1))
    inside = np.zeros(int(labels.max()) + 1, dtype=bool)
    for place in places:
        inside[labels[place]] = True
    inside[0] = False
    ground = ndimage.binary_dilation(inside[labels], SQUARE) & alike
    for corner in corners:
        ground[corner] = alike[corner]
    # The erosion lost the thin end of a wedge of ground, or all of it: add what can be reached along the border.
    reachable = alike.copy()
    reachable[1:-1, 1:-1] &= ground[1:-1, 1:-1]
    return np.asarray(ndimage.binary_propagation(ground, SQUARE, mask=reachable))


def _runs_on(ground: npt.NDArray[np.bool_], corners: Places) -> bool:
    """Return whether the ground reaches on along the border from each of the corners."""
    along = ground.copy()
    along[1:-1, 1:-1] = False
    pieces, _ = ndimage.label(along, SQUARE)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0  # Where there is no ground.
    return all(bool(sizes[pieces[corner]].min() >= LEAST_RUN) for corner in corners)


def _grown(area: npt.NDArray[np.bool_], margin: int) -> npt.NDArray[np.bool_]:
    return ndimage.maximum_filter(area, size=2 * margin + 1, mode="constant")
