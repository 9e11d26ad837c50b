"""How accurate the product is on labelled images, beside other methods, in one command.

    python bench/accuracy.py DATA --out OUT [--peers peers.py --methods hfca,knn] [--set fit.steps=50]

DATA is a folder of categories in MVTec-AD layout. The images go through the product's own tasks (the manifest, Dask
workers, stored maps, ``evaluate_image``), only without a Prefect flow around them; a second run goes on where the
first stopped, so give a new OUT after a change to the method's code. Peers are programs of their own (see
bench/peers.py), measured by the same metrics. OUT gets:

accuracy.json       all metrics of all methods, of each image and category
accuracy.md         tables: method by category, with machine, versions, date and command
curves.png          ROC and precision-recall of the product, the pixels of a category pooled
contact_sheet.png   worst and best images of each category: image, truth, map
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from about import about, markdown_table, mistakes_told
from compared import names, whole_number
from dask.system import CPU_COUNT
from figures import draw_contact_sheet, draw_curves
from labelled import check_categories
from peers import measure_peer

from flows.settings import settings_from
from ssdnet_core.config import Config
from ssdnet_core.metrics import PixelMetrics
from tasks.batch import MANIFEST, open_batch, read_manifest
from tasks.category_metrics import CategoryMetrics, Evaluation, gathered, summarise_metrics
from tasks.cluster import Cluster
from tasks.discovery import discover, list_images
from tasks.dispatch import Dispatch, chunks, submit_chunk, try_suspects
from tasks.evaluation_file import evaluation_tree
from tasks.fit_workers import FitWorkers
from tasks.image_metrics import BORDER, MeasuredImage, UnmeasuredImage, evaluate_image
from tasks.inspection import Inspection
from tasks.manifest import Manifest
from tasks.maps import prepare_maps
from tasks.records import ImageRecord, read_records, unsettled
from tasks.storage import Storage
from tasks.truth import IMAGES_PATTERN, MvtecTruth

PRODUCT = "ssdnet"
VERDICT = ("iou", "hit_rate", "regions", "touching", "region_precision", "false_alarm_rate", "score", "image_auroc")
"""Only the product gives a verdict: of peers these figures mean nothing."""

Result = MeasuredImage | UnmeasuredImage


@dataclass(frozen=True)
class Batch:
    """The product's results: what all images share, their records as the manifest has them, and how many are new."""

    inspection: Inspection
    records: tuple[ImageRecord, ...]
    inspected: int


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the accuracy on labelled images in MVTec-AD layout.")
    parser.add_argument("data", type=Path, help="folder of categories: CATEGORY/test/DEFECT/*, CATEGORY/ground_truth")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--categories", type=names, default=(), help="only these, as carpet,tile")
    parser.add_argument("--peers", type=Path, help="program of the other methods: METHOD IMAGE OUT.npy --threads 1")
    parser.add_argument("--methods", type=names, default=(), help="its methods to run, as hfca,knn")
    parser.add_argument("--preset", default="default", help="settings to start from")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a single setting; repeatable")
    parser.add_argument("--workers", type=whole_number, default=CPU_COUNT, help="processes; by default one a core")
    options = parser.parse_args()
    if bool(options.peers) != bool(options.methods):
        parser.error("--peers and --methods need each other")
    if options.peers and not options.peers.is_file():
        parser.error(f"--peers {options.peers}: there is no such file")
    return options


@mistakes_told()
def main() -> None:
    """Run the benchmark; a mistake of the caller's ends it with a message."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    config = settings_from(options.preset, None, changes=options.set)
    with Cluster(workers=options.workers) as cluster:
        batch = _inspected(cluster, options, config=config)
        print("measuring", file=sys.stderr)
        client = cluster.client
        truth = MvtecTruth(batch.inspection.source)
        futures = [
            client.submit(evaluate_image, record, batch.inspection, truth=truth, pure=False) for record in batch.records
        ]
        results: dict[str, list[Result]] = {PRODUCT: [future.result() for future in futures]}
        for method in options.methods:
            print(f"running {method} on {len(batch.records)} images", file=sys.stderr)
            futures = [
                client.submit(measure_peer, method, record, program=options.peers, source=batch.inspection.source)
                for record in batch.records
            ]
            results[method] = [future.result() for future in futures]
    evaluations = {method: _summary(images) for method, images in results.items()}
    known = _about(options, config, batch=batch)
    _write_json(options.out / "accuracy.json", known, evaluations=evaluations)
    tables = _tables(known, evaluations)
    (options.out / "accuracy.md").write_text(tables)
    measured = [image for image in results[PRODUCT] if isinstance(image, MeasuredImage)]
    draw_curves(measured, options.out / "curves.png")
    draw_contact_sheet(measured, batch.records, inspection=batch.inspection, path=options.out / "contact_sheet.png")
    print(tables)


def _inspected(cluster: Cluster, options: argparse.Namespace, *, config: Config) -> Batch:
    """Inspect what is not inspected yet."""
    source = Storage(str(options.data))
    listed = list_images(source, IMAGES_PATTERN, outside=[Storage(str(options.out)).address])
    category_of = MvtecTruth(source).category
    here = {category_of(image.key) for image in listed}
    check_categories(source, options.categories, there=here)
    wanted = [image for image in listed if category_of(image.key) in (options.categories or here)]
    found = Manifest(batch="product", input=source.address, pattern=IMAGES_PATTERN, config=config)
    folder = open_batch(Storage(str(options.out)), found)
    manifest = read_manifest(folder).merged(discover(source, wanted))
    folder.write(MANIFEST, manifest.to_json())
    prepare_maps(folder, manifest)
    inspection = Inspection.of(manifest, source=source, folder=folder)
    records = read_records(folder, manifest.entries)
    present = manifest.present
    todo = unsettled(present, records, fingerprint=manifest.fingerprint)
    print(f"{len(present)} images, {len(present) - len(todo)} of them done before", file=sys.stderr)
    dispatch = Dispatch(FitWorkers(cluster.client), inspection, announce=_tell)
    for part in chunks(todo):
        collected = submit_chunk(dispatch, part).collected()
        done = collected.records + try_suspects(dispatch, collected.suspects)
        records |= {record.index: record for record in done}
    return Batch(inspection, tuple(records[entry.index] for entry in present), len(todo))


def _tell(record: ImageRecord) -> None:
    print(f"{record.key}: {record.status}, {record.seconds:.1f} CPU-s", file=sys.stderr)


def _summary(results: Sequence[Result]) -> Evaluation:
    return summarise_metrics(gathered(results))


def _about(options: argparse.Namespace, config: Config, *, batch: Batch) -> dict[str, str]:
    settings = ", ".join([options.preset, *options.set])
    known, images = about(), len(batch.records)
    earlier = images - batch.inspected
    return {
        **known,
        "data": str(options.data),
        "images": f"{images}" + (f", {earlier} of them, and their CPU-seconds, from an earlier run" if earlier else ""),
        "machine": f"{known['machine']}, {options.workers} workers of one thread",
        "settings": f"{settings} (fingerprint {config.fingerprint()})",
    }


def _write_json(path: Path, known: dict[str, str], *, evaluations: dict[str, Evaluation]) -> None:
    trees = {method: evaluation_tree(evaluation) for method, evaluation in evaluations.items()}
    meanings = [tree.pop("meanings") for tree in trees.values()]
    for method, tree in trees.items():
        if method != PRODUCT:
            for row in (tree["mean"], *tree["categories"], *tree["images"]):
                for name in VERDICT:
                    row.pop(name, None)
            for image in tree["images"]:
                del image["defective"]
    path.write_text(json.dumps({**known, "meanings": meanings[0], "methods": trees}, indent=1) + "\n")


def _tables(known: dict[str, str], evaluations: dict[str, Evaluation]) -> str:
    measured = [row.category for row in evaluations[PRODUCT].categories if row.defective]
    lines = ["# Accuracy", "", *(f"- {name}: {text}" for name, text in known.items() if name != "command")]
    lines += ["", "```", known["command"], "```", ""]
    border = f"{100 * BORDER:g} % of each side ignored"
    frames: tuple[tuple[str, Callable[[CategoryMetrics], PixelMetrics]], ...] = (
        ("Full frame, mean over the images", lambda row: row),
        (f"{border}, mean over the images", lambda row: row.border_ignored),
        ("Full frame, the pixels of a category pooled", lambda row: row.pooled),
        (f"{border}, the pixels of a category pooled", lambda row: row.pooled_border_ignored),
    )
    for title, frame in frames:
        lines += [
            f"## {title}",
            "",
            "Pixel AUROC / AUPRC of the defective images; CPU-seconds are the mean over all images.",
            "",
        ]
        rows = []
        for method, evaluation in evaluations.items():
            by_category = {row.category: row for row in evaluation.categories}
            cells = [*(frame(by_category[name]) for name in measured), frame(evaluation.mean)]
            pairs = [f"{_decimal(cell.auroc)} / {_decimal(cell.average_precision)}" for cell in cells]
            rows.append([method, *pairs, _decimal(evaluation.mean.seconds, digits=2)])
        lines += [markdown_table(["method", *measured, "mean", "CPU-s"], rows), ""]
    lines += [
        f"## Verdicts of {PRODUCT}",
        "",
        "At its own threshold; IoU full frame, the F1 at the best threshold.",
        "",
    ]
    product = evaluations[PRODUCT]
    header = ["category", "defective", "good", "AUPRO", "F1", "IoU", "hits", "regions", "touching", "alarms on good"]
    rows = []
    for row in (*product.categories, product.mean):
        pixels = map(_decimal, (row.aupro, row.f1, row.iou))
        verdicts = (
            _decimal(row.hit_rate),
            str(row.regions),
            *map(_decimal, (row.region_precision, row.false_alarm_rate)),
        )
        rows.append([row.category, str(row.defective), str(row.good), *pixels, *verdicts])
    lines += [markdown_table(header, rows), "", f"AUROC of the image scores: {_decimal(product.mean.image_auroc)}.", ""]
    for method, evaluation in evaluations.items():
        if evaluation.unmeasured:
            lines += [f"## Not measured: {len(evaluation.unmeasured)} images of {method}", ""]
            lines += [*(f"- {image.key}: {image.reason}" for image in evaluation.unmeasured), ""]
    return "\n".join(lines)


def _decimal(value: float, *, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
