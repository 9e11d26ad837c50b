"""Metrics of one image: how well its stored map and verdict agree with its truth."""

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from ssdnet_core import metrics as pixel
from ssdnet_core.metrics import UNDEFINED, Metric, PixelMetrics, evaluate_and_count
from ssdnet_core.pixel_counts import PixelCounts
from ssdnet_core.regions import Region, enlarge_labels, find_regions, label_regions
from tasks.decoding import DecodedImage, DecodeError
from tasks.fetching import MaskError, decode_as_listed
from tasks.inspection import Inspection
from tasks.maps import read_map
from tasks.records import ImageRecord
from tasks.storage_answers import StorageError
from tasks.truth import Truth, TruthError

BORDER = 0.1  # Of each side; published FCA figures crop 100 of 1024 pixels.

FrameCounts = tuple[PixelCounts, PixelCounts]
"""Pixels for pooling: of the full frame, and without the border."""


@dataclass(frozen=True, kw_only=True)
class VerdictMetrics:
    """How well one image's verdict agrees with its truth.

    Attributes
    ----------
    iou
        Intersection over union of the verdict's regions and the truth, 0 to 1; NaN on a good image.
    regions, touching
        Numbers of the verdict's regions, and of those that touch a defect.
    """

    key: str
    category: str
    truly_defective: bool
    iou: Metric
    defective: bool
    regions: int
    touching: int
    score: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ImageMetrics(PixelMetrics, VerdictMetrics):
    """How well one image's map and verdict agree with its truth.

    The metrics of pixels are at the image's own size, as in :data:`tasks.evaluation_file.MEANINGS`, and NaN on a good
    image.
    """

    border_ignored: PixelMetrics


@dataclass(frozen=True, eq=False)
class MeasuredImage:
    """An image's metrics, and its pixel counts for pooling; None for a good image, which is in no pool."""

    metrics: ImageMetrics
    counts: FrameCounts | None


@dataclass(frozen=True, kw_only=True)
class UnmeasuredImage:
    """An image that counts in no metric, and why; ``lasting`` if the same files would give the same again."""

    key: str
    category: str
    reason: str
    lasting: bool = True


def evaluate_image(
    record: ImageRecord, inspection: Inspection, *, truth: Truth, mask: str = ""
) -> MeasuredImage | UnmeasuredImage:
    """Compare one image's stored map and verdict with its truth, or tell why not; runs on a worker.

    The verdict's pixels are found again in the stored map (float16) with the inspection's settings. No metric counts
    pixels that the image itself or its mask (``mask`` is its key) leaves out.
    """
    category = truth.category(record.key)
    if record.failed:
        return UnmeasuredImage(key=record.key, category=category, reason=f"not inspected: {record.error}")
    try:
        image, left_out = decode_as_listed(
            record.key, inspection.source, mask=mask, masks=inspection.masks, etag=record.etag
        )
        image = replace(image, mask=left_out)
        valid = np.ones(image.pixels.shape[:2], dtype=bool) if left_out is None else ~left_out
        pixels = truth.read(record.key, valid)
    except (TruthError, DecodeError, MaskError) as error:
        return UnmeasuredImage(key=record.key, category=category, reason=str(error))
    except StorageError as error:
        return UnmeasuredImage(key=record.key, category=category, reason=str(error), lasting=False)
    alarms = _alarms(record, inspection, image=image)
    return measure_map(
        read_map(inspection.folder, record, original_size=True),
        pixels,
        valid=valid,
        verdict=VerdictMetrics(
            key=record.key,
            category=category,
            truly_defective=bool(pixels.any()),
            iou=pixel.intersection_over_union(alarms > 0, pixels, valid=valid) if pixels.any() else math.nan,
            defective=record.defective,
            regions=np.unique(alarms[alarms > 0]).size,
            touching=np.unique(alarms[pixels & (alarms > 0)]).size,
            score=record.score,
            seconds=record.seconds,
        ),
    )


def measure_map(
    anomaly_map: npt.NDArray[np.float32],
    truth: npt.NDArray[np.bool_],
    *,
    valid: npt.NDArray[np.bool_],
    verdict: VerdictMetrics,
) -> MeasuredImage:
    """Compare any method's map with the truth, both (H, W), beside its verdict."""
    if not truth.any():
        return MeasuredImage(ImageMetrics(**vars(UNDEFINED), **vars(verdict), border_ignored=UNDEFINED), None)
    frames = valid, valid & pixel.without_border((truth.shape[0], truth.shape[1]), BORDER)
    (full, full_counts), (inner, inner_counts) = (
        evaluate_and_count(anomaly_map, truth, valid=frame) for frame in frames
    )
    metrics = ImageMetrics(**vars(full), **vars(verdict), border_ignored=inner)
    return MeasuredImage(metrics, (full_counts, inner_counts))


def _alarms(record: ImageRecord, inspection: Inspection, *, image: DecodedImage) -> npt.NDArray[np.int32]:
    """Return which of the verdict's regions each pixel of the original image is in, 0 if in none: (H, W)."""
    if not record.defective:
        return np.zeros((record.height, record.width), dtype=np.int32)
    import torch  # It takes seconds: the flow's process does without.

    from ssdnet_core.scoring import verdict_map
    from ssdnet_core.surface import find_surface

    config = inspection.config
    valid = find_surface(image.pixels, image.mask, config=config).valid
    anomaly_map = read_map(inspection.folder, record)
    levels = verdict_map(torch.from_numpy(anomaly_map), valid).numpy()
    labels = label_regions(
        levels,
        # The map is stored in half precision, which may have lowered its peak.
        min(record.regions_from, float(levels.max())),
        original_shape=(record.height, record.width),
        anomaly_map=anomaly_map,
        config=config.verdict,
    )
    return enlarge_labels(_recorded(labels, levels, record=record), (record.height, record.width))


def _recorded(
    labels: npt.NDArray[np.int32], levels: npt.NDArray[np.float32], *, record: ImageRecord
) -> npt.NDArray[np.int32]:
    """Return the labels of those regions that are in the record: of the others the map itself does not tell.

    Regions that only sharpening has raised are left out of it, and the map from before is not stored.
    """
    found = find_regions(levels, labels, original_shape=(record.height, record.width))
    # In half precision a region may end a pixel earlier or later.
    kept = {min(found, key=partial(_apart, region)) for region in record.regions if found}
    numbers = [0, *(number if region in kept else 0 for number, region in enumerate(found, start=1))]
    return np.array(numbers, dtype=np.int32)[labels]


def _apart(one: Region, other: Region) -> int:
    return sum(abs(getattr(one, end) - getattr(other, end)) for end in ("top", "left", "bottom", "right"))
