"""Good regular textures: how many alarm, whole and behind masks, where the border or a mask cuts their period.

    python bench/regular.py --out OUT [--seeds 3] [--noise 2]

Waves along the sides and turned, a weave, holes and stripes are made in four periods, straight and displaced smoothly
by a pixel, with white noise. Each is inspected as it is and behind masks that leave out a frame, all but a disc, and a
disc in the middle. OUT gets the images in MVTec-AD layout, which the other benchmarks take as well, and regular.json.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from about import about, markdown_table, mistakes_told
from compared import chosen, names, whole_number
from dask.system import CPU_COUNT
from labelled import Change, Finding, Photograph, findings
from PIL import Image
from scipy import ndimage

from flows.settings import settings_from
from tasks.cluster import Cluster
from tasks.storage import Storage

Field = npt.NDArray[np.float64]

SIDE = 256
AMPLITUDE = 40.0
"""Grey levels from the mean to the brightest of what a kind shows."""

TURN = np.deg2rad(20)
PERIODS = ((8.0, 8.0), (9.3, 7.7), (14.0, 17.0), (24.0, 20.0))
"""In pixels, across and down."""

DISPLACED, DISPLACED_OVER = 1.0, 24.0
"""Standard deviation of a smooth displacement, and the sigma that it is smoothed by, in pixels."""

FRAME, DISC, HOLE = 24, 120, 40
"""Width of the frame and radii of the discs that masks are made of, in pixels."""


def waves(across: Field, down: Field) -> Field:
    """Show waves along both sides, as of a grid."""
    return (np.cos(across) + np.cos(down)) / 2


def weave(across: Field, down: Field) -> Field:
    """Show threads over and under one another: two periods make a repeat."""
    over = np.cos(across / 2) * np.cos(down / 2) > 0
    return np.where(over, np.abs(np.sin(across / 2)), np.abs(np.sin(down / 2))) * 2 - 1


def holes(across: Field, down: Field) -> Field:
    """Show dark holes with soft edges, one a period."""
    return 1 - 2 / (1 + np.exp(-12 * ((np.cos(across) + np.cos(down)) / 2 - 0.55)))


def stripes(across: Field, _: Field) -> Field:
    """Show waves along one side."""
    return np.cos(across)


KINDS: dict[str, tuple[Callable[[Field, Field], Field], float]] = {
    "waves": (waves, 0.0),
    "turned": (waves, TURN),
    "weave": (weave, 0.0),
    "holes": (holes, 0.0),
    "stripes": (stripes, 0.0),
}
"""What each kind shows over the two phases, and by how much it is turned."""


def texture(
    kind: str, period: tuple[float, float], *, displaced: float, noise: float, seed: int
) -> npt.NDArray[np.uint8]:
    """Make a good texture of 256 x 256, displaced by so many pixels, with noise of so many grey levels."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:SIDE, :SIDE].astype(float)
    if displaced:
        down, across = (
            axis + displaced * _unit(ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), DISPLACED_OVER))
            for axis in (down, across)
        )
    shows, turn = KINDS[kind]
    across, down = np.cos(turn) * across + np.sin(turn) * down, np.cos(turn) * down - np.sin(turn) * across
    phases = rng.uniform(0, 2 * np.pi, 2)
    seen = shows(2 * np.pi * across / period[0] + phases[0], 2 * np.pi * down / period[1] + phases[1])
    grey = 128 + AMPLITUDE * seen + noise * rng.standard_normal((SIDE, SIDE))
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def _unit(field: Field) -> Field:
    return field / field.std()


def masked(
    shown: Photograph, _: np.random.Generator, *, left_out: Callable[[Field], npt.NDArray[np.bool_]]
) -> Photograph:
    """Leave out the pixels that a mask tells by their offsets from the middle: (2, H, W), down and across."""
    down, across = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return replace(shown, missing=left_out(np.stack([down, across])))


def frame(place: Field) -> npt.NDArray[np.bool_]:
    """Leave out all but the middle."""
    return np.abs(place).max(0) > SIDE / 2 - FRAME


def around_disc(place: Field) -> npt.NDArray[np.bool_]:
    """Leave out all but a disc that nearly fills the image."""
    return np.hypot(*place) > DISC


def hole(place: Field) -> npt.NDArray[np.bool_]:
    """Leave out a disc in the middle."""
    return np.hypot(*place) < HOLE


MASKS: dict[str, Change | None] = {
    "nothing": None,
    "a frame": partial(masked, left_out=frame),
    "all but a disc": partial(masked, left_out=around_disc),
    "a disc in the middle": partial(masked, left_out=hole),
}


@mistakes_told()
def main() -> None:
    """Make the textures and inspect them; a mistake of the caller's ends it with a message."""
    parser = argparse.ArgumentParser(description="Count the good regular textures that alarm.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the images and the results")
    parser.add_argument("--seeds", type=whole_number, default=1, help="textures of each kind, period and displacement")
    parser.add_argument("--noise", type=whole_number, default=8, help="its standard deviation in grey levels")
    parser.add_argument("--only", type=names, default=tuple(MASKS), help="masks, by comma")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a single setting; repeatable")
    parser.add_argument("--workers", type=whole_number, default=CPU_COUNT, help="processes; by default one a core")
    options = parser.parse_args()
    options.only = chosen(options.only, MASKS, parser=parser)
    config = settings_from(None, None, changes=options.set)
    keys = [
        _written(options.out, kind, period=period, displaced=displaced, noise=options.noise, seed=seed)
        for kind in KINDS
        for period in PERIODS
        for displaced in (0.0, DISPLACED)
        for seed in range(options.seeds)
    ]
    source = Storage(str(options.out / "images"))
    with Cluster(workers=options.workers) as cluster:
        found = {
            name: findings(cluster.client, source, keys=keys, config=config, title=name, change=MASKS[name])
            for name in options.only
        }
    tree = {
        **about(),
        "settings": config.fingerprint(),
        "noise": options.noise,
        "masks": {n: [asdict(one) for one in f] for n, f in found.items()},
    }
    (options.out / "regular.json").write_text(json.dumps(tree, indent=1) + "\n")
    print(table(found))


def _written(out: Path, kind: str, *, period: tuple[float, float], displaced: float, noise: float, seed: int) -> str:
    name = f"{period[0]:g}x{period[1]:g}-{'displaced' if displaced else 'straight'}-{seed}"
    key = f"{kind}/test/good/{name}.png"
    path = out / "images" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(texture(kind, period, displaced=displaced, noise=noise, seed=seed)).save(path)
    return key


def table(found: dict[str, list[Finding]]) -> str:
    """Return a row for each mask: alarms on the textures of each kind, and the highest score."""
    rows = []
    for name, images in found.items():
        alarms = [
            (sum(one.defective for one in images if one.category == kind), sum(one.category == kind for one in images))
            for kind in KINDS
        ]
        total = sum(count for count, _ in alarms)
        highest = max(one.score for one in images)
        rows.append(
            [name, *(f"{count} of {of}" for count, of in alarms), f"{total} of {len(images)}", f"{highest:.1f}"]
        )
    return markdown_table(["left out", *KINDS, "all", "highest score"], rows)


if __name__ == "__main__":
    main()
