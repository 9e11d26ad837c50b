"""Metrics of a batch whose truth is known: pixel metrics of each image, means over a category, verdicts counted."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from ssdnet_core.errors import SsdnetError
from ssdnet_core.metrics import evaluate_map
from tasks.batch import Manifest
from tasks.decoding import DecodeError, decode
from tasks.maps import read_map
from tasks.records import ImageRecord
from tasks.storage import Storage, StorageError

EVALUATION = "evaluation.json"
IMAGES_PATTERN = "**/test/*/*"
GOOD = "good"


class TruthError(SsdnetError, ValueError):
    """An image's truth mask is missing or does not fit the image."""


@dataclass(frozen=True)
class ImageMetrics:
    """How well one image's map and verdict agree with its truth; the pixel metrics are NaN on a good image.

    Attributes
    ----------
    auroc, average_precision, aupro, f1
        Of the pixels, full frame, at the image's own size.
    touched
        Whether a region of the verdict touches the defect.
    """

    key: str
    category: str
    truly_defective: bool
    auroc: float
    average_precision: float
    aupro: float
    f1: float
    defective: bool
    touched: bool
    score: float


@dataclass(frozen=True)
class CategoryMetrics:
    """Means over the defective images of a category, and what the verdicts did.

    Attributes
    ----------
    defective, good
        Numbers of images.
    auroc, average_precision, aupro, f1
        Per-image means over the defective images.
    hit_rate
        Share of the defective images with a region that touches the defect.
    false_alarm_rate
        Share of the good images called defective; NaN without good images.
    image_auroc
        Of the scores, good against defective; NaN if there is one kind only.
    """

    category: str
    defective: int
    good: int
    auroc: float
    average_precision: float
    aupro: float
    f1: float
    hit_rate: float
    false_alarm_rate: float
    image_auroc: float


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a batch: of each image, of each category, and the mean over the categories.

    The overall hit rate, false-alarm rate and image AUROC are those of all images together: a category alone has
    often no good images.
    """

    images: tuple[ImageMetrics, ...]
    categories: tuple[CategoryMetrics, ...]
    mean: CategoryMetrics


def truth_key(key: str) -> str | None:
    """Return where the truth mask of an image lies in the MVTec-AD layout, None for a good image.

    ``carpet/test/hole/000.png`` has ``carpet/ground_truth/hole/000_mask.png``.

    Raises
    ------
    TruthError
        If the key is not of the layout.
    """
    path = PurePosixPath(key)
    if len(path.parts) < 3 or path.parts[-3] != "test":
        raise TruthError(f"{key} is not of the form CATEGORY/test/DEFECT/NAME: is this a folder in MVTec-AD layout?")
    defect = path.parts[-2]
    if defect == GOOD:
        return None
    return str(PurePosixPath(*path.parts[:-3], "ground_truth", defect, f"{path.stem}_mask.png"))


def evaluate_image(record: ImageRecord, source: Storage, folder: Storage) -> ImageMetrics:
    """Compare one image's stored map and verdict with its truth; runs on a worker.

    Raises
    ------
    TruthError
        If the truth mask is missing, unreadable or of another size.
    """
    truth = _truth(record, source)
    pixels = evaluate_map(read_map(folder, record, original_size=True), truth)
    return ImageMetrics(
        key=record.key,
        category=category_of(record.key, source),
        truly_defective=bool(truth.any()),
        auroc=pixels.auroc,
        average_precision=pixels.average_precision,
        aupro=pixels.aupro,
        f1=pixels.f1,
        defective=record.defective,
        touched=any(truth[r.top : r.bottom, r.left : r.right].any() for r in record.regions),
        score=record.score,
    )


def category_of(key: str, source: Storage) -> str:
    """Return the folder above ``test``; for keys that begin with it, the name of the input itself."""
    parts = PurePosixPath(key).parts[:-3]
    return "/".join(parts) or PurePosixPath(source.root).name


def summarise_metrics(images: Sequence[ImageMetrics]) -> Evaluation:
    """Average the metrics of the images over categories, and of the categories overall."""
    names = sorted({image.category for image in images})
    categories = tuple(_category(name, [image for image in images if image.category == name]) for name in names)
    overall = _category("mean", images)
    measured = [category for category in categories if category.defective]
    means = {
        name: float(np.mean([getattr(category, name) for category in measured])) if measured else math.nan
        for name in ("auroc", "average_precision", "aupro", "f1")
    }
    return Evaluation(images=tuple(images), categories=categories, mean=CategoryMetrics(**{**asdict(overall), **means}))


def write_evaluation(folder: Storage, manifest: Manifest, evaluation: Evaluation) -> None:
    """Write the metrics as JSON beside the maps; NaN becomes null."""
    tree = {"batch": manifest.batch, "fingerprint": manifest.fingerprint, **asdict(evaluation)}
    folder.write(EVALUATION, (json.dumps(_without_nan(tree), indent=1) + "\n").encode())


def _truth(record: ImageRecord, source: Storage) -> npt.NDArray[np.bool_]:
    key = truth_key(record.key)
    if key is None:
        return np.zeros((record.height, record.width), dtype=bool)
    try:
        mask = decode(source.read(key)).pixels
    except (StorageError, DecodeError) as error:
        raise TruthError(f"no truth for {record.key}: {error}") from error
    if mask.shape[:2] != (record.height, record.width):
        raise TruthError(
            f"the truth {key} has {mask.shape[0]} x {mask.shape[1]} pixels, its image {record.height} x "
            f"{record.width}: make the mask of the image's own size"
        )
    grey: npt.NDArray[Any] = mask if mask.ndim == 2 else mask.max(axis=2)
    return np.asarray(grey > np.iinfo(grey.dtype).max // 2, dtype=bool)


def _category(name: str, images: Sequence[ImageMetrics]) -> CategoryMetrics:
    bad = [image for image in images if image.truly_defective]
    good = [image for image in images if not image.truly_defective]
    return CategoryMetrics(
        category=name,
        defective=len(bad),
        good=len(good),
        auroc=_mean(image.auroc for image in bad),
        average_precision=_mean(image.average_precision for image in bad),
        aupro=_mean(image.aupro for image in bad),
        f1=_mean(image.f1 for image in bad),
        hit_rate=_mean(float(image.touched) for image in bad),
        false_alarm_rate=_mean(float(image.defective) for image in good),
        image_auroc=float(roc_auc_score([image.truly_defective for image in images], [image.score for image in images]))
        if bad and good
        else math.nan,
    )


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return float(np.mean(numbers)) if numbers else math.nan


def _without_nan(tree: object) -> object:
    if isinstance(tree, Mapping):
        return {key: _without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_nan(value) for value in tree]
    return None if isinstance(tree, float) and math.isnan(tree) else tree
