"""Measuring a batch on the workers: a chunk of images comes back as one small object, whatever their number.

The workers put the pixels of their chunk together, the flow those of the chunks as they arrive: nobody ever holds
more than a few images, and no image's failure is another's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from distributed import Client

from tasks.category_metrics import Measurements, gathered, merged
from tasks.dispatch import chunks
from tasks.evaluation_file import METRICS_VERSION
from tasks.fit_workers import FitWorkers
from tasks.image_metrics import MeasuredImage, UnmeasuredImage, evaluate_image
from tasks.inspection import Inspection, other_method
from tasks.records import ImageRecord
from tasks.truth import Truth

OTHER_METRICS = "the worker has another version of the metrics than the run: install the same on both"


@dataclass(frozen=True)
class Measurement:
    """What all measurements of a batch share; ``metrics_version`` is the run's."""

    inspection: Inspection
    truth: Truth
    metrics_version: int = METRICS_VERSION


@dataclass(frozen=True)
class JudgedImage:
    """An image to measure: its record, and the key of its mask, empty if it has none."""

    record: ImageRecord
    mask: str = ""


def measure_batch(client: Client, images: Sequence[JudgedImage], *, measurement: Measurement) -> Measurements:
    """Compare the maps of a batch with the truth; an image that kills its worker comes back as unmeasured."""
    workers = FitWorkers(client)
    waiting = {workers.submitted(measure_images, part, measurement): part for part in chunks(images)}
    measured = Measurements()
    suspects: list[JudgedImage] = []
    for part, outcome in workers.outcomes(waiting):
        if isinstance(outcome, BaseException):
            suspects += part
        else:
            measured = merged([measured, outcome])
    alone = [_measured_alone(workers, image, measurement=measurement) for image in suspects]
    return merged([measured, *alone])


def measure_images(images: Sequence[JudgedImage], measurement: Measurement) -> Measurements:
    """Measure some images one after the other; runs on a worker."""
    return gathered(_measured(image, measurement) for image in images)


def _measured(image: JudgedImage, measurement: Measurement) -> MeasuredImage | UnmeasuredImage:
    if (problem := other_method(measurement.inspection)) or measurement.metrics_version != METRICS_VERSION:
        return _missed(image, str(problem or OTHER_METRICS), measurement=measurement)
    try:
        return evaluate_image(image.record, measurement.inspection, truth=measurement.truth, mask=image.mask)
    # Whatever is wrong with one image, its neighbours are measured.
    except Exception as error:  # noqa: BLE001
        return _missed(image, f"{type(error).__name__}: {error}", measurement=measurement)


def _measured_alone(workers: FitWorkers, image: JudgedImage, *, measurement: Measurement) -> Measurements:
    [(_, outcome)] = workers.outcomes({workers.submitted(measure_images, [image], measurement): image})
    if isinstance(outcome, BaseException):
        return gathered(
            [_missed(image, f"measuring it failed: {type(outcome).__name__}: {outcome}", measurement=measurement)]
        )
    return outcome


def _missed(image: JudgedImage, reason: str, *, measurement: Measurement) -> UnmeasuredImage:
    key = image.record.key
    return UnmeasuredImage(key=key, category=measurement.truth.category(key), reason=reason, lasting=False)
