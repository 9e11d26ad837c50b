"""Other methods beside the product: a program of their own, measured by the same metrics.

The program is called as ``python PROGRAM METHOD IMAGE OUT.npy --threads 1``. It writes a float map (H, W) of the
image's own size, higher is more anomalous, and prints a JSON line with its ``cpu_seconds``.
"""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ssdnet_core.errors import SsdnetError
from tasks.decoding import decode
from tasks.image_metrics import MeasuredImage, UnmeasuredImage, VerdictMetrics, measure_map
from tasks.records import ImageRecord
from tasks.storage import Storage
from tasks.truth import MvtecTruth

TIMEOUT = 600.0
"""Seconds for one image."""


class PeerError(SsdnetError, RuntimeError):
    """A peer gave no map."""


def measure_peer(
    method: str, record: ImageRecord, *, program: Path, source: Storage
) -> MeasuredImage | UnmeasuredImage:
    """Run a method on one image and compare its map with the truth; runs on a worker.

    A peer gives no verdict: its score is the map's maximum, and the figures about regions are empty.
    """
    known = MvtecTruth(source)
    category = known.category(record.key)
    try:
        left_out = decode(source.read(record.key)).mask
        valid = np.ones((record.height, record.width), dtype=bool) if left_out is None else ~left_out
        truth = known.read(record.key, valid)
        anomaly_map, seconds = _run(method, program, image=source.path(record.key), shape=valid.shape)
    except SsdnetError as error:
        return UnmeasuredImage(key=record.key, category=category, reason=str(error))
    return measure_map(
        anomaly_map,
        truth,
        valid=valid,
        verdict=VerdictMetrics(
            key=record.key,
            category=category,
            truly_defective=bool(truth.any()),
            iou=math.nan,
            defective=False,
            regions=0,
            touching=0,
            score=float(anomaly_map[valid].max()),
            seconds=seconds,
        ),
    )


def _run(method: str, program: Path, *, image: str, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "map.npy"
        command = [sys.executable, str(program), method, image, str(out), "--threads", "1"]
        try:
            finished = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
            anomaly_map = np.load(out).astype(np.float32)
            seconds = float(json.loads(finished.stdout.strip().splitlines()[-1])["cpu_seconds"])
        except subprocess.CalledProcessError as error:
            raise PeerError(f"{method} failed: {error.stderr.strip().rpartition(chr(10))[2]}") from error
        except (subprocess.TimeoutExpired, OSError, ValueError, KeyError, IndexError) as error:
            raise PeerError(f"{method} gave no map or no cpu_seconds: {type(error).__name__}: {error}") from error
    if anomaly_map.shape != shape or not np.isfinite(anomaly_map).all():
        raise PeerError(f"{method} gave a map of {anomaly_map.shape} for an image of {shape}, or values not finite")
    return anomaly_map, seconds
