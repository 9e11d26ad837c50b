"""Defects as they are planted: into made textures, and into photographs of a good surface.

A defect changes the reflectance of a surface, inside its coverage, whatever the light.
"""

from typing import Literal, get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from ssdnet_core.errors import InvalidConfigError, InvalidImageError

DefectKind = Literal["none", "hole", "stain", "scratch", "cut", "thread", "patch"]
DEFECT_KINDS: tuple[DefectKind, ...] = get_args(DefectKind)

SMALLEST_SIDE = 64
SENSOR_NOISE = 1.5 / 255
_VISIBLE = 2 / 255
_REACH = 12.0
"""Distance from a line, in line widths, beyond which nothing of it shows."""

Field = NDArray[np.float64]
Size = tuple[int, int]
Painted = tuple[Field, Field]
"""What a defect would look like all over, (H, W, 3), and how far it covers each pixel, (H, W) in 0 to 1."""


class InvisibleDefectError(InvalidImageError):
    """A defect does not show where it was planted; elsewhere it may."""


def plant(
    photograph: NDArray[np.uint8], defect: DefectKind, *, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Plant a defect into a photograph of a good surface.

    Parameters
    ----------
    photograph
        (H, W) or (H, W, 3) uint8, each side 64 or more.
    defect
        What is planted; it grows with the shorter side. A thread is a stray fibre; a patch is turned, zoomed surface
        of equal brightness.
    seed
        0 or more; the same arguments give the same bytes.

    Returns
    -------
    pixels, truth
        As the photograph, and (H, W) bool, as of :func:`ssdnet_core.synthetic.sample`: where it is False the pixels are
        the photograph's.

    Raises
    ------
    InvalidImageError
        A `ValueError`: another shape or dtype, or an image too small.
    InvisibleDefectError
        An `InvalidImageError`: the defect does not show where this seed puts it.
    InvalidConfigError
        A `ValueError`: unknown defect or negative seed.
    """
    check_photograph(photograph)
    height, width = photograph.shape[:2]
    check(defect, (height, width), seed=seed)
    surface = np.atleast_3d(photograph / 255) * np.ones(3)
    rng = np.random.default_rng((seed, DEFECT_KINDS.index(defect)))
    target, coverage = surface, np.zeros((height, width))
    if defect != "none":
        target, coverage = FLAWS[defect](rng, (height, width), surface=surface)
    changed, truth = laid_over(surface, target, coverage=coverage)
    if defect != "none" and not truth.any():
        raise InvisibleDefectError(f"a {defect} does not show on it: it is black, white or without structure there")
    changed += np.where(truth, coverage, 0.0)[:, :, None] * SENSOR_NOISE * rng.standard_normal(changed.shape)
    pixels = np.rint(255 * np.clip(changed, 0, 1)).astype(np.uint8)
    if photograph.ndim == 2:
        pixels = np.rint(pixels.mean(axis=2)).astype(np.uint8)
    return pixels, truth


def check_photograph(photograph: NDArray[np.uint8]) -> None:
    """Raise :class:`InvalidImageError` if :func:`plant` can take no such photograph, whatever the defect."""
    if photograph.dtype != np.uint8 or photograph.ndim not in (2, 3) or photograph.shape[2:] not in ((), (3,)):
        raise InvalidImageError(
            f"the photograph is {photograph.dtype} of shape {photograph.shape}: give uint8, (H, W) or (H, W, 3)"
        )
    height, width = photograph.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise InvalidImageError(f"the photograph is {width} x {height}: each side must be {SMALLEST_SIDE} or more")
    if not photograph.any():
        raise InvalidImageError("the photograph is black all over: no defect can show on it")


def check(defect: DefectKind, size: Size, *, seed: int) -> None:
    """Raise :class:`InvalidConfigError` if the defect is unknown, the size too small or the seed negative."""
    if defect not in DEFECT_KINDS:
        raise InvalidConfigError(f"no defect {defect!r}; choose of {DEFECT_KINDS}")
    if min(size) < SMALLEST_SIDE or seed < 0:
        raise InvalidConfigError(f"size {size}, seed {seed}; take sides >= {SMALLEST_SIDE} and a seed >= 0")


def laid_over(
    surface: Field, target: Field, *, coverage: Field, light: Field | float = 1.0
) -> tuple[Field, NDArray[np.bool_]]:
    """Return a surface (H, W, 3) in its light with a defect laid over it, and where it can be seen: (H, W) bool."""
    change = (target - surface) * light
    # What is white or black already may be changed without a trace.
    seen = np.clip(target * light, 0, 1) - np.clip(surface * light, 0, 1)
    contrast = ndimage.maximum_filter(np.abs(seen).max(axis=2), size=7)
    truth = coverage * contrast > _VISIBLE
    return surface * light + np.where(truth, coverage, 0.0)[:, :, None] * change, truth


def blurred(field: Field, sigma: float | tuple[float, ...]) -> Field:
    """Smooth a field with a Gaussian of `sigma` pixels."""
    return np.asarray(ndimage.gaussian_filter(field, sigma), dtype=float)


def noise(rng: Generator, size: Size, *, sigma: float | tuple[float, float]) -> Field:
    """Gaussian noise of unit variance, smooth over `sigma` pixels (rows, columns)."""
    field = blurred(rng.standard_normal(size), sigma)
    field -= field.mean()
    field /= field.std()
    return field


def dyed(tone: Field, dark: Field, *, bright: Field) -> Field:
    """Colour a tone field, 0 to 1, from `dark` to `bright` RGB."""
    return dark + np.clip(tone, 0, 1)[:, :, None] * (bright - dark)


def step(edge: Field) -> Field:
    """Antialiased edge: 0 below -0.5 pixels, 1 above 0.5."""
    return np.clip(edge + 0.5, 0, 1)


def _blob(rng: Generator, size: Size, *, radius: float) -> Field:
    """Depth in pixels inside a random lobed shape, negative outside; about `radius` pixels large in 256 rows."""
    radius *= np.sqrt(min(size) / 256)
    middle = [rng.uniform(1.4 * radius, side - 1.4 * radius) for side in size]
    y, x = np.indices(size) - np.reshape(middle, (2, 1, 1))
    angle, outline = np.arctan2(y, x), np.ones(size)
    for lobes in range(2, 7):
        outline += rng.normal(0, 0.25 / lobes) * np.cos(lobes * angle + rng.uniform(0, 2 * np.pi))
    return radius * np.clip(outline, 0.6, 1.4) - np.hypot(y, x)


def _unit(size: Size) -> float:
    """Width in pixels, at least 1, of a line that would be one pixel wide in an image of 256 rows."""
    return max(1.0, min(size) / 256)


def _curve(rng: Generator, size: Size, *, length: float, bend: float) -> tuple[Field, Field]:
    """Each pixel's signed distance in pixels, up to a reach, to a curve near the middle, and place along it, 0 to 1."""
    along = np.linspace(-0.5, 0.5, int(4 * length))
    sideways = bend * (1 - 4 * along**2) + 0.4 * bend * np.sin(2 * np.pi * along)
    angle = rng.uniform(0, np.pi)
    frame = np.array([[np.sin(angle), np.cos(angle)], [np.cos(angle), -np.sin(angle)]])
    middle = [rng.uniform(0.35, 0.65) * side for side in size]
    points = middle + length * np.stack([along, sideways], axis=1) @ frame
    pixels = np.moveaxis(np.indices(size), 0, -1)
    # Beyond this nothing is painted, and looking for the nearest point takes long.
    reach = _REACH * _unit(size)
    distance, nearest = cKDTree(points).query(pixels, distance_upper_bound=reach)
    distance, nearest = np.minimum(distance, reach), np.minimum(nearest, len(points) - 1)
    return np.sign((pixels - points[nearest]) @ frame[1]) * distance, along[nearest] + 0.5


def _hole(rng: Generator, size: Size, *, surface: Field) -> Painted:
    depth = _blob(rng, size, radius=rng.uniform(7, 15)) + 0.7 * noise(rng, size, sigma=1.2)
    wall = 0.6 * np.exp(-np.maximum(depth, 0) / 2.5) + 0.03 * noise(rng, size, sigma=1)
    return surface * np.clip(wall, 0, 1)[:, :, None] + rng.uniform(0.05, 0.15), step(depth / 1.2)


def _stain(rng: Generator, size: Size, *, surface: Field) -> Painted:
    depth = _blob(rng, size, radius=rng.uniform(18, 32)) + 1.5 * noise(rng, size, sigma=4)
    soaked = 0.5 + 0.5 * np.sin(np.pi / 2 * np.clip(depth / rng.uniform(4, 9), -1, 1))
    tint = rng.choice([(0.74, 0.70, 0.62), (0.84, 0.72, 0.66), (0.74, 0.77, 0.82), (1.18, 1.16, 1.10)])
    return surface * tint, soaked * np.clip(0.9 + 0.08 * noise(rng, size, sigma=5), 0, 1)


def _scratch(rng: Generator, size: Size, *, surface: Field) -> Painted:
    offset, along = _curve(rng, size, length=rng.uniform(0.35, 0.7) * min(size), bend=rng.uniform(-0.2, 0.2))
    width = rng.uniform(0.8, 1.2) * _unit(size)
    pressure = np.clip(0.75 + 0.25 * noise(rng, size, sigma=8), 0.3, 1) * np.sqrt(np.sin(np.pi * along))
    groove, rim = np.exp(-((offset / width) ** 2)), 0.5 * np.exp(-((offset / width - 2) ** 2))
    lift = rng.choice((-1, 1)) * rng.uniform(0.18, 0.3) * np.where(groove > rim, 1, -1)
    return np.clip(surface + lift[:, :, None], 0.05, 0.95), pressure * np.maximum(groove, rim)


def _cut(rng: Generator, size: Size, *, surface: Field) -> Painted:
    offset, along = _curve(rng, size, length=rng.uniform(0.3, 0.55) * min(size), bend=0.0)
    taper = 1 - (2 * along - 1) ** 4
    unit = _unit(size)
    depth = unit * rng.uniform(1, 1.8) * taper - np.abs(offset) + 0.45 * unit * noise(rng, size, sigma=0.8)
    gape, lip = step(depth), 0.5 * taper * np.exp(-((depth / unit + 1.3) ** 2))
    return np.where(gape > lip, rng.uniform(0.15, 0.4), 1.3)[:, :, None] * surface, np.maximum(gape, lip)


def _fibre(rng: Generator, size: Size, *, surface: Field) -> Painted:
    offset, _ = _curve(rng, size, length=rng.uniform(0.35, 0.7) * min(size), bend=rng.uniform(-0.35, 0.35))
    unit = _unit(size)
    half = unit * rng.uniform(0.8, 1.4)
    lying, shadow = step(half - np.abs(offset)), 0.4 * np.exp(-(((offset - half - unit) / (1.5 * unit)) ** 2))
    colour = rng.choice([(0.86, 0.85, 0.80), (0.16, 0.17, 0.22), (0.60, 0.20, 0.18)])
    body = dyed(np.cos(np.clip(offset / half, -1.5, 1.5)), 0.7 * colour, bright=colour)
    return np.where((lying > shadow)[:, :, None], body, 0.4 * surface), np.maximum(lying, shadow)


def _patch(rng: Generator, size: Size, *, surface: Field) -> Painted:
    depth = _blob(rng, size, radius=rng.uniform(18, 30))
    middle = np.append(np.argwhere(depth > 0).mean(axis=0), 0)
    angle, zoom = rng.uniform(0.2, 0.3) * np.pi * rng.choice((-1, 1)), rng.choice((0.65, 1.5))
    turn = np.diag((zoom, zoom, 1.0))
    turn[:2, :2] @= [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turned = ndimage.affine_transform(surface, turn, middle - turn @ middle, mode="mirror")
    # As bright as what it covers; a channel that is black there stays so.
    brightness = surface[depth > 0].mean(axis=0) / turned[depth > 0].mean(axis=0).clip(1e-6)
    return turned * brightness, step(depth / 2)


FLAWS = {"hole": _hole, "stain": _stain, "scratch": _scratch, "cut": _cut, "thread": _fibre, "patch": _patch}
