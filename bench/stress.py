"""What a night brings: the benchmark on degraded images.

    python bench/stress.py DATA --out OUT [--every 3] [--only noise,missing] [--set leave_out_frame=false]

DATA is a folder of categories in MVTec-AD layout. Each condition is applied to every image, with a random generator of
the image's own. OUT gets stress.json (all figures of all images), stress.md (the table) and stress.png (what the
conditions look like). A condition may be named by a part of its name that no other has. One that OUT has already for
the same settings, precision and images is not run again; results for other settings, precision or images are not in the
table.
"""

import argparse
import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from about import markdown_table, mistakes_told
from compared import Run, cells, chosen, findings_of, image_options, made_or_kept, names
from labelled import Change, Photograph, contents, findings, listed, photograph, stamp
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from flows.settings import settings_from
from tasks.cluster import Cluster
from tasks.storage import Storage

REFERENCE = 256
"""Widths of borders and holes are given for an image of this short side."""

PANELS_A_ROW = 5

REACH = 6
"""Most pixels to each side that go into an interpolated pixel: those of Lanczos at half the scale."""


def gradient(shown: Photograph, rng: np.random.Generator) -> Photograph:
    """Light that falls off by 30 % from one side to the other."""
    down, right = _coordinates(shown)
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * right + np.sin(angle) * down
    return _lit(shown, 0.85 + 0.15 * slope / np.abs(slope).max())


def vignette(shown: Photograph, _: np.random.Generator, *, loss: float) -> Photograph:
    """Light that falls off towards the corners, where this share is missing."""
    down, right = _coordinates(shown)
    return _lit(shown, 1 - loss / 2 * (down**2 + right**2))


def highlight(shown: Photograph, rng: np.random.Generator) -> Photograph:
    """Add a lamp's reflection: a broad spot, a third brighter."""
    down, right = _coordinates(shown)
    y, x = rng.uniform(-0.5, 0.5, 2)
    return _lit(shown, 0.75 * (1 + 0.33 * np.exp(-((down - y) ** 2 + (right - x) ** 2) / 0.5)))


def dark_border(shown: Photograph, rng: np.random.Generator) -> Photograph:
    """Make a border of 8 pixels along two sides a quarter as bright."""
    height, width = shown.truth.shape
    depth = np.minimum(np.arange(height)[:, None], np.arange(width)[None])
    if rng.integers(2):
        depth = depth[::-1, ::-1]
    unit = _unit(shown)
    light = 0.25 + 0.75 / (1 + np.exp(-(depth - 8 * unit) / unit))
    # A defect in the dark cannot be seen, and need not be found.
    return replace(_lit(shown, light), truth=shown.truth & (light > 0.5))


def noise(shown: Photograph, rng: np.random.Generator) -> Photograph:
    """Gaussian noise of sigma 0.1 of the range."""
    return _clipped(shown, _bytes(shown) + 25.5 * rng.standard_normal(shown.pixels.shape))


def missing(shown: Photograph, rng: np.random.Generator) -> Photograph:
    """30 % of the pixels missing, beside those that the image lacks."""
    unit, (height, width) = _unit(shown), shown.truth.shape
    squares = rng.random((-(-height // unit), -(-width // unit))) < 0.3
    holes = np.kron(squares, np.ones((unit, unit), dtype=bool))[:height, :width]
    return replace(shown, missing=holes if shown.missing is None else holes | shown.missing)


def jpeg(shown: Photograph, _: np.random.Generator) -> Photograph:
    """JPEG at quality 60."""
    buffer = io.BytesIO()
    Image.fromarray(_bytes(shown)).save(buffer, "JPEG", quality=60)
    return replace(shown, pixels=np.asarray(Image.open(buffer)))


def rotation(shown: Photograph, _: np.random.Generator) -> Photograph:
    """Turn by 3 degrees; the corners that come in are cut off, but for a strip's, which are mirrored."""
    cut = int(0.055 * max(shown.truth.shape))
    down, right = (min(cut, side // 4) for side in shown.truth.shape)
    inside = np.s_[down : shown.truth.shape[0] - down, right : shown.truth.shape[1] - right]
    turned = partial(ndimage.rotate, angle=3, reshape=False)
    return _moved(
        shown,
        pixels=lambda pixels: _eight_bits(turned(pixels.astype(float), order=3, mode="reflect")[inside]),
        flags=lambda flags: turned(flags.astype(float), order=1)[inside] > 0.5,
    )


def straightened(shown: Photograph, rng: np.random.Generator) -> Photograph:
    """Turn by .3 to 1 degree, the corners that come in left black."""
    return _on_black(shown, angle=rng.choice([-1, 1]) * rng.uniform(0.3, 1), whole=False)


def askew(shown: Photograph, _: np.random.Generator) -> Photograph:
    """Lie whole on black ground, turned by 12 degrees."""
    return _on_black(shown, angle=12, whole=True)


def _on_black(shown: Photograph, *, angle: float, whole: bool) -> Photograph:
    def turned(pixels: np.ndarray, resample: Image.Resampling) -> np.ndarray:
        return np.asarray(Image.fromarray(pixels).rotate(angle, resample=resample, expand=whole))

    return _moved(
        shown,
        pixels=lambda pixels: turned(pixels, Image.Resampling.BICUBIC),
        flags=lambda flags: turned(flags.astype(np.uint8), Image.Resampling.NEAREST) > 0,
    )


def half(shown: Photograph, _: np.random.Generator) -> Photograph:
    """Half as large, as from a coarser camera."""
    return _scaled(shown, 0.5)


def double(shown: Photograph, _: np.random.Generator) -> Photograph:
    """Twice as large, as from a finer camera."""
    return _scaled(shown, 2.0)


CONDITIONS: dict[str, Change | None] = {
    "clean": None,
    "light falling off by 30 % to one side": gradient,
    "vignette of 30 %": partial(vignette, loss=0.3),
    "vignette of 60 %": partial(vignette, loss=0.6),
    "a lamp's reflection of 33 %": highlight,
    "dark border": dark_border,
    "noise of sigma 0.1": noise,
    "30 % of the pixels missing": missing,
    "JPEG at quality 60": jpeg,
    "turned by 3 degrees": rotation,
    "straightened, with black corners": straightened,
    "askew on black ground": askew,
    "half scale": half,
    "double scale": double,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the accuracy on degraded images.")
    image_options(parser)
    parser.add_argument("--only", type=names, default=tuple(CONDITIONS), help="conditions, by comma")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a single setting; repeatable")
    options = parser.parse_args()
    options.only = chosen(options.only, CONDITIONS, parser=parser)
    return options


@mistakes_told()
def main() -> None:
    """Run the conditions; a mistake of the caller's ends it with a message."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    source = Storage(str(options.data))
    config = settings_from(None, None, changes=options.set)
    images = listed(source, every=options.every, categories=options.categories)
    keys = [image.key for image in images]
    present = stamp(config, contents(source, images))
    draw_conditions(photograph(source, keys[0]), options.out / "stress.png")
    with Cluster(workers=options.workers) as cluster:
        runs = made_or_kept(
            options.out / "stress.json",
            dict.fromkeys(CONDITIONS, present),
            only=options.only,
            make=lambda name: findings(
                cluster.client, source, keys=keys, config=config, title=name, change=CONDITIONS[name]
            ),
        )
    told = table(runs, images=len(keys))
    (options.out / "stress.md").write_text(told)
    print(told)


def table(conditions: dict[str, Run], *, images: int) -> str:
    """Return a row for each condition: the metrics, their difference to the clean images if known, and the verdicts.

    ``images`` is how many were to be inspected; some may have failed.
    """
    results = {name: findings_of(condition) for name, condition in conditions.items()}
    rows = []
    for name, found in results.items():
        clean = results.get("clean") if name != "clean" else None
        good, bad = ([one for one in found if one.truly_defective == defective] for defective in (False, True))
        rows.append(
            [
                name,
                *cells(found, clean),
                f"{sum(one.defective for one in good)} of {len(good)}",
                f"{sum(one.warned for one in good)}",
                f"{sum(one.defective for one in bad)} of {len(bad)}",
                f"{len(found)} of {images}",
            ]
        )
    alarms = ["alarms on good images", "warned", "alarms on defective ones"]
    return markdown_table(["", "AUROC / AUPRC", "difference", *alarms, "images"], rows)


def draw_conditions(shown: Photograph, path: Path) -> None:
    """Draw one image under every condition."""
    rows = -(-len(CONDITIONS) // PANELS_A_ROW)
    figure = Figure(figsize=(13, 3.1 * rows), layout="constrained")
    panels = figure.subplots(rows, PANELS_A_ROW).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, (name, change) in zip(panels, CONDITIONS.items(), strict=False):
        changed = change(shown, np.random.default_rng(0)) if change else shown
        pixels = np.array(_bytes(changed))
        if changed.missing is not None:
            pixels[changed.missing] = 255
        axes.imshow(pixels, cmap="gray")
        axes.set_title(name, fontsize=8)
    figure.savefig(path, dpi=110)


def _coordinates(shown: Photograph) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels' places, -1 to 1, down and to the right."""
    height, width = shown.truth.shape
    down, right = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return down, right


def _unit(shown: Photograph) -> int:
    return max(1, round(min(shown.truth.shape) / REFERENCE))


def _bytes(shown: Photograph) -> np.ndarray:
    """Return the pixels in 8 bits; if they are floating-point, from the lowest that counts (0) to the highest (255)."""
    pixels = np.asarray(shown.pixels)
    if pixels.dtype == np.uint8:
        return pixels
    if np.issubdtype(pixels.dtype, np.integer):
        return (pixels.astype(float) / np.iinfo(pixels.dtype.name).max * 255).astype(np.uint8)
    counted = pixels if shown.missing is None else pixels[~shown.missing]
    lowest, highest = float(counted.min()), float(counted.max())
    # What is missing may be no number.
    return _eight_bits(np.nan_to_num((pixels.astype(float) - lowest) / (highest - lowest or 1.0) * 255))


def _lit(shown: Photograph, light: np.ndarray) -> Photograph:
    pixels = _bytes(shown)
    return _clipped(shown, pixels * (light[:, :, None] if pixels.ndim == 3 else light))


def _clipped(shown: Photograph, pixels: np.ndarray) -> Photograph:
    return replace(shown, pixels=_eight_bits(pixels))


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _scaled(shown: Photograph, factor: float) -> Photograph:
    height, width = shown.truth.shape
    size = round(factor * width), round(factor * height)

    def resized(pixels: np.ndarray, resample: Image.Resampling) -> np.ndarray:
        return np.asarray(Image.fromarray(pixels).resize(size, resample))

    return _moved(
        shown,
        pixels=lambda pixels: resized(pixels, Image.Resampling.LANCZOS),
        flags=lambda flags: resized(flags.astype(np.uint8) * 255, Image.Resampling.BOX) > 127,
    )


def _moved(
    shown: Photograph,
    *,
    pixels: Callable[[np.ndarray], np.ndarray],
    flags: Callable[[np.ndarray], np.ndarray],
) -> Photograph:
    """Move the pixels in 8 bits, and with them what is defective and what is missing."""
    missing = None
    if shown.missing is not None:
        # Interpolated, what lies beside a missing pixel would show some of it.
        missing = flags(ndimage.maximum_filter(shown.missing, size=2 * REACH + 1))
    return replace(shown, pixels=pixels(_bytes(shown)), truth=flags(shown.truth), missing=missing)


if __name__ == "__main__":
    main()
