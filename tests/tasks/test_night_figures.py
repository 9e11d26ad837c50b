import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from ssdnet_core.config import Config
from ssdnet_core.regions import Region
from tasks.batch_results import BatchResults
from tasks.image_figures import write_figures
from tasks.manifest import ImageEntry, Manifest
from tasks.maps import prepare_maps
from tasks.night_figures import NightFigures, lines, read_nights
from tasks.records import ImageRecord, failed_record
from tasks.seal import make_seal, read_seal, set_seal
from tasks.storage import Storage
from tasks.storage_answers import StorageError
from tasks.stored_json import from_json, to_json
from tasks.trend_page import write_trends
from tasks.trends import read_table
from tests.tasks.made_nights import FIRST, figures, write_sealed


def write_batch(results, batch, *, scores, broken=0):
    """Write a small batch with its store and its seal, and return its records."""
    folder = results.below(batch)
    count = len(scores) + broken
    entries = tuple(ImageEntry(index=i, key=f"{i}.png", etag="e", size=1, height=60, width=50) for i in range(count))
    manifest = Manifest(batch=batch, input="/in", pattern="", config=Config(), entries=entries)
    region = Region(top=0, left=0, bottom=10, right=10, area=30, peak=9.0, centroid=(5.0, 5.0))
    records = {}
    for entry in entries[: len(scores)]:
        defective = scores[entry.index] > 1
        records[entry.index] = replace(
            ImageRecord(
                index=entry.index, key=entry.key, etag="e", fingerprint=manifest.fingerprint, status="inspected"
            ),
            **{"score": scores[entry.index], "defective": defective, "regions": (region,) if defective else ()},
            **{"height": 60, "width": 50, "working_height": 60, "working_width": 50, "seconds": 2.0, "map_digest": "m"},
        )
    for entry in entries[len(scores) :]:
        records[entry.index] = failed_record(entry, "broken", fingerprint=manifest.fingerprint, lasting=True)
    folder.write("manifest.json", manifest.to_json())
    prepare_maps(folder, manifest)
    write_figures(folder, BatchResults(manifest, records))
    set_seal(folder, make_seal(BatchResults(manifest, records)))
    return folder


@pytest.fixture
def results(tmp_path):
    return Storage(str(tmp_path / "results"))


def test_a_night_is_summed_up_from_its_store_and_kept(results):
    folder = write_batch(results, "line-1-2026-09-01", scores=[3.0, -0.5, 0.5, -1.0], broken=1)
    [night] = read_nights(results, "line-1")
    assert (night.images, night.inspected, night.failed, night.defective) == (5, 4, 1, 1)
    assert night.defect_rate == 0.25
    assert night.score_q50 == pytest.approx(np.median([3.0, -0.5, 0.5, -1.0]))
    assert night.area_share == pytest.approx(30 / (4 * 60 * 50))
    assert night.seconds_per_image == 2.0
    assert night.auroc is None
    assert night.settings == "default settings"
    assert from_json(NightFigures, folder.read("trend.json")) == night


@pytest.mark.parametrize("content", [b"{}", None])
def test_a_night_whose_settings_cannot_be_understood_has_its_figures_all_the_same(results, content):
    folder = write_batch(results, "line-1-2026-09-01", scores=[3.0])
    if content is None:
        folder.delete("manifest.json")
    else:
        folder.write("manifest.json", content)
    [night] = read_nights(results, "line-1")
    assert (night.settings, night.score_q50) == ("", 3.0)


def test_a_night_whose_images_all_failed_is_a_row_without_figures(results):
    write_batch(results, "line-1-2026-09-01", scores=[], broken=2)
    [night] = read_nights(results, "line-1")
    assert (night.images, night.failed, night.defect_rate, night.score_q50) == (2, 2, None, None)
    write_trends(results, "line-1")


def test_metrics_that_came_later_are_read_when_asked_for(results):
    folder = write_batch(results, "line-1-2026-09-01", scores=[3.0, 0.0])
    assert read_nights(results, "line-1")[0].auroc is None
    mean = {"auroc": 0.98, "average_precision": 0.6, "aupro": None, "image_auroc": 1.0}
    measured = {"mean": mean, "digest": read_seal(folder).digest}
    folder.write("evaluation.json", json.dumps(measured).encode())
    assert read_nights(results, "line-1")[0].auroc is None
    assert read_nights(results, "line-1", anew={"line-1-2026-09-01"})[0].auroc == 0.98
    assert read_nights(results, "line-1")[0].auroc == 0.98


def test_metrics_of_results_that_have_changed_since_are_not_a_nights_own(results):
    folder = write_batch(results, "line-1-2026-09-01", scores=[3.0, 0.0])
    mean = {"auroc": 0.98, "average_precision": 0.6, "aupro": None, "image_auroc": 1.0}
    folder.write("evaluation.json", json.dumps({"mean": mean, "digest": "of earlier results"}).encode())
    assert read_nights(results, "line-1")[0].auroc is None


def test_what_is_kept_of_another_seal_is_made_again(results):
    folder = write_batch(results, "line-1-2026-09-01", scores=[3.0, 0.0])
    stale = replace(figures(0), digest="of an earlier seal")
    folder.write("trend.json", to_json(stale))
    assert read_nights(results, "line-1")[0].images == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"day": "yesterday"}'])
def test_figures_that_cannot_be_read_are_made_again(results, content):
    folder = write_batch(results, "line-1-2026-09-01", scores=[3.0, 0.0])
    folder.write("trend.json", content)
    assert read_nights(results, "line-1")[0].images == 2


def test_a_night_whose_store_is_gone_keeps_the_counts_of_its_seal(results):
    folder = write_batch(results, "line-1-2026-09-01", scores=[3.0, 0.0])
    shutil.move(folder.path("maps.zarr"), folder.path("away"))
    [night] = read_nights(results, "line-1")
    assert (night.defect_rate, night.score_q50) == (0.5, None)
    shutil.move(folder.path("away"), folder.path("maps.zarr"))
    assert read_nights(results, "line-1")[0].score_q50 == 1.5
    write_trends(results, "line-1")


def test_a_night_whose_maps_were_deleted_to_make_room_keeps_its_row(results):
    folder = write_batch(results, "line-1-2026-09-01", scores=[3.0, 0.0])
    before = read_nights(results, "line-1")
    shutil.rmtree(folder.path("maps.zarr"))
    assert read_nights(results, "line-1") == before


@pytest.mark.parametrize("anew", ["all", {"line-1-2026-09-01"}])
def test_a_night_whose_maps_were_deleted_stays_as_it_was_known_when_all_is_read_anew(results, caplog, anew):
    folder = write_batch(results, "line-1-2026-09-01", scores=[3.0, 0.0])
    before = read_nights(results, "line-1")
    shutil.rmtree(folder.path("maps.zarr"))
    assert read_nights(results, "line-1", anew=anew) == before
    assert re.search(rf"{folder.address} stays in the trends as it was known: \S", caplog.text)
    assert "counts of its seal alone" not in caplog.text


def test_a_night_without_maps_and_without_its_own_figures_stays_as_the_table_has_it_unless_its_seal_is_another(results):
    folder = write_batch(results, "line-1-2026-09-01", scores=[3.0, 0.0])
    before = [row.figures for row in write_trends(results, "line-1").rows]
    folder.delete("trend.json")
    shutil.rmtree(folder.path("maps.zarr"))
    assert [row.figures for row in write_trends(results, "line-1").rows] == before
    [other] = read_nights(results, "line-1", known=[replace(before[0], digest="of an earlier seal")])
    assert (other.defect_rate, other.score_q50) == (0.5, None)


def test_figures_of_another_seal_are_not_what_a_night_without_maps_is_known_as(results):
    folder = write_batch(results, "line-1-2026-09-01", scores=[3.0, 0.0])
    [before] = read_nights(results, "line-1")
    folder.write("trend.json", to_json(replace(before, digest="of an earlier seal")))
    shutil.rmtree(folder.path("maps.zarr"))
    [night] = read_nights(results, "line-1", anew="all")
    assert (night.defect_rate, night.score_q50) == (0.5, None)


def test_a_night_that_is_not_sealed_has_no_row(results):
    write_sealed(results, figures(0))
    write_sealed(results, figures(1))
    results.below(figures(1).batch).delete("seal.json")
    assert [night.day for night in read_nights(results, "line-1")] == [FIRST]


def test_other_settings_of_a_night_are_a_row_of_their_own(results):
    write_sealed(results, figures(0))
    write_sealed(results, replace(figures(0), batch=figures(0).batch + "~a1b2c3d4", fingerprint="a1b2c3d4e5f6"))
    assert len(read_nights(results, "line-1")) == 2


def test_lines_do_not_mix(results):
    write_sealed(results, figures(0))
    write_sealed(results, figures(0, line="line-10"))
    results.write("no-night/seal.json", b"{}")
    assert lines(results) == ["line-1", "line-10"]
    assert len(read_nights(results, "line-1")) == 1


def archive(results, night, name):
    """Let an object be there without being given, as in an archive, or without permission; root is not refused it."""
    path = Path(results.path(f"{night.batch}/{name}"))
    path.unlink()
    path.symlink_to(name)


def test_a_seal_that_cannot_be_read_is_an_error_to_the_run_that_made_it(results):
    for night in (0, 1):
        write_sealed(results, figures(night))
    archive(results, figures(1), "seal.json")
    with pytest.raises(StorageError, match=f"cannot read {figures(1).batch}/seal.json: "):
        read_nights(results, "line-1", anew={figures(1).batch})


@pytest.mark.parametrize("anew", ["all", {figures(2).batch}])
@pytest.mark.parametrize("archived", [["seal.json"], ["seal.json", "trend.json"]])
def test_a_night_that_was_archived_keeps_its_row_with_a_warning(results, caplog, archived, anew):
    for night in (0, 1):
        write_sealed(results, figures(night))
    before = [row.figures for row in write_trends(results, "line-1").rows]
    for name in archived:
        archive(results, figures(0), name)
    last = write_batch(results, figures(2).batch, scores=[3.0, 0.0])
    first, _, new = (row.figures for row in write_trends(results, "line-1", anew=anew).rows)
    assert (first, new.digest) == (before[0], read_seal(last).digest)
    address = results.below(first.batch).address
    assert f"{address} stays in the trends as it was known: cannot read {first.batch}/seal.json" in caplog.text
    assert [night.day for night in read_table(results, "line-1")] == [figures(number).day for number in range(3)]


def test_a_night_that_was_archived_keeps_its_row_of_a_table_from_before_there_was_some_figure(results):
    write_sealed(results, figures(0))
    table = write_trends(results, "line-1").table
    parquet.write_table(parquet.read_table(table).drop_columns(["score_q99", "aupro"]), table)
    for name in ("seal.json", "trend.json"):
        archive(results, figures(0), name)
    write_sealed(results, figures(1))
    first, new = (row.figures for row in write_trends(results, "line-1").rows)
    assert (first, new) == (replace(figures(0), score_q99=None), figures(1))


def test_an_archived_night_that_nobody_knows_is_left_out_with_a_warning(results, caplog):
    for night in (0, 1):
        write_sealed(results, figures(night))
    for name in ("seal.json", "trend.json"):
        archive(results, figures(0), name)
    assert [row.figures for row in write_trends(results, "line-1").rows] == [figures(1)]
    address = results.below(figures(0).batch).address
    assert f"{address} is left out of the trends until its seal can be read: cannot read" in caplog.text


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"digest": "d", "me', b'{"digest": "other", "mean": {}'])
def test_a_night_with_damaged_metrics_goes_without_them_with_a_warning(results, caplog, content):
    folder = write_batch(results, "line-1-2026-09-01", scores=[3.0, 0.0])
    folder.write("evaluation.json", content)
    [night] = read_nights(results, "line-1")
    assert (night.score_q50, night.auroc) == (1.5, None)
    assert f"{folder.address}: its metrics are left out, until it is measured again: evaluation.json" in caplog.text


def test_metrics_that_were_known_stay_when_their_file_is_damaged_later(results, caplog):
    folder = write_batch(results, "line-1-2026-09-01", scores=[3.0, 0.0])
    mean = {"auroc": 0.98, "average_precision": 0.6, "aupro": None, "image_auroc": 1.0}
    whole = json.dumps({"mean": mean, "digest": read_seal(folder).digest}).encode()
    folder.write("evaluation.json", whole)
    known = read_nights(results, "line-1")
    folder.write("evaluation.json", whole[:-9])
    assert read_nights(results, "line-1", anew="all") == known
    assert known[0].auroc == 0.98
    assert f"{folder.address}: its metrics stay as they were known, until it is measured again" in caplog.text


def test_a_night_that_was_copied_or_renamed_is_that_of_its_folder(results):
    write_batch(results, "line-1-2026-09-01", scores=[3.0, 0.0])
    assert read_nights(results, "line-1")
    root = Path(results.address)
    shutil.copytree(root / "line-1-2026-09-01", root / "line-1-2026-09-02")
    shutil.copytree(root / "line-1-2026-09-01", root / "line-2-2026-09-01")
    rows = write_trends(results, "line-1").rows + write_trends(results, "line-2").rows
    assert [(row.figures.batch, row.figures.day.day) for row in rows] == [
        ("line-1-2026-09-01", 1),
        ("line-1-2026-09-02", 2),
        ("line-2-2026-09-01", 1),
    ]


@pytest.mark.parametrize(("key", "content"), [("maps.zarr/score/c/0", b"cut"), ("maps.zarr/zarr.json", b"")])
def test_a_night_with_damaged_figures_keeps_the_counts_of_its_seal_with_a_warning(results, caplog, key, content):
    folder = write_batch(results, "line-1-2026-09-01", scores=[3.0, 0.0])
    folder.write(key, content)
    [night] = read_nights(results, "line-1")
    assert (night.defect_rate, night.score_q50) == (0.5, None)
    assert re.search(rf"{folder.address} is in the trends with the counts of its seal alone: \S", caplog.text)
    assert not folder.exists("trend.json")
