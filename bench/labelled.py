"""Labelled images and what the method makes of them, without the pipeline: for variants and conditions."""

import hashlib
import math
import sys
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from distributed import Client, as_completed
from sklearn.metrics import average_precision_score, roc_auc_score

from ssdnet_core.config import Config
from ssdnet_core.devices import resolve_device, resolve_precision
from ssdnet_core.errors import SsdnetError
from tasks.cluster import able_workers, fit_resources
from tasks.decoding import decode
from tasks.discovery import NothingToInspectError, list_images
from tasks.storage import Storage, StoredObject
from tasks.truth import IMAGES_PATTERN, MvtecTruth, truth_key

if TYPE_CHECKING:
    from ssdnet_core.localization import Localization

Pixels = npt.NDArray[np.generic]
Truth = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Photograph:
    """An image under inspection.

    Attributes
    ----------
    pixels
        (H, W) or (H, W, 3).
    truth
        (H, W), True at defective pixels.
    missing
        (H, W), True where a pixel does not count, or None.
    """

    pixels: Pixels
    truth: Truth
    missing: Truth | None


@dataclass(frozen=True)
class Finding:
    """One image's figures: pixel metrics at its own size (NaN without a defect), and the verdict."""

    key: str
    category: str
    truly_defective: bool
    auroc: float
    average_precision: float
    score: float
    defective: bool
    warned: bool
    seconds: float


Change = Callable[[Photograph, np.random.Generator], Photograph]
"""What is done to an image before it is inspected; the generator is the image's own."""


def listed(source: Storage, *, every: int = 1, categories: Sequence[str] = ()) -> list[StoredObject]:
    """Return every n-th image of each kind of defect, and of the good images, of all categories or those named."""
    groups: dict[tuple[str, str], list[StoredObject]] = {}
    for image in list_images(source, IMAGES_PATTERN):
        groups.setdefault((MvtecTruth(source).category(image.key), image.key.split("/")[-2]), []).append(image)
    there = {category for category, _ in groups}
    check_categories(source, categories, there=there)
    return [
        image
        for (category, _), images in groups.items()
        if category in (categories or there)
        for image in images[::every]
    ]


def check_categories(source: Storage, wanted: Sequence[str], *, there: Set[str]) -> None:
    """Refuse categories that are not there, naming those that are."""
    if unknown := set(wanted) - there:
        raise NothingToInspectError(
            f"{source.address} has no category {', '.join(sorted(unknown))}: it has {', '.join(sorted(there))}"
        )


def is_good(key: str) -> bool:
    """Whether an image is said to have no defect."""
    return truth_key(key) is None


def contents(source: Storage, images: Sequence[StoredObject]) -> str:
    """Return a text that changes whenever one of the images, its truth, or the content of either does."""
    wanted = {truth_key(image.key) for image in images}
    masks = [mask for mask in MvtecTruth(source).objects() if mask.key in wanted]
    lines = sorted(f"{stored.key} {stored.etag}" for stored in (*images, *masks))
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return f"{len(images)} images {digest[:12]}"


def stamp(config: Config, images: str) -> str:
    """Return what a row's figures depend on: settings, the precision they come to on this machine, and images.

    ``images`` is the text that :func:`contents` returns.
    """
    precision = resolve_precision(config.precision, resolve_device(config.device))
    return f"{config.fingerprint()} in {precision} of {images}"


def photograph(source: Storage, key: str) -> Photograph:
    """Read an image and its truth."""
    image = decode(source.read(key))
    counted = np.ones(image.pixels.shape[:2], dtype=bool) if image.mask is None else ~image.mask
    return Photograph(image.pixels, MvtecTruth(source).read(key, counted), image.mask)


def findings(
    client: Client,
    source: Storage,
    *,
    keys: Sequence[str],
    config: Config,
    title: str,
    change: Change | None = None,
) -> list[Finding]:
    """Inspect images on the workers; one that cannot be inspected is named on standard error and left out.

    A processor takes one at a time. Where there is a GPU each worker fits its share together, so that
    all of them measure side by side.
    """
    resources = fit_resources(client, config.device)
    together = -(-len(keys) // len(able_workers(client, resources))) if resources else 1
    parts = [keys[first : first + together] for first in range(0, len(keys), together)]
    futures = [
        client.submit(
            inspected_and_measured,
            source,
            part,
            config=config,
            change=change,
            resources=resources,
            pure=False,
        )
        for part in parts
    ]
    found: list[Finding] = []
    done = 0
    for future in as_completed(futures):
        for key, result in future.result().items():
            done += 1
            if isinstance(result, Finding):
                found.append(result)
            else:
                print(f"\n{key}: {result}", file=sys.stderr)
        if sys.stderr.isatty():
            print(f"\r{title}: {done} of {len(keys)}", end="", file=sys.stderr, flush=True)
    print(f"\r{title}: {len(found)} of {len(keys)} images", file=sys.stderr)
    return sorted(found, key=lambda one: one.key)


def inspected_and_measured(
    source: Storage, keys: Sequence[str], *, config: Config, change: Change | None = None
) -> dict[str, Finding | str]:
    """Inspect images together, changed or as they are, on a worker: the figures of each, or what is wrong with it."""
    from ssdnet_core.groups import evidence_of_group
    from ssdnet_core.localization import judged
    from ssdnet_core.preparation import WorkingImage, prepare

    results: dict[str, Finding | str] = {}
    working: dict[str, WorkingImage] = {}
    truths: dict[str, Truth] = {}
    for key in keys:
        try:
            shown = photograph(source, key)
            if change is not None:
                shown = change(shown, np.random.default_rng([0, *key.encode()]))
            working[key] = prepare(shown.pixels, shown.missing, config=config)
        except SsdnetError as error:
            results[key] = str(error)
        else:
            truths[key] = shown.truth
    evidence = evidence_of_group([*working.values()], config, size=len(keys))
    for key, of_image in zip(working, evidence, strict=True):
        try:
            result = judged(of_image, config)
        except SsdnetError as error:
            results[key] = str(error)
        else:
            results[key] = _measured(result, truths[key], key=key, category=MvtecTruth(source).category(key))
    return results


def _measured(result: "Localization", truth: Truth, *, key: str, category: str) -> Finding:
    """Return an image's figures, over all of its pixels.

    Missing pixels count as well, with the values that the map takes there from around them: so a condition that removes
    pixels is measured on the same defects. ``bench/accuracy.py`` leaves out what an image's own mask leaves out.
    """
    defective, levels = truth.ravel(), result.anomaly_map.ravel()
    return Finding(
        key=key,
        category=category,
        truly_defective=bool(truth.any()),
        auroc=float(roc_auc_score(defective, levels)) if truth.any() else math.nan,
        average_precision=float(average_precision_score(defective, levels)) if truth.any() else math.nan,
        score=result.score,
        defective=result.defective,
        warned=any("not one texture" in warning for warning in result.warnings),
        seconds=result.seconds,
    )


def accuracy(found: Sequence[Finding]) -> tuple[float, float]:
    """Return pixel AUROC and average precision: the mean over the images of a category, then over the categories."""
    bad = [one for one in found if one.truly_defective]
    rows = [
        np.mean([(one.auroc, one.average_precision) for one in bad if one.category == category], axis=0)
        for category in sorted({one.category for one in bad})
    ]
    return (float("nan"), float("nan")) if not rows else tuple(np.mean(rows, axis=0))
