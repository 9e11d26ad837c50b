"""Measuring on real Dask worker processes: in chunks, and past images that end the process."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssdnet_core.config import METHOD_VERSION, Config
from tasks.category_metrics import gathered, summarise_metrics
from tasks.cluster import dask_client
from tasks.dispatch import MIN_CHUNK
from tasks.evaluation_file import METRICS_VERSION
from tasks.image_metrics import evaluate_image
from tasks.inspection import Inspection
from tasks.manifest import ImageEntry, Manifest
from tasks.maps import prepare_maps, write_map
from tasks.measuring import JudgedImage, Measurement, measure_batch, measure_images
from tasks.records import ImageRecord
from tasks.storage import Storage
from tasks.truth import MvtecTruth

SIDE = 48


def labelled(tmp_path: Path, count: int) -> tuple[list[JudgedImage], Inspection, MvtecTruth]:
    """A batch that was inspected: images, truth masks, maps; every third image is good, of two categories."""
    rng = np.random.default_rng(0)
    source, folder, config = Storage(str(tmp_path / "in")), Storage(str(tmp_path / "out")), Config()
    keys = [f"{'ab'[i % 2]}/test/{'good' if i % 3 == 0 else 'hole'}/{i:03d}.png" for i in range(count)]
    entries = tuple(
        ImageEntry(index=i, key=key, etag="", size=1, height=SIDE, width=SIDE) for i, key in enumerate(keys)
    )
    manifest = Manifest(batch="n", input=source.address, pattern="", config=config, entries=entries)
    prepare_maps(folder, manifest)
    images = []
    for entry in entries:
        truth = np.zeros((SIDE, SIDE), dtype=np.uint8)
        truth[8:20, 8:20] = 255
        for path, pixels in ((entry.key, truth), (entry.key.replace("test", "ground_truth"), truth)):
            path = path if "test" in path else path.replace(".png", "_mask.png")
            (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "in" / path)
        scores = (rng.gamma(2, 2, truth.shape) + (truth > 0)).astype(np.float32)
        fields = {"height": SIDE, "width": SIDE, "working_height": SIDE, "working_width": SIDE, "score": 1.0}
        digest, etag = write_map(folder, entry.index, anomaly_map=scores), source.read_with_etag(entry.key)[1]
        record = ImageRecord(
            index=entry.index,
            key=entry.key,
            etag=etag,
            fingerprint="f",
            status="inspected",
            map_digest=digest,
            **fields,
        )
        images.append(JudgedImage(record))
    inspection = Inspection(source=source, folder=folder, config=config, fingerprint="f")
    return images, inspection, MvtecTruth(source)


@dataclass(frozen=True)
class DeadlyStorage(Storage):
    """A source one of whose images ends the process that reads it, and one of which comes as an unforeseen error."""

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        if key.endswith("004.png"):
            os._exit(1)
        if key.endswith("008.png"):
            raise RuntimeError("unforeseen")
        return super().read_with_etag(key)


def test_an_unforeseen_error_leaves_one_image_unmeasured_and_is_told(tmp_path):
    images, inspection, truth = labelled(tmp_path, 9)
    spoilt = replace(inspection, source=DeadlyStorage(inspection.source.url))
    measured = measure_images([image for image in images if image.record.index != 4], Measurement(spoilt, truth))
    assert [(image.key, image.lasting) for image in measured.unmeasured] == [("a/test/hole/008.png", False)]
    assert "RuntimeError: unforeseen" in measured.unmeasured[0].reason
    assert len(measured.images) == 7


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_a_worker_with_another_version_of_the_method_or_the_metrics_measures_nothing_and_says_so(tmp_path):
    images, inspection, truth = labelled(tmp_path, 2)
    later = replace(inspection, method_version=METHOD_VERSION + 1)
    for measurement, reason in (
        (Measurement(later, truth), f"the run version {METHOD_VERSION + 1}"),
        (Measurement(inspection, truth, metrics_version=METRICS_VERSION + 1), "another version of the metrics"),
    ):
        measured = measure_images(images, measurement)
        assert not measured.images
        assert [image.lasting for image in measured.unmeasured] == [False, False]
        assert all(reason in image.reason for image in measured.unmeasured)


def test_chunks_on_workers_measure_as_one_image_after_the_other(tmp_path):
    images, inspection, truth = labelled(tmp_path, 2 * MIN_CHUNK + 3)
    one_by_one = summarise_metrics(
        gathered([evaluate_image(image.record, inspection, truth=truth) for image in images])
    )
    with dask_client(workers=2) as client:
        measured = summarise_metrics(measure_batch(client, images, measurement=Measurement(inspection, truth)))
    assert repr(measured.images) == repr(one_by_one.images)
    assert [row.category for row in measured.categories] == ["a", "b"]
    for row, expected in zip(measured.categories, one_by_one.categories, strict=True):
        assert (row.defective, row.good) == (expected.defective, expected.good)
        for name in ("auroc", "average_precision", "aupro", "f1"):
            assert getattr(row.pooled, name) == pytest.approx(getattr(expected.pooled, name), abs=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_an_image_that_kills_its_worker_is_unmeasured_and_all_others_are_measured(tmp_path):
    images, inspection, truth = labelled(tmp_path, MIN_CHUNK + 4)
    deadly = replace(inspection, source=DeadlyStorage(inspection.source.url))
    with dask_client(workers=2) as client:
        measured = measure_batch(client, images, measurement=Measurement(deadly, truth))
    assert sorted(image.key for image in measured.unmeasured) == ["a/test/hole/004.png", "a/test/hole/008.png"]
    assert any("KilledWorker" in image.reason for image in measured.unmeasured)
    assert len(measured.images) == MIN_CHUNK + 2
