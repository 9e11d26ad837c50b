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
from measured_run import Run, comparison, run_measured
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
    compared = comparison(first, again, of=f"{images} images", names=("first run", "finished batch again"))
    stages = "\n".join(f"- {at:7.1f}  {name}" for name, at in first.stages)
    an_image = f"{1000 * first.wall / images:.1f} ms an image in all"
    return f"{compared}\n\n{an_image}. Stages of the first run, from s:\n{stages}"


if __name__ == "__main__":
    main()
