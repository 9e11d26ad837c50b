"""Time and memory of measuring a batch: the real command on real stores, with made maps of 512 x 512.

    python bench/metrics.py --out OUT [--images 10000]

Writes a sealed batch without fitting anything: a few images, truth masks and maps, linked under as many names as
there are to be images, and the figures, regions and gallery that belong to it. Then runs ``ssdnet evaluate`` on it,
twice: the second finds its metrics there. OUT gets metrics.json.
"""

import argparse
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
from about import about
from measured_run import comparison, run_measured
from PIL import Image

from ssdnet_core.config import Config
from ssdnet_core.regions import Region
from ssdnet_core.synthetic import sample
from tasks.batch import MANIFEST, MAPS, batch_name, open_batch
from tasks.batch_results import BatchResults
from tasks.discovery import discover, list_images
from tasks.image_figures import write_figures
from tasks.image_table import write_image_table
from tasks.manifest import Manifest
from tasks.maps import ANOMALY_MAP, prepare_maps, write_map
from tasks.records import ImageRecord, write_record
from tasks.region_table import write_region_table
from tasks.report import write_report
from tasks.seal import make_seal, set_seal
from tasks.storage import Storage
from tasks.truth import IMAGES_PATTERN

SIDE = 512
DISTINCT = 12
GOOD_EVERY = 4
ALARM_LEVEL = 8.0
"""Of the made maps: above nearly all their noise, below what is added at the defect."""

WHOLE = Region(0, 0, SIDE, SIDE, area=SIDE**2, peak=12.0, centroid=(SIDE / 2, SIDE / 2))
"""Recorded of a defective image: measured is the region that comes nearest to it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=10_000)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    night, results = options.out / f"labelled-{options.images}", options.out / f"results-{options.images}"
    shutil.rmtree(night, ignore_errors=True)
    shutil.rmtree(results, ignore_errors=True)
    write_images(night, options.images)
    write_batch(Storage(str(night)), Storage(str(results)))
    command = ["-m", "flows", "evaluate", str(night), "--results", str(results), "--set", f"working_size={SIDE}"]
    first, again = (run_measured(command, home=options.out / "prefect") for _ in range(2))
    tree = {**about(), "images": options.images, "first": asdict(first), "again": asdict(again)}
    (options.out / "metrics.json").write_text(json.dumps(tree, indent=1) + "\n")
    what = f"{options.images} maps of {SIDE} x {SIDE}"
    print(comparison(first, again, of=what, names=("measured", "nothing changed")))


def write_images(night: Path, images: int) -> None:
    """Write images and truth masks in MVTec-AD layout, most of them links."""
    for number in range(images):
        model = number % DISTINCT
        good = model % GOOD_EVERY == 0
        path = night / "test" / ("good" if good else "hole") / f"{number:06d}.png"
        truth = night / "ground_truth" / "hole" / f"{number:06d}_mask.png"
        for target in (path,) if good else (path, truth):
            target.parent.mkdir(parents=True, exist_ok=True)
            if number >= DISTINCT:
                os.link(str(target).replace(f"{number:06d}", f"{model:06d}"), target)
        if number < DISTINCT:
            made = sample("leather", "none" if good else "hole", size=(SIDE, SIDE), seed=number)
            Image.fromarray(made.pixels).save(path)
            if not good:
                Image.fromarray(made.truth.astype(np.uint8) * 255).save(truth)


def write_batch(source: Storage, results: Storage) -> None:
    """Write a sealed batch of these images: maps, most of them links, records and what is drawn from them."""
    config = Config().updated({"working_size": SIDE})
    name = batch_name(source.address, IMAGES_PATTERN)
    entries = discover(source, list_images(source, IMAGES_PATTERN))
    manifest = Manifest(batch=name, input=source.address, pattern=IMAGES_PATTERN, config=config, entries=entries)
    folder = open_batch(results, manifest)
    folder.write(MANIFEST, manifest.to_json())
    prepare_maps(folder, manifest)
    chunks = Path(folder.address) / MAPS / ANOMALY_MAP / "c"
    models: dict[int, tuple[int, str]] = {}
    records = {}
    for entry in entries:
        model = int(Path(entry.key).stem) % DISTINCT
        if model in models:
            first, digest = models[model]
            (chunks / str(entry.index) / "0").mkdir(parents=True)
            os.link(chunks / str(first) / "0" / "0", chunks / str(entry.index) / "0" / "0")
        else:
            digest = write_map(folder, entry.index, anomaly_map=made_map(source, entry.key, seed=model))
            models[model] = entry.index, digest
        records[entry.index] = ImageRecord(
            index=entry.index,
            key=entry.key,
            etag=entry.etag,
            fingerprint=manifest.fingerprint,
            status="inspected",
            score=3.0,
            defective="good" not in entry.key,
            map_digest=digest,
            regions=() if "good" in entry.key else (WHOLE,),
            regions_from=ALARM_LEVEL,
            height=SIDE,
            width=SIDE,
            working_height=SIDE,
            working_width=SIDE,
        )
        write_record(folder, records[entry.index])
    done = BatchResults(manifest, records)
    write_figures(folder, done)
    write_region_table(folder, done.present)
    write_image_table(folder, done.present)
    write_report(folder, done)
    set_seal(folder, make_seal(done))


def made_map(source: Storage, key: str, *, seed: int) -> np.ndarray:
    """Return a map as scores are spread, higher where the defect is: (SIDE, SIDE) float32."""
    levels = np.random.default_rng(seed).standard_gamma(1.5, (SIDE, SIDE))
    if "good" not in key:
        path = source.path(key.replace("test/", "ground_truth/").replace(".png", "_mask.png"))
        levels += 12 * (np.asarray(Image.open(path)) > 0)
    return levels.astype(np.float32)


if __name__ == "__main__":
    main()
