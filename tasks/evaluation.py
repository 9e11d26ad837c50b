"""Metrics of a batch whose truth is known: of each image, of each category, and the mean over the categories."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import PurePosixPath
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ssdnet_core import metrics as pixel
from ssdnet_core.errors import SsdnetError
from ssdnet_core.metrics import PixelMetrics
from ssdnet_core.pooling import PixelCounts, count_pixels, evaluate_map, merged_counts, metrics_of, pooling_error
from ssdnet_core.regions import EIGHT_CONNECTED
from tasks.decoding import DecodedImage, DecodeError, decode
from tasks.discovery import TRUTH_FOLDER
from tasks.fetching import MaskError, left_out
from tasks.inspection import Inspection
from tasks.maps import read_map
from tasks.records import ImageRecord
from tasks.storage import MissingObjectError, Storage, StorageError, StoredObject

IMAGES_PATTERN = "**/test/*/*"
GOOD = "good"
BORDER = 0.1  # Of each side; published FCA figures crop 100 of 1024 pixels.
POOLS = ("pooled", "pooled_border_ignored", "pooled_error")
POOLED_AT_ONCE = 16
"""Images whose pixels are held before they are put together."""

Pool = tuple[PixelCounts, PixelCounts]


class TruthError(SsdnetError, ValueError):
    """An image's truth is of no use: it is not of the layout, or does not fit the image."""


class TruthSource(Protocol):
    """Where the truth of images lies that are not in MVTec-AD layout."""

    def category(self, key: str) -> str:
        """Return what the image's metrics are averaged with."""

    def read(self, key: str, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Read the truth of an image, as :func:`read_truth` does."""

    def objects(self) -> list[StoredObject]:
        """List the masks: what changes when the truth does."""


@dataclass(frozen=True, kw_only=True)
class ImageMetrics(PixelMetrics):
    """How well one image's map and verdict agree with its truth.

    Attributes
    ----------
    auroc, average_precision, aupro, f1, iou, border_ignored
        Of the pixels at the image's own size, as in `MEANINGS`; NaN on a good image.
    regions, touching
        Numbers of the verdict's regions, and of those that touch a defect.
    """

    key: str
    category: str
    truly_defective: bool
    iou: float
    border_ignored: PixelMetrics
    defective: bool
    regions: int
    touching: int
    score: float
    seconds: float


@dataclass(frozen=True, eq=False)
class MeasuredImage:
    """An image's metrics, and its pixels for pooling: of the full frame, and without the border."""

    metrics: ImageMetrics
    counts: tuple[PixelCounts, PixelCounts]


@dataclass(frozen=True)
class UnmeasuredImage:
    """An image that counts in no metric, and why; ``lasting`` if the same files would give the same again."""

    key: str
    category: str
    reason: str
    lasting: bool = True


@dataclass(frozen=True, eq=False)
class Measurements:
    """What came of measuring some images, small enough to travel.

    Attributes
    ----------
    images, unmeasured
        Of each image, in no order.
    pools
        By category, the pixels of its defective images: of the full frame, and without the border.
    """

    images: tuple[ImageMetrics, ...] = ()
    unmeasured: tuple[UnmeasuredImage, ...] = ()
    pools: Mapping[str, tuple[PixelCounts, PixelCounts]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CategoryMetrics(PixelMetrics):
    """Metrics of a category, NaN where undefined: `MEANINGS` has each of them.

    Attributes
    ----------
    auroc, average_precision, aupro, f1, iou, border_ignored
        Means over the defective images. One whose defect lies in the border has no metrics without it.
    pooled, pooled_border_ignored
        From the pixels at the images' own sizes, by fine histograms: :func:`ssdnet_core.pooling.count_pixels`.
    pooled_error
        By how much the histograms can have changed `pooled`: :func:`ssdnet_core.pooling.pooling_error`.
    """

    category: str
    defective: int
    good: int
    unmeasured: int
    iou: float
    border_ignored: PixelMetrics
    pooled: PixelMetrics
    pooled_border_ignored: PixelMetrics
    pooled_error: PixelMetrics
    hit_rate: float
    regions: int
    region_precision: float
    false_alarm_rate: float
    image_auroc: float
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a batch; in the mean, what verdicts did is of all images: many a category has no good ones."""

    images: tuple[ImageMetrics, ...]
    unmeasured: tuple[UnmeasuredImage, ...]
    categories: tuple[CategoryMetrics, ...]
    mean: CategoryMetrics


def truth_key(key: str) -> str | None:
    """Return where the truth mask of an image lies in the MVTec-AD layout, None for a good image.

    ``carpet/test/hole/000.png`` has ``carpet/ground_truth/hole/000_mask.png``; any other form is a `TruthError`.
    """
    path = PurePosixPath(key)
    if len(path.parts) < 3 or path.parts[-3] != "test":
        raise TruthError(f"{key} is not of the form CATEGORY/test/DEFECT/NAME: is this a folder in MVTec-AD layout?")
    if path.parts[-2] == GOOD:
        return None
    return str(PurePosixPath(*path.parts[:-3], "ground_truth", path.parts[-2], f"{path.stem}_mask.png"))


def category_of(key: str, source: Storage) -> str:
    """Return the folder above ``test``; for keys that begin with it, the name of the input itself."""
    return "/".join(PurePosixPath(key).parts[:-3]) or PurePosixPath(source.root).name


def truth_objects(source: Storage) -> list[StoredObject]:
    """List the truth masks of an input in MVTec-AD layout."""
    return [stored for stored in source.list() if TRUTH_FOLDER in PurePosixPath(stored.key).parts[:-1]]


def evaluate_image(
    record: ImageRecord, inspection: Inspection, *, mask: str = "", truth: TruthSource | None = None
) -> MeasuredImage | UnmeasuredImage:
    """Compare one image's stored map and verdict with its truth, or tell why not; runs on a worker.

    The verdict's pixels are found again in the stored map (float16) with the inspection's settings. Pixels that the
    image's alpha channel or its mask (``mask`` is its key) leaves out count nowhere.
    """
    category = truth.category(record.key) if truth else category_of(record.key, inspection.source)
    if record.status == "failed":
        return UnmeasuredImage(record.key, category, f"not inspected: {record.error}")
    try:
        image = decode(inspection.source.read(record.key))
        image = replace(image, mask=left_out(image, mask, inspection.masks))
        valid = np.ones(image.pixels.shape[:2], dtype=bool) if image.mask is None else ~image.mask
        if valid.shape != (record.height, record.width):
            return UnmeasuredImage(record.key, category, "replaced since it was inspected: run again")
        pixels = truth.read(record.key, valid) if truth else read_truth(record.key, valid, source=inspection.source)
    except (TruthError, MissingObjectError, DecodeError, MaskError) as error:
        return UnmeasuredImage(record.key, category, str(error))
    except StorageError as error:
        return UnmeasuredImage(record.key, category, str(error), lasting=False)
    alarms = _alarms(record, inspection, image=image)
    return measure_map(
        read_map(inspection.folder, record, original_size=True),
        pixels,
        valid=valid,
        key=record.key,
        category=category,
        truly_defective=bool(pixels.any()),
        iou=pixel.intersection_over_union(alarms > 0, pixels, valid=valid) if pixels.any() else math.nan,
        defective=record.defective,
        regions=np.unique(alarms[alarms > 0]).size,
        touching=np.unique(alarms[pixels & (alarms > 0)]).size,
        score=record.score,
        seconds=record.seconds,
    )


def measure_map(
    anomaly_map: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_], *, valid: npt.NDArray[np.bool_], **facts: Any
) -> MeasuredImage:
    """Compare any method's map with the truth, both (H, W); ``facts`` are the other fields of `ImageMetrics`."""
    frames = valid, valid & pixel.without_border((truth.shape[0], truth.shape[1]), BORDER)
    full, inner = (evaluate_map(anomaly_map, truth, valid=frame) for frame in frames)
    full_counts, inner_counts = (count_pixels(anomaly_map, truth, valid=frame) for frame in frames)
    return MeasuredImage(ImageMetrics(**vars(full), border_ignored=inner, **facts), (full_counts, inner_counts))


def read_truth(key: str, valid: npt.NDArray[np.bool_], *, source: Storage) -> npt.NDArray[np.bool_]:
    """Read the truth of an image: (H, W) bool as ``valid``, True at defective pixels that count.

    A mask of another size, or one that marks nothing, is a `TruthError`; a missing one a `StorageError`, and an
    unreadable one a `DecodeError`.
    """
    where = truth_key(key)
    if where is None:
        return np.zeros_like(valid)
    truth = truth_pixels(source.read(where), valid, where=where)
    if not truth.any():
        raise TruthError(f"the truth {where} marks no pixel that counts: mark defects in white (255)")
    return truth


def truth_pixels(content: bytes, valid: npt.NDArray[np.bool_], *, where: str) -> npt.NDArray[np.bool_]:
    """Decode a truth mask: (H, W) bool as ``valid``, True at white pixels that count; ``where`` is for messages."""
    mask = decode(content).pixels
    if mask.shape[:2] != valid.shape or not np.issubdtype(mask.dtype, np.integer):
        raise TruthError(
            f"the truth {where} has {mask.shape[0]} x {mask.shape[1]} pixels of {mask.dtype}, its image "
            f"{valid.shape[0]} x {valid.shape[1]}: make it an 8-bit mask of the image's own size"
        )
    grey: npt.NDArray[Any] = mask if mask.ndim == 2 else mask.max(axis=2)
    white: npt.NDArray[np.bool_] = grey > np.iinfo(grey.dtype).max // 2
    return white & valid


def gathered(results: Iterable[MeasuredImage | UnmeasuredImage]) -> Measurements:
    """Put the measurements of single images together, holding the pixels of few of them at a time."""
    images: list[ImageMetrics] = []
    unmeasured: list[UnmeasuredImage] = []
    pools: dict[str, list[Pool]] = {}
    for result in results:
        if isinstance(result, UnmeasuredImage):
            unmeasured.append(result)
            continue
        images.append(result.metrics)
        if result.metrics.truly_defective:
            pool = pools.setdefault(result.metrics.category, [])
            pool.append(result.counts)
            if len(pool) == POOLED_AT_ONCE:
                pool[:] = [_merged_pool(pool)]
    return Measurements(
        tuple(images), tuple(unmeasured), {category: _merged_pool(pool) for category, pool in pools.items()}
    )


def merged(parts: Sequence[Measurements]) -> Measurements:
    """Put measurements of different images together."""
    categories = {category for part in parts for category in part.pools}
    return Measurements(
        images=tuple(image for part in parts for image in part.images),
        unmeasured=tuple(image for part in parts for image in part.unmeasured),
        pools={
            category: _merged_pool([part.pools[category] for part in parts if category in part.pools])
            for category in categories
        },
    )


def summarise_metrics(measured: Measurements) -> Evaluation:
    """Average the metrics of the images over categories, and of the categories overall; images in the order of keys."""
    images = tuple(sorted(measured.images, key=lambda image: image.key))
    unmeasured = tuple(sorted(measured.unmeasured, key=lambda image: image.key))
    rows = []
    for name in sorted({image.category for image in images} | {image.category for image in unmeasured}):
        here, missed = [i for i in images if i.category == name], [i for i in unmeasured if i.category == name]
        full, inner = measured.pools.get(name, (merged_counts([]), merged_counts([])))
        means = _means([i for i in here if i.truly_defective])
        pools: dict[str, Any] = {
            "pooled": metrics_of(full),
            "pooled_border_ignored": metrics_of(inner),
            "pooled_error": pooling_error(full),
        }
        rows.append(CategoryMetrics(category=name, **means, **pools, **_counts(here, missed)))
    pools = {name: _mean_of([getattr(row, name) for row in rows]) for name in POOLS}
    mean = CategoryMetrics(category="mean", **_means(rows), **pools, **_counts(images, unmeasured))
    return Evaluation(images, unmeasured, tuple(rows), mean)


def _alarms(record: ImageRecord, inspection: Inspection, *, image: DecodedImage) -> npt.NDArray[np.int32]:
    """Return which of the verdict's regions each pixel of the original image is in, 0 if in none: (H, W)."""
    if not record.defective:
        return np.zeros((record.height, record.width), dtype=np.int32)
    import torch  # It takes seconds: the flow's process does without.

    from ssdnet_core.preparation import prepare
    from ssdnet_core.scoring import verdict_map
    from ssdnet_core.significance import alarm_level, restlessness

    config = inspection.config
    valid = prepare(
        image.pixels,
        image.mask,
        working_size=config.working_size,
        border=config.border,
        leave_out_frame=config.leave_out_frame,
    ).valid
    judged = verdict_map(torch.from_numpy(read_map(inspection.folder, record)), valid).numpy()
    level = alarm_level(
        config.verdict.expected_false_alarms,
        area=float(valid.sum()),
        restless=restlessness(judged, valid[0].numpy() > 0),
    )
    labels, _ = ndimage.label(judged >= level, structure=EIGHT_CONNECTED)
    areas = np.bincount(labels.ravel()) * (record.height * record.width / labels.size)
    labels[(np.round(areas) < config.verdict.min_area)[labels]] = 0
    working = torch.from_numpy(labels).float()[None, None]
    enlarged = torch.nn.functional.interpolate(working, (record.height, record.width), mode="nearest-exact")
    return np.asarray(enlarged[0, 0].numpy(), dtype=np.int32)


def _merged_pool(pools: Sequence[Pool]) -> Pool:
    full, inner = (merged_counts([pool[frame] for pool in pools]) for frame in (0, 1))
    return full, inner


def _means(rows: Sequence[ImageMetrics | CategoryMetrics]) -> dict[str, Any]:
    inner = _mean_of([row.border_ignored for row in rows])
    return {**vars(_mean_of(rows)), "iou": _mean(row.iou for row in rows), "border_ignored": inner}


def _counts(images: Sequence[ImageMetrics], unmeasured: Sequence[UnmeasuredImage]) -> dict[str, Any]:
    from sklearn.metrics import roc_auc_score  # It takes a second, and an inspection does without.

    bad, good = ([i for i in images if i.truly_defective == defective] for defective in (True, False))
    regions = sum(image.regions for image in images)
    truth, scores = [image.truly_defective for image in images], [image.score for image in images]
    return {
        "defective": len(bad),
        "good": len(good),
        "unmeasured": len(unmeasured),
        "hit_rate": _mean(float(image.touching > 0) for image in bad),
        "regions": regions,
        "region_precision": sum(image.touching for image in images) / regions if regions else math.nan,
        "false_alarm_rate": _mean(float(image.defective) for image in good),
        "image_auroc": float(roc_auc_score(truth, scores)) if bad and good else math.nan,
        "seconds": _mean(image.seconds for image in images),
    }


def _mean_of(rows: Sequence[PixelMetrics]) -> PixelMetrics:
    return PixelMetrics(*(_mean(getattr(row, field.name) for row in rows) for field in fields(PixelMetrics)))


def _mean(values: Iterable[float]) -> float:
    numbers = [value for value in values if not math.isnan(value)]
    return float(np.mean(numbers)) if numbers else math.nan
