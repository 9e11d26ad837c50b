"""The metrics of a batch as they stand beside its maps: written, and found again as long as nothing has changed."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from tasks.category_metrics import Evaluation
from tasks.image_metrics import BORDER
from tasks.manifest import ImageEntry
from tasks.seal import Seal
from tasks.storage import Storage, StoredObject
from tasks.stored_json import StoredJsonError, from_json, null_for_nan

EVALUATION = "evaluation.json"
METRICS_VERSION = 2
"""Raised whenever the same results, images and truth give other metrics; what was measured before is measured again."""

MEANINGS = {
    "auroc, average_precision, aupro, f1": "pixels, full frame, mean over the defective images; f1 is the best one",
    "border_ignored": f"the same without a border of {100 * BORDER:g} % of each side",
    "pooled, pooled_border_ignored": "pixels of all defective images of a category together",
    "pooled_error": "how far pooled can be from its exact value, which its histograms only bound",
    "iou": "pixels of the verdict's regions with the truth, full frame, at the product's own threshold",
    "hit_rate": "share of the defective images with a region that touches the defect",
    "region_precision": "share of the regions, on good images too, that touch a defect",
    "false_alarm_rate": "share of the good images that are called defective",
    "image_auroc": "scores of the images, good against defective",
    "seconds": "CPU seconds of the localization, mean over the measured images",
    "mean": "of the categories in pixel metrics; of all images together from hit_rate on",
}


@dataclass(frozen=True, kw_only=True)
class _Basis:
    basis: str


def evaluation_basis(seal: Seal, entries: Iterable[ImageEntry], *, truth: Iterable[StoredObject]) -> str:
    """Return a SHA-256 over all that metrics follow from: results, images, truth masks, version of the metrics."""
    digest = hashlib.sha256(f"{METRICS_VERSION} {seal.digest}".encode())
    for key, etag in [
        *sorted((entry.key, entry.etag) for entry in entries if entry.present),
        *sorted((mask.key, mask.etag) for mask in truth),
    ]:
        digest.update(json.dumps([key, etag]).encode())
    return digest.hexdigest()


def write_evaluation(folder: Storage, seal: Seal, *, evaluation: Evaluation, basis: str) -> None:
    """Write the metrics as JSON beside the maps."""
    head = {"batch": seal.batch, "fingerprint": seal.fingerprint, "digest": seal.digest, "basis": basis}
    folder.write(EVALUATION, (json.dumps({**head, **evaluation_tree(evaluation)}, indent=1) + "\n").encode())


def read_evaluation(folder: Storage, *, basis: str) -> Evaluation | None:
    """Return the metrics that were written on the same basis; None if there are none, or an image may do better now."""
    if not folder.exists(EVALUATION):
        return None
    try:
        content = folder.read(EVALUATION)
        if from_json(_Basis, content, others=True).basis != basis:
            return None
        evaluation = from_json(Evaluation, content, others=True)
    except StoredJsonError:
        return None  # Written by another version: measured again.
    return evaluation if all(image.lasting for image in evaluation.unmeasured) else None


def evaluation_tree(evaluation: Evaluation) -> dict[str, Any]:
    """Return the metrics as plain data, names first, with their meanings; what is undefined (NaN) becomes None."""
    images = [{"key": image.key, **asdict(image)} for image in evaluation.images]
    *rows, mean = [{"category": row.category, **asdict(row)} for row in (*evaluation.categories, evaluation.mean)]
    missed = [asdict(image) for image in evaluation.unmeasured]
    tree = {"meanings": MEANINGS, "mean": mean, "categories": rows, "unmeasured": missed, "images": images}
    return dict(null_for_nan(tree))
