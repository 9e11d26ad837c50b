import json
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from pyarrow import parquet

from ssdnet_core.config import Config
from ssdnet_core.regions import Region
from tasks.batch import ImageEntry, Manifest
from tasks.maps import prepare_maps, write_figures
from tasks.nights import Night
from tasks.records import ImageRecord, failure
from tasks.seal import Seal, make_seal, read_seal, set_seal
from tasks.storage import Storage
from tasks.trend_page import NoNightsError, write_all_trends, write_trends
from tasks.trends import NightFigures, compare_nights, lines, read_nights, remarks

FIRST = date(2026, 9, 1)


def figures(number, *, defective=12, inspected=420, median=-0.3, fingerprint="f", line="line-1"):
    day = FIRST + timedelta(days=number)
    return NightFigures(
        day=day,
        batch=Night(line, day).batch,
        fingerprint=fingerprint,
        digest=f"digest of {number}",
        images=inspected,
        inspected=inspected,
        failed=0,
        defective=defective,
        defect_rate=defective / inspected if inspected else None,
        score_q10=median - 0.4,
        score_q25=median - 0.2,
        score_q50=median,
        score_q75=median + 0.3,
        score_q90=median + 0.7,
        score_q99=9.0,
        area_share=0.001,
        seconds_per_image=2.4,
    )


def nights(count, **changes):
    return [figures(number, defective=10 + number % 5, median=-0.3 + 0.01 * (number % 4)) for number in range(count)]


def write_sealed(results, night):
    """Write a batch as far as trends read it: its seal, and the figures kept with it."""
    folder = results.below(night.batch)
    counts = {name: getattr(night, name) for name in ("images", "inspected", "failed", "defective")}
    folder.write("trend.json", night.to_json())
    set_seal(folder, Seal(batch=night.batch, fingerprint=night.fingerprint, digest=night.digest, **counts))


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
            ImageRecord(entry.index, entry.key, "e", manifest.fingerprint, "inspected"),
            **{"score": scores[entry.index], "defective": defective, "regions": (region,) if defective else ()},
            **{"height": 60, "width": 50, "working_height": 60, "working_width": 50, "seconds": 2.0, "map_digest": "m"},
        )
    for entry in entries[len(scores) :]:
        records[entry.index] = failure(entry, "broken", fingerprint=manifest.fingerprint, lasting=True)
    prepare_maps(folder, manifest)
    write_figures(folder, manifest, records)
    set_seal(folder, make_seal(manifest, records))
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
    assert NightFigures.from_json(folder.read("trend.json")) == night


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
    folder.write("trend.json", stale.to_json())
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


def test_the_first_week_flags_nothing():
    rows = compare_nights([*nights(6), figures(6, defective=300, median=4.0)])
    assert not any(row.jump or row.drift for row in rows)
    rows = compare_nights([*nights(7), figures(7, defective=300, median=4.0)])
    assert (rows[-1].jump, rows[-1].drift) == (True, True)


def test_a_jump_says_what_was_to_be_expected():
    [remark] = remarks(compare_nights([*nights(10), figures(10, defective=84)])[-1])
    lowest, highest = map(float, re.findall(r"\d+\.\d", remark)[1:])
    assert remark.startswith("defect rate 20.0 % (expected")
    assert lowest < 2.9 < highest < 20


def test_a_fall_is_as_remarkable_as_a_rise():
    before = [replace(night, defective=200 + night.defective) for night in nights(10)]
    assert compare_nights([*before, figures(10, defective=0)])[-1].jump


def test_changed_settings_begin_anew():
    changed = [replace(night, fingerprint="other", defective=200) for night in nights(14)[7:]]
    rows = compare_nights([*nights(7), *changed])
    assert not any(row.jump or row.drift for row in rows)
    assert rows[-1].rate is None


def test_a_night_without_images_is_no_yardstick_and_no_alarm():
    empty = [figures(number, defective=0, inspected=0) for number in range(7)]
    rows = compare_nights([*empty, figures(7, defective=400)])
    assert not any(row.jump for row in rows)


def test_the_table_has_a_row_a_night_and_the_page_stands_beside_it(results):
    for night in [*nights(9), figures(9, defective=150)]:
        write_sealed(results, night)
    trends = write_trends(results, "line-1")
    table = parquet.read_table(trends.table)
    assert table["day"].to_pylist() == [FIRST + timedelta(days=n) for n in range(10)]
    assert table["jump"].to_pylist() == [False] * 9 + [True]
    assert table["defect_rate_highest"].to_pylist()[:7] == [None] * 7
    assert table["defect_rate"][9].as_py() > table["defect_rate_highest"][9].as_py()
    page = results.read("trends/line-1.html").decode()
    assert "defect rate 35.7 % (expected" in page
    assert 'href="../line-1-2026-09-10/report/index.html"' in page
    assert "http" not in page.replace("http-equiv", ""), "the page loads and links nothing outside"


def test_the_same_nights_make_the_same_page(results):
    for night in nights(3):
        write_sealed(results, night)
    first = results.read(_page(write_trends(results, "line-1")))
    assert results.read(_page(write_trends(results, "line-1"))) == first


def test_a_line_is_shown_as_text(results):
    results = results.below("a")
    evil = replace(figures(0), batch="<b>x-2026-09-01")
    write_sealed(results, evil)
    write_trends(results, "<b>x")
    assert "<b>x" not in results.read("trends/<b>x.html").decode()


def test_nights_that_finish_at_once_lose_no_row(results):
    """Each writer seals its night and then writes the trends; the last table to be written has all nights."""
    for night in nights(3):
        write_sealed(results, night)
    later = [figures(number) for number in range(3, 11)]
    together = threading.Barrier(len(later))

    def finish(night):
        together.wait()
        write_sealed(results, night)
        write_trends(results, "line-1")

    with ThreadPoolExecutor(len(later)) as pool:
        list(pool.map(finish, later))
    assert len(parquet.read_table(f"{results.address}/trends/line-1.parquet")) == 11


def test_a_year_of_nights_is_read_from_their_small_objects_alone(results):
    for number in range(365):
        write_sealed(results, figures(number))
    assert read_seal(results.below(figures(0).batch)) is not None
    assert len(write_trends(results, "line-1").rows) == 365, "there are no stores to read in this test"


def test_all_lines_or_those_asked_for(results):
    for line in ("a", "b"):
        write_sealed(results, figures(0, line=line))
    assert [trends.page[-6:] for trends in write_all_trends(results)] == ["a.html", "b.html"]
    assert len(write_all_trends(results, ["b"])) == 1
    with pytest.raises(NoNightsError, match=r"'c'.*c-YYYY-MM-DD"):
        write_all_trends(results, ["c"])


def test_results_without_nights_are_refused(results):
    results.write("carpet/seal.json", b"{}")
    with pytest.raises(NoNightsError, match="LINE-YYYY-MM-DD"):
        write_all_trends(results)


def _page(trends):
    return trends.page.split("/results/")[1]
