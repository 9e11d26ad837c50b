"""Batches of given image sizes, with maps and records as an inspection would leave them."""

import hashlib

import numpy as np

from ssdnet_core.config import Config
from tasks.manifest import ImageEntry, Manifest
from tasks.records import ImageRecord

SHAPES = [(64, 64), (40, 90), (300, 512)]


def manifest_of(shapes) -> Manifest:
    entries = tuple(
        ImageEntry(index=i, key=f"{i}.png", etag="", size=1, height=h, width=w) for i, (h, w) in enumerate(shapes)
    )
    return Manifest(batch="n", input="/in", pattern="", config=Config(), entries=entries)


def random_map(entry: ImageEntry) -> np.ndarray:
    shape = entry.working_shape(Config().working_size)
    return np.random.default_rng(entry.index).gamma(2, 4, shape).astype(np.float32)


def record_of(entry: ImageEntry, **changes) -> ImageRecord:
    height, width = entry.working_shape(Config().working_size)
    fields = {
        "score": 1.5,
        "height": entry.height,
        "width": entry.width,
        "working_height": height,
        "working_width": width,
        "map_digest": hashlib.sha256(random_map(entry).astype(np.float16).tobytes()).hexdigest(),
    }
    return ImageRecord(
        index=entry.index, key=entry.key, etag="", fingerprint="f", status="inspected", **{**fields, **changes}
    )
