"""What an image costs beside its fit: the real command, a stub in place of the fit, ten thousand small images.

    python bench/overhead.py --out OUT [--images 10000]

Runs ``ssdnet inspect`` on a local folder of 64 x 64 images, then again: the second run finds everything done. OUT
gets overhead.json and the images, which a later run uses again.
"""

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
from about import about
from measured_run import Run, run_measured
from PIL import Image

SIZE = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=10_000)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    head = about()
    night = write_night(options.out / f"night-{options.images}", options.images)
    results = options.out / "results"
    shutil.rmtree(results, ignore_errors=True)
    command = [str(Path(__file__).with_name("stubbed.py")), "inspect", str(night), "--results", str(results)]
    first, again = (run_measured(command, home=options.out / "prefect") for _ in range(2))
    tree = {**head, "images": options.images, "first": asdict(first), "again": asdict(again)}
    tree["ms_an_image"] = 1000 * first.wall / options.images
    (options.out / "overhead.json").write_text(json.dumps(tree, indent=1) + "\n")
    print(table(options.images, first, again=again))


def write_night(folder: Path, images: int) -> Path:
    """Write small noise images, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(images):
        pixels = rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        path = folder / f"{number:06d}.png"
        if not path.exists():
            Image.fromarray(pixels).save(path, compress_level=1)
    return folder


def table(images: int, first: Run, *, again: Run) -> str:
    """Return the figures as Markdown."""
    lines = ["| | first run | finished batch again |", "| --- | ---: | ---: |"]
    rows = {
        "wall, s": (first.wall, again.wall),
        f"wall / {images} images, ms": (1000 * first.wall / images, 1000 * again.wall / images),
        **{f"CPU of {part}, s": (first.cpu[part], again.cpu.get(part, 0.0)) for part in first.cpu},
        **{f"peak memory of {part}, MiB": (first.peak[part], again.peak.get(part, 0.0)) for part in first.peak},
    }
    lines += [f"| {name} | {one:.1f} | {two:.1f} |" for name, (one, two) in rows.items()]
    lines += [f"| Prefect task runs | {first.task_runs} | {again.task_runs} |", "", "Stages of the first run, from s:"]
    lines += [f"- {at:7.1f}  {name}" for name, at in first.stages]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
