"""Large frames: what is found in them at their own resolution, and what memory that takes.

    python bench/large.py --out OUT [--side 4000]

A made weave with 15 spots of 10 pixels is localized twice, brought down to the default working size and at its own
size; the same weave without spots once, at its own size. Then grey frames of two sizes tell what a pixel costs in
memory. Each runs on one thread in a process of its own, the peak memory of which Linux tells. OUT gets large.json.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from about import about, markdown_table

from ssdnet_core import Config, localize
from ssdnet_core.regions import Region
from ssdnet_core.synthetic import sample

Result = TypeVar("Result")

SPOT = 10
KINDS = ("dark", "flat", "turned")
EACH = 5
GRID = 8
"""Number of rows, and of columns, of a grid in the middle of whose cells the spots lie."""

GREY_SIDES = (1024, 2048)
TILE = 512
"""Side in pixels of the tiles for the grey frames, so that both frames are several tiles large."""


@dataclass(frozen=True)
class Measured:
    """What localizing one frame took and found.

    Attributes
    ----------
    peak
        Resident memory of the process at its highest, in bytes.
    before
        The same before anything was fitted.
    found
        Spots of each kind that a region touches.
    elsewhere
        Regions that touch no spot.
    """

    name: str
    seconds: float
    peak: int
    before: int
    found: dict[str, int]
    elsewhere: int
    score: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side", type=int, default=4000, help="of the frame with spots, in pixels")
    options = parser.parse_args()
    if options.side < max(GREY_SIDES):
        parser.error(
            f"--side {options.side} is less than {max(GREY_SIDES)}, the side of the larger grey frame, which is cut of "
            f"this one: ask for {max(GREY_SIDES)} or more"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    good, spotted = options.out / "good.npy", options.out / "spotted.npy"
    places = apart(make, good, spotted, side=options.side)
    native = {"working_size": options.side}
    measured = [
        apart(measure, "brought down", spotted, changes={}, places=places),
        apart(measure, "as it is", spotted, changes=native, places=places),
        apart(measure, "as it is, without spots", good, changes=native),
    ]
    for side in GREY_SIDES:
        tiled = {"working_size": side, "reconstruction.tile": TILE}
        measured.append(apart(measure, f"grey, {side} x {side}", good, changes=tiled, grey=side))
    per_pixel = (measured[-1].peak - measured[-2].peak) / (GREY_SIDES[1] ** 2 - GREY_SIDES[0] ** 2)
    frames = [asdict(one) for one in measured]
    tree = {**about(), "side": options.side, "frames": frames, "bytes_per_grey_pixel": per_pixel}
    (options.out / "large.json").write_text(json.dumps(tree, indent=1) + "\n")
    print(table(measured))
    print(f"\nA grey pixel more takes {per_pixel:.0f} bytes.")


def apart(work: Callable[..., Result], *arguments: object, **options: object) -> Result:
    """Do work in a process of its own: the kernel keeps a peak of memory for the life of one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *arguments, **options).result()


def make(good: Path, spotted: Path, *, side: int) -> dict[tuple[int, int], str]:
    """Write a weave without and with spots, and return the spots' corners, each with its kind."""
    frame = sample("weave", "none", size=(side, side)).pixels
    np.save(good, frame)
    rng = np.random.default_rng(0)
    cells = rng.choice(GRID**2, size=len(KINDS) * EACH, replace=False)
    corners = [tuple((np.array(divmod(int(cell), GRID)) * side + side // 2) // GRID) for cell in cells]
    places = {(int(y), int(x)): KINDS[number % len(KINDS)] for number, (y, x) in enumerate(corners)}
    y, x = np.mgrid[:SPOT, :SPOT] - (SPOT - 1) / 2
    inside = (y**2 + x**2 <= (SPOT / 2) ** 2)[:, :, None]
    for (top, left), kind in places.items():
        cut = frame[top : top + SPOT, left : left + SPOT]
        cut[:] = np.where(inside, _changed(cut.astype(np.float64), kind), cut)
    np.save(spotted, frame)
    return places


def _changed(cut: npt.NDArray[np.float64], kind: str) -> npt.NDArray[np.uint8]:
    changed = {
        "dark": 0.5 * cut,
        "flat": np.broadcast_to(cut.mean((0, 1)), cut.shape),
        "turned": 1.2 * cut.swapaxes(0, 1),
    }[kind]
    return np.rint(changed.clip(0, 255)).astype(np.uint8)


def measure(
    name: str,
    frame: Path,
    *,
    changes: dict[str, int],
    places: Mapping[tuple[int, int], str] | None = None,
    grey: int | None = None,
) -> Measured:
    """Localize a stored frame, or a grey square of it."""
    torch.set_num_threads(1)
    places = places or {}
    pixels = np.load(frame)
    pixels = np.ascontiguousarray(pixels[:grey, :grey, 1]) if grey else pixels
    before = _peak()
    result = localize(pixels, config=Config().updated(changes))
    touched = [[place for place in places if _overlap(region, place)] for region in result.regions]
    found = Counter(places[place] for place in {place for each in touched for place in each})
    return Measured(
        name=name,
        seconds=result.seconds,
        peak=_peak(),
        before=before,
        found={kind: found[kind] for kind in KINDS} if places else {},
        elsewhere=sum(not each for each in touched),
        score=result.score,
    )


def _overlap(region: Region, place: tuple[int, int]) -> bool:
    top, left = place
    return region.top < top + SPOT and top < region.bottom and region.left < left + SPOT and left < region.right


def _peak() -> int:
    # Not getrusage's peak, which begins with that of the process this one was forked from.
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return 1024 * int(kilobytes)


def table(measured: Sequence[Measured]) -> str:
    """Return a row for each frame."""
    rows = [
        [
            one.name,
            f"{one.seconds:.0f}",
            f"{one.peak / 1e9:.2f}",
            ", ".join(f"{count} {kind}" for kind, count in one.found.items()) or "-",
            str(one.elsewhere),
            f"{one.score:.1f}",
        ]
        for one in measured
    ]
    return markdown_table(["frame", "CPU-s", "peak, GB", "spots found", "regions elsewhere", "score"], rows)


if __name__ == "__main__":
    main()
