import math
from dataclasses import fields, replace

import pytest

from ssdnet_core.config import Config
from ssdnet_core.regions import Region
from tasks.batch_results import BatchResults
from tasks.manifest import ImageEntry, Manifest
from tasks.night_figures import SCORE_PROBABILITIES, NightFigures
from tasks.records import ImageRecord, failed_record

ENTRIES = tuple(ImageEntry(index=i, key=f"{i}.png", etag="", size=1) for i in range(3))
MANIFEST = Manifest(batch="n", input="/in", pattern="", config=Config(), entries=ENTRIES)
REGIONS = tuple(Region(i, i, i + 5, i + 5, 25, 11.0 + i, (i + 2.0, i + 2.0)) for i in range(2))
RECORDS = {
    0: ImageRecord(
        index=0,
        key="0.png",
        etag="",
        fingerprint="f",
        status="inspected",
        score=4.0,
        defective=True,
        regions=REGIONS,
        seconds=2.0,
    ),
    1: ImageRecord(index=1, key="1.png", etag="", fingerprint="f", status="inspected", score=0.0, seconds=3.0),
    2: replace(failed_record(ENTRIES[2], "broken", fingerprint="f", lasting=True), seconds=7.0),
}


def test_the_summary_counts_rates_and_quantiles_of_what_was_inspected():
    summary = BatchResults(MANIFEST, RECORDS).summary
    assert (summary.images, summary.inspected, summary.failed, summary.defective, summary.regions) == (3, 2, 1, 1, 2)
    assert summary.defect_rate == 0.5
    assert summary.score_quantiles["0.5"] == pytest.approx(2.0)
    assert summary.fit_seconds == 5.0
    assert summary.masked == 0
    masked = replace(MANIFEST, entries=(replace(ENTRIES[0], mask="0.png"), *ENTRIES[1:]))
    assert BatchResults(masked, RECORDS).summary.masked == 1


def test_the_quantiles_of_a_batch_are_those_of_the_trends():
    quantiles = BatchResults(MANIFEST, RECORDS).summary.score_quantiles
    of_trends = [field.name for field in fields(NightFigures) if field.name.startswith("score_q")]
    assert [f"score_q{100 * float(probability):.0f}" for probability in quantiles] == of_trends
    assert list(SCORE_PROBABILITIES) == of_trends


def test_a_batch_of_failures_only_has_no_rate():
    records = {entry.index: failed_record(entry, "broken", fingerprint="f", lasting=True) for entry in ENTRIES}
    assert math.isnan(BatchResults(MANIFEST, records).summary.defect_rate)
