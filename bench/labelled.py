"""Labelled images and what the method makes of them, without the pipeline: for variants and conditions."""

import hashlib
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from distributed import Client, as_completed
from sklearn.metrics import average_precision_score, roc_auc_score

from ssdnet_core.config import Config
from ssdnet_core.devices import resolve_device, resolve_precision
from ssdnet_core.errors import SsdnetError
from tasks.decoding import decode
from tasks.discovery import NothingToInspectError, list_images
from tasks.storage import Storage
from tasks.truth import IMAGES_PATTERN, MvtecTruth, truth_key

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


def listed(source: Storage, *, every: int = 1, categories: Sequence[str] = ()) -> list[str]:
    """Return the keys of every n-th image of each category, or of those named; good ones are counted apart."""
    groups: dict[tuple[str, str], list[str]] = {}
    for image in list_images(source, IMAGES_PATTERN):
        category = MvtecTruth(source).category(image.key)
        if category in (categories or (category,)):
            groups.setdefault((category, image.key.split("/")[-2]), []).append(image.key)
    if not groups:
        raise NothingToInspectError(f"{source.address} has no such images in MVTec-AD layout")
    return [key for keys in groups.values() for key in keys[::every]]


def is_good(key: str) -> bool:
    """Whether an image is said to have no defect."""
    return truth_key(key) is None


def stamp(config: Config, keys: Sequence[str]) -> str:
    """Return what a row's figures depend on: settings, the precision that they come to on this machine, and images."""
    precision = resolve_precision(config.precision, resolve_device(config.device))
    images = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:12]
    return f"{config.fingerprint()} in {precision} of {len(keys)} images {images}"


def photograph(source: Storage, key: str) -> Photograph:
    """Read an image and its truth."""
    image = decode(source.read(key))
    counted = np.ones(image.pixels.shape[:2], dtype=bool) if image.mask is None else ~image.mask
    return Photograph(image.pixels, MvtecTruth(source).read(key, counted), image.mask)


def finding(source: Storage, key: str, *, config: Config, change: Change | None = None, seed: int = 0) -> Finding:
    """Inspect one image, changed or as it is; runs on a worker."""
    from ssdnet_core.localization import localize

    shown = photograph(source, key)
    if change is not None:
        shown = change(shown, np.random.default_rng([seed, *key.encode()]))
    result = localize(shown.pixels, shown.missing, config=config)
    truth, levels = shown.truth.ravel(), result.anomaly_map.ravel()
    return Finding(
        key=key,
        category=MvtecTruth(source).category(key),
        truly_defective=bool(truth.any()),
        auroc=float(roc_auc_score(truth, levels)) if truth.any() else math.nan,
        average_precision=float(average_precision_score(truth, levels)) if truth.any() else math.nan,
        score=result.score,
        defective=result.defective,
        warned=any("not one texture" in warning for warning in result.warnings),
        seconds=result.seconds,
    )


def findings(
    client: Client,
    source: Storage,
    *,
    keys: Iterable[str],
    config: Config,
    title: str,
    change: Change | None = None,
    seed: int = 0,
) -> list[Finding]:
    """Inspect images on the workers; one that cannot be inspected is told and left out."""
    futures = {
        client.submit(finding, source, key, config=config, change=change, seed=seed, pure=False): key for key in keys
    }
    found = []
    for number, future in enumerate(as_completed(futures), start=1):
        try:
            found.append(future.result())
        except SsdnetError as error:
            print(f"\n{futures[future]}: {error}", file=sys.stderr)
        if sys.stderr.isatty():
            print(f"\r{title}: {number} of {len(futures)}", end="", file=sys.stderr, flush=True)
    print(f"\r{title}: {len(found)} of {len(futures)} images", file=sys.stderr)
    return sorted(found, key=lambda one: one.key)


def accuracy(found: Sequence[Finding]) -> tuple[float, float]:
    """Return pixel AUROC and average precision: the mean over the images of a category, then over the categories."""
    bad = [one for one in found if one.truly_defective]
    rows = [
        np.mean([(one.auroc, one.average_precision) for one in bad if one.category == category], axis=0)
        for category in sorted({one.category for one in bad})
    ]
    return (float("nan"), float("nan")) if not rows else tuple(np.mean(rows, axis=0))
