"""What each part of the method is worth: the benchmark with one setting changed at a time.

    python bench/ablation.py DATA --out OUT [--every 2] [--only shuffling,noise]

DATA is a folder of categories in MVTec-AD layout. OUT gets ablation.json (all figures of all images) and ablation.md
(the table). A variant may be named by a part of its name that no other has. One that OUT has already for the same
settings, precision and images is not run again; results for other settings, precision or images are not in the table.
"""

import argparse

import numpy as np
from about import markdown_table, mistakes_told
from compared import Run, cells, chosen, findings_of, image_options, made_or_kept, names
from labelled import contents, findings, is_good, listed, stamp

from ssdnet_core.config import PRESETS, Config
from tasks.cluster import Cluster
from tasks.discovery import NothingToInspectError
from tasks.storage import Storage

SCORES = {
    "A (local energy)": "score.local_energy",
    "B (residual pattern)": "score.residual_pattern",
    "C (inner-product similarity)": "score.inner_product",
    "D (local colour)": "score.local_colour",
}

VARIANTS: dict[str, dict[str, object]] = {
    "as built": {},
    "another seed": {"seed": 1},
    "small masked blocks only": {"corruption.block_sizes": (8,)},
    "large masked blocks only": {"corruption.block_sizes": (32,)},
    "next to no masking": {"corruption.mask_ratio": 0.02},
    "without patch shuffling": {"corruption.shuffle_ratio": 0.0},
    "without noise": {"corruption.noise": 0.0},
    "with the inner-product loss": {"loss.perceptual_weight": 0.5},
    **{f"without {score}": {setting: 0.0} for score, setting in SCORES.items()},
    **{f"{score} alone": dict.fromkeys(set(SCORES.values()) - {setting}, 0.0) for score, setting in SCORES.items()},
    "not sharpened": {"score.likeness": 0.0},
    "half the steps": {"fit.steps": Config().fit.steps // 2},
    "twice the steps": {"fit.steps": Config().fit.steps * 2},
    "each pixel predicted once": {"reconstruction.shifts": 1},
    "without the cost of the border": {"reconstruction.border_cost": False},
    "working size 192": {"working_size": 192},
    "working size 384": {"working_size": 384},
    "no network (preset preview)": PRESETS["preview"],
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what each part of the method is worth.")
    image_options(parser)
    parser.add_argument("--only", type=names, default=tuple(VARIANTS), help="variants, by comma")
    options = parser.parse_args()
    options.only = chosen(options.only, VARIANTS, parser=parser)
    return options


@mistakes_told()
def main() -> None:
    """Run the variants; a mistake of the caller's ends it with a message."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    source = Storage(str(options.data))
    images = [
        image for image in listed(source, every=options.every, categories=options.categories) if not is_good(image.key)
    ]
    if not images:
        raise NothingToInspectError(f"{options.data} has no defective image, CATEGORY/test/DEFECT/NAME, to measure")
    configs = {name: Config().updated(changes) for name, changes in VARIANTS.items()}
    keys, present = [image.key for image in images], contents(source, images)
    stamps = {name: stamp(config, present) for name, config in configs.items()}
    with Cluster(workers=options.workers) as cluster:
        runs = made_or_kept(
            options.out / "ablation.json",
            stamps,
            only=options.only,
            make=lambda name: findings(cluster.client, source, keys=keys, config=configs[name], title=name),
        )
    told = table(runs, images=len(keys))
    (options.out / "ablation.md").write_text(told)
    print(told)


def table(variants: dict[str, Run], *, images: int) -> str:
    """Return a row for each variant: the metrics, their difference to the method as built if known, and CPU seconds.

    ``images`` is how many were to be inspected; some may have failed. Each row has its date: seconds of one machine
    differ from hour to hour.
    """
    results = {name: findings_of(variant) for name, variant in variants.items()}
    rows = []
    for name, found in results.items():
        base = results.get("as built") if name != "as built" else None
        rows.append(
            [
                name,
                *cells(found, base),
                f"{np.mean([one.seconds for one in found]):.2f}",
                f"{len(found)} of {images}",
                variants[name]["date"],
            ]
        )
    return markdown_table(["", "AUROC / AUPRC", "difference", "CPU-s", "images", "date"], rows)


if __name__ == "__main__":
    main()
