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
from scipy.spatial import cKDTree

from ssdnet_core.errors import InvalidConfigError
from ssdnet_core.flaws import (
    DEFECT_KINDS,
    FLAWS,
    SENSOR_NOISE,
    DefectKind,
    Field,
    Painted,
    Size,
    blurred,
    check,
    dyed,
    laid_over,
    noise,
    step,
)

TextureKind = Literal["weave", "leather", "wood", "brushed_metal", "tile"]
TEXTURE_KINDS: tuple[TextureKind, ...] = get_args(TextureKind)


@dataclass(frozen=True, eq=False)
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
    if kind not in TEXTURE_KINDS:
        raise InvalidConfigError(f"no texture {kind!r}; choose of {TEXTURE_KINDS}")
    check(defect, size, seed=seed)

    def stream(purpose: int) -> Generator:
        return np.random.default_rng((seed, TEXTURE_KINDS.index(kind), purpose))

    surface = _TEXTURES[kind](stream(0), size)
    light = _light(stream(1), size)
    draws = stream(3 + DEFECT_KINDS.index(defect))
    target, coverage = surface, np.zeros(size)
    if (kind, defect) == ("weave", "thread"):
        target, coverage = _wrong_thread(draws, size, weave=stream(0))
    elif defect != "none":
        target, coverage = FLAWS[defect](draws, size, surface=surface)
    photograph, truth = laid_over(surface, target, coverage=coverage, light=light)
    photograph += SENSOR_NOISE * stream(2).standard_normal(photograph.shape)
    pixels = np.rint(255 * np.clip(photograph, 0, 1)).astype(np.uint8)
    return SyntheticImage(pixels, truth, kind, defect)


def _light(rng: Generator, size: Size) -> Field:
    """Illumination of shape (H, W, 1) around 1: a slope, soft spots and a lens, a few percent in all."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in size), indexing="ij")
    slope = rng.uniform(-0.02, 0.02) * y + rng.uniform(-0.02, 0.02) * x
    light: Field = 1 + slope + 0.01 * noise(rng, size, sigma=min(size) / 4) - 0.015 * (y**2 + x**2)
    return light[:, :, None]


def _thread_coordinates(rng: Generator, size: Size) -> tuple[Field, Field]:
    """Position across the weft (rows) and the warp (columns) in threads, slightly out of true."""
    pitch = rng.uniform(6.5, 9)
    rows, columns = np.indices(size, dtype=float)
    sag = [1.5 * noise(rng, size, sigma=min(size) / 6) + 0.3 * noise(rng, size, sigma=4) for _ in range(2)]
    return (rows + sag[0]) / pitch + 2, (columns + sag[1]) / pitch + 2


def _interlaced(rng: Generator, threads: tuple[Field, Field], *, missing: ArrayLike = False) -> Field:
    """Colour of a plain or twill weave at the coordinates of its threads; no warp where `missing`."""
    v, u = threads
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
    shade = np.where(top > 0.15, top, np.maximum(top, 0.55 * under)) + 0.04 * noise(rng, v.shape, sigma=0.6)
    return dyed(blurred(shade, 0.7), 0.25 * dye, bright=1.05 * dye)


def _weave(rng: Generator, size: Size) -> Field:
    return _interlaced(rng, _thread_coordinates(rng, size))


def _cells(rng: Generator, size: Size, *, spacing: float) -> tuple[NDArray[np.intp], Field]:
    """Voronoi cells of jittered points: the cell of each pixel, and its distance to the border."""
    grid = np.mgrid[-spacing : size[0] + spacing : spacing, -spacing : size[1] + spacing : spacing]
    points = grid.reshape(2, -1).T + spacing * rng.uniform(-0.5, 0.5, (grid[0].size, 2))
    wobble = np.stack([0.15 * spacing * noise(rng, size, sigma=spacing / 3) for _ in range(2)], axis=-1)
    distance, cell = cKDTree(points).query(np.moveaxis(np.indices(size), 0, -1) + wobble, k=2)
    return cell[:, :, 0], (distance[:, :, 1] - distance[:, :, 0]) / 2


def _leather(rng: Generator, size: Size) -> Field:
    cell, edge = _cells(rng, size, spacing=rng.uniform(7, 11))
    height = np.sqrt(1 - np.exp(-edge)) * rng.uniform(0.9, 1, cell.max() + 1)[cell]
    height = blurred(height + 0.08 * noise(rng, size, sigma=1), 0.9)
    down, right = np.gradient(height)
    tone = 0.2 + 0.5 * height + 0.9 * (down + 0.6 * right) + 0.03 * noise(rng, size, sigma=20)
    hide = rng.choice([(0.62, 0.40, 0.26), (0.45, 0.30, 0.22), (0.50, 0.47, 0.44), (0.66, 0.54, 0.40)])
    return dyed(tone, 0.3 * hide, bright=1.25 * hide)


def _wood(rng: Generator, size: Size) -> Field:
    rows, columns = np.indices(size, dtype=float)
    rows += rng.uniform(20, 60) * (columns / size[1] - rng.uniform(0.2, 0.8)) ** 2
    rows += 5 * noise(rng, size, sigma=(25, 90)) + 0.4 * noise(rng, size, sigma=(1.5, 15))
    rings = (rows - rows.min()) / rng.uniform(9, 15)
    year, season = rings.astype(int), rings % 1
    late = np.minimum((season / 0.85) ** 2.5, (1 - season) / 0.15) * rng.uniform(0.6, 1, year.max() + 1)[year]
    pores = np.clip(noise(rng, size, sigma=(0.6, 6)) - 1.6, 0, 1)
    fibres = 0.06 * noise(rng, size, sigma=(0.7, 15)) + 0.05 * noise(rng, size, sigma=(8, 60))
    bright = rng.choice([(0.80, 0.62, 0.42), (0.72, 0.52, 0.34), (0.82, 0.70, 0.52)])
    return dyed(0.85 + fibres - 0.55 * blurred(late, 0.8) - 0.35 * pores, 0.45 * bright, bright=bright)


def _metal(rng: Generator, size: Size) -> Field:
    streaks = [w * noise(rng, size, sigma=(s, r)) for w, s, r in ((0.16, 0.5, 40), (0.1, 0.5, 9), (0.12, 2, 90))]
    metal = rng.choice([(0.62, 0.64, 0.66), (0.66, 0.62, 0.56), (0.55, 0.55, 0.57)])
    return dyed(0.5 + sum(streaks) + 0.03 * noise(rng, size, sigma=0.6), 0.75 * metal, bright=1.2 * metal)


def _tile(rng: Generator, size: Size) -> Field:
    minerals = np.array([(0.74, 0.72, 0.68), (0.62, 0.60, 0.58), (0.66, 0.55, 0.48), (0.25, 0.24, 0.25)])
    stone = np.tile(0.015 * noise(rng, size, sigma=0.6)[:, :, None], 3)
    for spacing, weight in ((6.0, 0.6), (2.7, 0.4)):
        cell, _ = _cells(rng, size, spacing=spacing)
        mineral = rng.choice(4, p=(0.42, 0.26, 0.17, 0.15), size=cell.max() + 1)
        stone += weight * (minerals[mineral] * rng.uniform(0.9, 1.1, (len(mineral), 1)))[cell]
    return blurred(stone * rng.uniform(0.95, 1.03, 3), (0.8, 0.8, 0))


def _wrong_thread(rng: Generator, size: Size, *, weave: Generator) -> Painted:
    """One warp thread missing, thick or pushed aside over a part of its length; `weave` as in `_weave`."""
    v, u = _thread_coordinates(weave, size)
    across = u - np.floor(rng.uniform(0.25, 0.75) * u.max()) - 0.5
    beyond, length = v - rng.uniform(0.35, 0.65) * v.max(), rng.uniform(0.12, 0.25) * v.max()
    within = length - np.abs(beyond)
    fault = rng.choice(("missing", "thick", "aside"))
    if fault == "missing":
        target = _interlaced(weave, (v, u), missing=(np.abs(across) < 0.5) & (within > 0))
        return target, step(7 * np.minimum(0.6 - np.abs(across), within))
    push = 0.6 * across if fault == "thick" else 0.8 * np.sin(2 * np.pi * beyond / length)
    swell = np.clip(within / 2, 0, 1) * np.exp(-((across / 1.2) ** 2))
    return _interlaced(weave, (v, u - swell * push)), step(7 * np.minimum(2.2 - np.abs(across), within))


_TEXTURES = {"weave": _weave, "leather": _leather, "wood": _wood, "brushed_metal": _metal, "tile": _tile}
