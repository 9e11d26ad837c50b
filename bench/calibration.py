"""Whether the verdict keeps its word: alarms on good images, against the number that was asked for.

    python bench/calibration.py DATA --out OUT [--orientations 4]

DATA is a folder of categories in MVTec-AD layout; its good images are inspected in several orientations, each with a
seed of its own, and its defective ones once. OUT gets calibration.json and calibration.png: the measured share of
good images with an alarm over `verdict.expected_false_alarms`, with the share that the a-contrario law promises,
and the share of defective images with one.
"""

import argparse
import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
from about import about, markdown_table, mistakes_told
from compared import image_options
from labelled import Finding, Photograph, findings, is_good, listed
from matplotlib.figure import Figure
from scipy.stats import binomtest

from ssdnet_core.config import Config
from tasks.cluster import Cluster
from tasks.discovery import NothingToInspectError
from tasks.storage import Storage

ASKED = np.geomspace(0.01, 2.0, 24)
SHOWN = (2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
CONFIDENCE = 0.9


@mistakes_told()
def main() -> None:
    """Run the calibration; a mistake of the caller's ends it with a message."""
    parser = argparse.ArgumentParser(description="Compare alarms on good images with the number asked for.")
    image_options(parser)
    parser.add_argument("--orientations", type=int, default=4, choices=range(1, 9), help="of each good image")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    source, found = Storage(str(options.data)), []
    keys = [image.key for image in listed(source, every=options.every, categories=options.categories)]
    if not any(is_good(key) for key in keys):
        raise NothingToInspectError(f"{options.data} has no good image, CATEGORY/test/good/NAME, to alarm on")
    with Cluster(workers=options.workers) as cluster:
        for number in range(options.orientations):
            chosen = [key for key in keys if number == 0 or is_good(key)]
            config = Config().updated({"seed": number})
            turn = partial(turned, orientation=number)
            title = f"orientation {number + 1}"
            found += findings(cluster.client, source, keys=chosen, config=config, title=title, change=turn)
    tree = {**about(), "settings": Config().fingerprint(), "images": [asdict(one) for one in found]}
    (options.out / "calibration.json").write_text(json.dumps(tree, indent=1) + "\n")
    draw(found, options.out / "calibration.png")
    print(table(found))


def turned(shown: Photograph, _: np.random.Generator, *, orientation: int) -> Photograph:
    """Return one of the eight orientations of an image: turned by 180 degrees, flipped, then transposed."""

    def turn(array: np.ndarray) -> np.ndarray:
        array = np.rot90(array, 2) if orientation & 1 else array
        array = array[::-1] if orientation & 2 else array
        return np.ascontiguousarray(array.swapaxes(0, 1) if orientation & 4 else array)

    left_out = None if shown.missing is None else turn(shown.missing)
    return replace(shown, pixels=turn(shown.pixels), truth=turn(shown.truth), missing=left_out)


def alarms(found: list[Finding], asked: float) -> int:
    """Return the number of images with an alarm when `asked` false alarms are expected in an image."""
    return sum(one.score >= -np.log10(asked) for one in found)


def table(found: list[Finding]) -> str:
    """Return a row for each number of false alarms asked for: share of good images with an alarm, defects found."""
    good, bad = _parted(found)
    rows = [
        [f"{asked:g}", f"{1 - np.exp(-asked):.3f}", f"{alarms(good, asked) / len(good):.3f}", str(alarms(bad, asked))]
        for asked in SHOWN
    ]
    header = [
        "false alarms asked for, an image",
        "images with one, promised",
        f"measured, of {len(good)} good images",
        f"defective images with an alarm, of {len(bad)}",
    ]
    return markdown_table(header, rows)


def draw(found: list[Finding], path: Path) -> None:
    """Draw the measured share of images with an alarm over the number asked for, both logarithmic."""
    good, bad = _parted(found)
    promised = 1 - np.exp(-ASKED)
    counts = np.array([alarms(good, asked) for asked in ASKED])
    bands = [binomtest(int(count), len(good)).proportion_ci(CONFIDENCE, "exact") for count in counts]
    low, high = np.transpose([(band.low, band.high) for band in bands])
    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(ASKED, promised / 2, np.minimum(2 * promised, 1), color="#eeeeee", label="within a factor of 2")
    axes.plot(ASKED, promised, color="#888888", linewidth=1, label="promised: 1 - exp(-asked)")
    axes.fill_between(ASKED, low, high, color="#0072b2", alpha=0.2, linewidth=0)
    label = f"good images with an alarm ({len(good)}; band: {CONFIDENCE:.0%} confidence)"
    axes.plot(ASKED, counts / len(good), "o-", color="#0072b2", markersize=4, label=label)
    if bad:
        share = [alarms(bad, asked) / len(bad) for asked in ASKED]
        axes.plot(
            ASKED, share, "s-", color="#d55e00", markersize=4, label=f"defective images with an alarm ({len(bad)})"
        )
    axes.axvline(Config().verdict.expected_false_alarms, color="#bbbbbb", linestyle=":", zorder=0)
    axes.set(xscale="log", yscale="log", ylim=(0.003, 1.3))
    axes.set(xlabel="expected false alarms asked for, an image", ylabel="share of images with an alarm")
    axes.legend(frameon=False, loc="lower right")
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def _parted(found: list[Finding]) -> tuple[list[Finding], list[Finding]]:
    return [one for one in found if not one.truly_defective], [one for one in found if one.truly_defective]


if __name__ == "__main__":
    main()
