"""Procedural textures with planted defects and exact masks, for demonstrations and tests.

A photograph is the product of a texture's reflectance and the light, plus sensor noise. A defect
changes the reflectance only, inside its coverage, so that the same seed with and without a defect
is the same surface under the same light, photographed with the same noise.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from ssdnet_core.errors import InvalidConfigError

TextureKind = Literal["weave", "leather", "wood", "brushed_metal", "tile"]
DefectKind = Literal["none", "hole", "stain", "scratch", "cut", "thread", "patch"]
TEXTURE_KINDS: tuple[TextureKind, ...] = get_args(TextureKind)
DEFECT_KINDS: tuple[DefectKind, ...] = get_args(DefectKind)

SMALLEST_SIDE = 64
_VISIBLE = 2 / 255
_NOISE = 1.5 / 255

_Field = NDArray[np.float64]
_Size = tuple[int, int]
# What a defect would look like all over, (H, W, 3), and how far it covers each pixel, (H, W) in 0 to 1.
_Painted = tuple[_Field, _Field]


@dataclass(frozen=True)
class SyntheticImage:
    """A made photograph, `pixels` (H, W, 3) uint8 RGB, and `truth` (H, W) bool: what was changed."""

    pixels: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    kind: TextureKind
    defect: DefectKind


def sample(
    kind: TextureKind, defect: DefectKind, *, size: tuple[int, int] = (256, 256), seed: int = 0
) -> SyntheticImage:
    """Make a photograph of a texture, good or with one defect.

    Parameters
    ----------
    kind : TextureKind
        The surface. Its features have a fixed size in pixels, whatever the image size.
    defect : DefectKind
        What is planted; it grows with the shorter side. A thread is missing, thick or pushed aside
        in a weave, a stray fibre elsewhere; a patch is turned, zoomed surface of equal brightness.
    size : tuple of int
        Height and width in pixels, each 64 or more.
    seed : int
        0 or more; the same arguments give the same bytes.

    Returns
    -------
    SyntheticImage
        Where `truth` is False the pixels equal those of the good image with the same seed. Where it
        is True the noise-free difference exceeds 2 grey levels, or would with the largest contrast
        within 3 pixels, so that no pinholes are left where old and new agree by chance.

    Raises
    ------
    InvalidConfigError
        A `ValueError`: unknown kind or defect, image too small, or negative seed.
    """
    if kind not in TEXTURE_KINDS or defect not in DEFECT_KINDS:
        raise InvalidConfigError(f"no {kind!r} with {defect!r}; choose of {TEXTURE_KINDS} and {DEFECT_KINDS}")
    if min(size) < SMALLEST_SIDE or seed < 0:
        raise InvalidConfigError(f"size {size}, seed {seed}; take sides >= {SMALLEST_SIDE} and a seed >= 0")

    def stream(purpose: int) -> Generator:
        return np.random.default_rng((seed, TEXTURE_KINDS.index(kind), purpose))

    surface = _TEXTURES[kind](stream(0), size)
    light = _light(stream(1), size)
    draws = stream(3 + DEFECT_KINDS.index(defect))
    target, coverage = surface, np.zeros(size)
    if (kind, defect) == ("weave", "thread"):
        target, coverage = _wrong_thread(draws, size, stream(0))
    elif defect != "none":
        target, coverage = _FLAWS[defect](draws, size, surface)
    change = (target - surface) * light
    contrast = ndimage.maximum_filter(np.abs(change).max(axis=2), size=7)
    truth = coverage * contrast > _VISIBLE
    photograph = surface * light + np.where(truth, coverage, 0.0)[:, :, None] * change
    photograph += _NOISE * stream(2).standard_normal(photograph.shape)
    pixels = np.rint(255 * np.clip(photograph, 0, 1)).astype(np.uint8)
    return SyntheticImage(pixels, truth, kind, defect)


def _blurred(field: _Field, sigma: float | tuple[float, ...]) -> _Field:
    return np.asarray(ndimage.gaussian_filter(field, sigma), dtype=float)


def _noise(rng: Generator, size: _Size, sigma: float | tuple[float, float]) -> _Field:
    """Gaussian noise of unit variance, smooth over `sigma` pixels (rows, columns)."""
    field = _blurred(rng.standard_normal(size), sigma)
    field -= field.mean()
    field /= field.std()
    return field


def _dyed(tone: _Field, dark: _Field, bright: _Field) -> _Field:
    """Colour a tone field, 0 to 1, from `dark` to `bright` RGB."""
    return dark + np.clip(tone, 0, 1)[:, :, None] * (bright - dark)


def _step(edge: _Field) -> _Field:
    """Antialiased edge: 0 below -0.5 pixels, 1 above 0.5."""
    return np.clip(edge + 0.5, 0, 1)


def _light(rng: Generator, size: _Size) -> _Field:
    """Illumination of shape (H, W, 1) around 1: a slope, soft spots and a lens, a few percent in all."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in size), indexing="ij")
    slope = rng.uniform(-0.02, 0.02) * y + rng.uniform(-0.02, 0.02) * x
    light: _Field = 1 + slope + 0.01 * _noise(rng, size, min(size) / 4) - 0.015 * (y**2 + x**2)
    return light[:, :, None]


def _thread_coordinates(rng: Generator, size: _Size) -> tuple[_Field, _Field]:
    """Position across the weft (rows) and the warp (columns) in threads, slightly out of true."""
    pitch = rng.uniform(6.5, 9)
    rows, columns = np.indices(size, dtype=float)
    sag = [1.5 * _noise(rng, size, min(size) / 6) + 0.3 * _noise(rng, size, 4) for _ in range(2)]
    return (rows + sag[0]) / pitch + 2, (columns + sag[1]) / pitch + 2


def _interlaced(rng: Generator, v: _Field, u: _Field, *, missing: ArrayLike = False) -> _Field:
    """Colour of a plain or twill weave at the thread coordinates `v`, `u`; no warp where `missing`."""
    run, count = int(rng.integers(1, 3)), max(v.shape) // 6 + 8
    dye = rng.choice([(0.75, 0.68, 0.56), (0.42, 0.52, 0.66), (0.66, 0.66, 0.63), (0.6, 0.42, 0.36)])
    shades = []
    for across, along, middle in ((u, v, 0.5), (v, u, 1.5)):
        thread = across.astype(int)
        width, tone = 0.92 + 0.05 * rng.standard_normal(count), 1 + 0.04 * rng.standard_normal(count)
        offset = across - thread - 0.5 + 0.05 * rng.standard_normal(count)[thread]
        phase = (thread + along.astype(int)) % (2 * run) + along % 1
        bulge = np.cos(0.85 * np.pi * np.clip(phase / run - middle, -0.5, 0.5))
        twist = 1 + 0.06 * np.sin(2 * np.pi * (3 * along + 2 * offset))
        profile = np.sqrt(np.clip(1 - (2 * offset / width[thread]) ** 2, 0, 1))
        shades.append(tone[thread] * twist * profile * (0.6 + 0.4 * bulge))
    warp, weft = np.where(missing, 0, shades[0]), shades[1]
    warp_on_top = (u.astype(int) + v.astype(int)) % (2 * run) < run
    top, under = np.where(warp_on_top, warp, weft), np.where(warp_on_top, weft, warp)
    shade = np.where(top > 0.15, top, np.maximum(top, 0.55 * under)) + 0.04 * _noise(rng, v.shape, 0.6)
    return _dyed(_blurred(shade, 0.7), 0.25 * dye, 1.05 * dye)


def _weave(rng: Generator, size: _Size) -> _Field:
    return _interlaced(rng, *_thread_coordinates(rng, size))


def _cells(rng: Generator, size: _Size, spacing: float) -> tuple[NDArray[np.intp], _Field]:
    """Voronoi cells of jittered points: the cell of each pixel, and its distance to the border."""
    grid = np.mgrid[-spacing : size[0] + spacing : spacing, -spacing : size[1] + spacing : spacing]
    points = grid.reshape(2, -1).T + spacing * rng.uniform(-0.5, 0.5, (grid[0].size, 2))
    wobble = np.stack([0.15 * spacing * _noise(rng, size, spacing / 3) for _ in range(2)], axis=-1)
    distance, cell = cKDTree(points).query(np.moveaxis(np.indices(size), 0, -1) + wobble, k=2)
    return cell[:, :, 0], (distance[:, :, 1] - distance[:, :, 0]) / 2


def _leather(rng: Generator, size: _Size) -> _Field:
    cell, edge = _cells(rng, size, rng.uniform(7, 11))
    height = np.sqrt(1 - np.exp(-edge)) * rng.uniform(0.9, 1, cell.max() + 1)[cell]
    height = _blurred(height + 0.08 * _noise(rng, size, 1), 0.9)
    down, right = np.gradient(height)
    tone = 0.2 + 0.5 * height + 0.9 * (down + 0.6 * right) + 0.03 * _noise(rng, size, 20)
    hide = rng.choice([(0.62, 0.40, 0.26), (0.45, 0.30, 0.22), (0.50, 0.47, 0.44), (0.66, 0.54, 0.40)])
    return _dyed(tone, 0.3 * hide, 1.25 * hide)


def _wood(rng: Generator, size: _Size) -> _Field:
    rows, columns = np.indices(size, dtype=float)
    rows += rng.uniform(20, 60) * (columns / size[1] - rng.uniform(0.2, 0.8)) ** 2
    rows += 5 * _noise(rng, size, (25, 90)) + 0.4 * _noise(rng, size, (1.5, 15))
    rings = (rows - rows.min()) / rng.uniform(9, 15)
    year, season = rings.astype(int), rings % 1
    late = np.minimum((season / 0.85) ** 2.5, (1 - season) / 0.15) * rng.uniform(0.6, 1, year.max() + 1)[year]
    pores = np.clip(_noise(rng, size, (0.6, 6)) - 1.6, 0, 1)
    fibres = 0.06 * _noise(rng, size, (0.7, 15)) + 0.05 * _noise(rng, size, (8, 60))
    bright = rng.choice([(0.80, 0.62, 0.42), (0.72, 0.52, 0.34), (0.82, 0.70, 0.52)])
    return _dyed(0.85 + fibres - 0.55 * _blurred(late, 0.8) - 0.35 * pores, 0.45 * bright, bright)


def _metal(rng: Generator, size: _Size) -> _Field:
    streaks = [w * _noise(rng, size, (s, r)) for w, s, r in ((0.16, 0.5, 40), (0.1, 0.5, 9), (0.12, 2, 90))]
    metal = rng.choice([(0.62, 0.64, 0.66), (0.66, 0.62, 0.56), (0.55, 0.55, 0.57)])
    return _dyed(0.5 + sum(streaks) + 0.03 * _noise(rng, size, 0.6), 0.75 * metal, 1.2 * metal)


def _tile(rng: Generator, size: _Size) -> _Field:
    minerals = np.array([(0.74, 0.72, 0.68), (0.62, 0.60, 0.58), (0.66, 0.55, 0.48), (0.25, 0.24, 0.25)])
    stone = np.tile(0.015 * _noise(rng, size, 0.6)[:, :, None], 3)
    for spacing, weight in ((6.0, 0.6), (2.7, 0.4)):
        cell, _ = _cells(rng, size, spacing)
        mineral = rng.choice(4, p=(0.42, 0.26, 0.17, 0.15), size=cell.max() + 1)
        stone += weight * (minerals[mineral] * rng.uniform(0.9, 1.1, (len(mineral), 1)))[cell]
    return _blurred(stone * rng.uniform(0.95, 1.03, 3), (0.8, 0.8, 0))


def _blob(rng: Generator, size: _Size, radius: float) -> _Field:
    """Depth in pixels inside a random lobed shape of about `radius` in 256 rows; negative outside."""
    radius *= np.sqrt(min(size) / 256)
    middle = [rng.uniform(1.4 * radius, side - 1.4 * radius) for side in size]
    y, x = np.indices(size) - np.reshape(middle, (2, 1, 1))
    angle, outline = np.arctan2(y, x), np.ones(size)
    for lobes in range(2, 7):
        outline += rng.normal(0, 0.25 / lobes) * np.cos(lobes * angle + rng.uniform(0, 2 * np.pi))
    depth: _Field = radius * np.clip(outline, 0.6, 1.4) - np.hypot(y, x)
    return depth


def _curve(rng: Generator, size: _Size, length: float, bend: float) -> tuple[_Field, _Field]:
    """Signed distance in pixels to a curve about the middle, and the position along it, 0 to 1."""
    along = np.linspace(-0.5, 0.5, int(4 * length))
    sideways = bend * (1 - 4 * along**2) + 0.4 * bend * np.sin(2 * np.pi * along)
    angle = rng.uniform(0, np.pi)
    frame = np.array([[np.sin(angle), np.cos(angle)], [np.cos(angle), -np.sin(angle)]])
    middle = [rng.uniform(0.35, 0.65) * side for side in size]
    points = middle + length * np.stack([along, sideways], axis=1) @ frame
    pixels = np.moveaxis(np.indices(size), 0, -1)
    distance, nearest = cKDTree(points).query(pixels)
    return np.sign((pixels - points[nearest]) @ frame[1]) * distance, along[nearest] + 0.5


def _hole(rng: Generator, size: _Size, surface: _Field) -> _Painted:
    depth = _blob(rng, size, rng.uniform(7, 15)) + 0.7 * _noise(rng, size, 1.2)
    wall = 0.6 * np.exp(-np.maximum(depth, 0) / 2.5) + 0.03 * _noise(rng, size, 1)
    return surface * np.clip(wall, 0, 1)[:, :, None] + rng.uniform(0.05, 0.15), _step(depth / 1.2)


def _stain(rng: Generator, size: _Size, surface: _Field) -> _Painted:
    depth = _blob(rng, size, rng.uniform(18, 32)) + 1.5 * _noise(rng, size, 4)
    soaked = 0.5 + 0.5 * np.sin(np.pi / 2 * np.clip(depth / rng.uniform(4, 9), -1, 1))
    tint = rng.choice([(0.74, 0.70, 0.62), (0.84, 0.72, 0.66), (0.74, 0.77, 0.82), (1.18, 1.16, 1.10)])
    return surface * tint, soaked * np.clip(0.9 + 0.08 * _noise(rng, size, 5), 0, 1)


def _scratch(rng: Generator, size: _Size, surface: _Field) -> _Painted:
    offset, along = _curve(rng, size, rng.uniform(0.35, 0.7) * min(size), rng.uniform(-0.2, 0.2))
    width = rng.uniform(0.8, 1.2)
    pressure = np.clip(0.75 + 0.25 * _noise(rng, size, 8), 0.3, 1) * np.sqrt(np.sin(np.pi * along))
    groove, rim = np.exp(-((offset / width) ** 2)), 0.5 * np.exp(-((offset / width - 2) ** 2))
    lift = rng.choice((-1, 1)) * rng.uniform(0.18, 0.3) * np.where(groove > rim, 1, -1)
    return np.clip(surface + lift[:, :, None], 0.05, 0.95), pressure * np.maximum(groove, rim)


def _cut(rng: Generator, size: _Size, surface: _Field) -> _Painted:
    offset, along = _curve(rng, size, rng.uniform(0.3, 0.55) * min(size), 0.0)
    taper = 1 - (2 * along - 1) ** 4
    depth = rng.uniform(1, 1.8) * taper - np.abs(offset) + 0.45 * _noise(rng, size, 0.8)
    gape, lip = _step(depth), 0.5 * taper * np.exp(-((depth + 1.3) ** 2))
    return np.where(gape > lip, rng.uniform(0.15, 0.4), 1.3)[:, :, None] * surface, np.maximum(gape, lip)


def _fibre(rng: Generator, size: _Size, surface: _Field) -> _Painted:
    offset, _ = _curve(rng, size, rng.uniform(0.35, 0.7) * min(size), rng.uniform(-0.35, 0.35))
    half = rng.uniform(0.8, 1.4)
    lying, shadow = _step(half - np.abs(offset)), 0.4 * np.exp(-(((offset - half - 1) / 1.5) ** 2))
    colour = rng.choice([(0.86, 0.85, 0.80), (0.16, 0.17, 0.22), (0.60, 0.20, 0.18)])
    body = _dyed(np.cos(np.clip(offset / half, -1.5, 1.5)), 0.7 * colour, colour)
    return np.where((lying > shadow)[:, :, None], body, 0.4 * surface), np.maximum(lying, shadow)


def _wrong_thread(rng: Generator, size: _Size, weave: Generator) -> _Painted:
    """One warp thread missing, thick or pushed aside over a part of its length; `weave` as in `_weave`."""
    v, u = _thread_coordinates(weave, size)
    across = u - np.floor(rng.uniform(0.25, 0.75) * u.max()) - 0.5
    beyond, length = v - rng.uniform(0.35, 0.65) * v.max(), rng.uniform(0.12, 0.25) * v.max()
    within = length - np.abs(beyond)
    fault = rng.choice(("missing", "thick", "aside"))
    if fault == "missing":
        target = _interlaced(weave, v, u, missing=(np.abs(across) < 0.5) & (within > 0))
        return target, _step(7 * np.minimum(0.6 - np.abs(across), within))
    push = 0.6 * across if fault == "thick" else 0.8 * np.sin(2 * np.pi * beyond / length)
    swell = np.clip(within / 2, 0, 1) * np.exp(-((across / 1.2) ** 2))
    return _interlaced(weave, v, u - swell * push), _step(7 * np.minimum(2.2 - np.abs(across), within))


def _patch(rng: Generator, size: _Size, surface: _Field) -> _Painted:
    depth = _blob(rng, size, rng.uniform(18, 30))
    middle = np.append(np.argwhere(depth > 0).mean(axis=0), 0)
    angle, zoom = rng.uniform(0.2, 0.3) * np.pi * rng.choice((-1, 1)), rng.choice((0.65, 1.5))
    turn = np.diag((zoom, zoom, 1.0))
    turn[:2, :2] @= [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turned = ndimage.affine_transform(surface, turn, middle - turn @ middle, mode="mirror")
    return turned * (surface[depth > 0].mean(axis=0) / turned[depth > 0].mean(axis=0)), _step(depth / 2)


_TEXTURES = {"weave": _weave, "leather": _leather, "wood": _wood, "brushed_metal": _metal, "tile": _tile}
_FLAWS = {"hole": _hole, "stain": _stain, "scratch": _scratch, "cut": _cut, "thread": _fibre, "patch": _patch}
