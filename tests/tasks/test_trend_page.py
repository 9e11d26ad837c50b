import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest
from pyarrow import parquet

import tasks.trend_page
from tasks.seal import read_seal
from tasks.storage import Storage
from tasks.trend_page import NoNightsError, write_all_trends, write_trends
from tasks.trends import read_table, write_table
from tests.browser import browser, opened
from tests.tasks.made_nights import FIRST, figures, nights, write_sealed


@pytest.fixture
def results(tmp_path):
    return Storage(str(tmp_path / "results"))


def test_the_table_has_a_row_a_night_and_the_page_stands_beside_it(results):
    for night in [*nights(9), figures(9, defective=150)]:
        write_sealed(results, night)
        results.write(f"{night.batch}/report/index.html", b"<!doctype html>")
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


def test_nights_whose_gallery_was_deleted_are_listed_without_a_link(results):
    for night in nights(3):
        write_sealed(results, night)
        results.write(f"{night.batch}/report/index.html", b"<!doctype html>")
    results.delete("line-1-2026-09-02/report/index.html")
    page = results.read(_page(write_trends(results, "line-1"))).decode()
    assert [f'href="../line-1-2026-09-0{day}/report/index.html"' in page for day in (1, 2, 3)] == [True, False, True]
    assert "<td>2026-09-02</td>" in page


def test_nights_under_other_settings_than_the_latest_are_labelled_in_words(results):
    for number in range(4):
        own = {"fingerprint": "f", "settings": "preset fast"} if number < 2 else {"fingerprint": "g", "settings": "<b>"}
        write_sealed(results, replace(figures(number), **own))
    page = results.read(_page(write_trends(results, "line-1"))).decode()
    assert "Settings: &lt;b&gt; (g)</p>" in page
    assert page.count("other settings: preset fast (f)") == 2
    assert parquet.read_table(f"{results.address}/trends/line-1.parquet")["settings"].to_pylist()[0] == "preset fast"


def test_a_night_that_was_inspected_under_two_settings_is_counted_once(results):
    for night in [*nights(9), figures(9, defective=150)]:
        write_sealed(results, night)
    again = figures(9)
    write_sealed(results, replace(again, batch=f"{again.batch}~0123abcd", fingerprint="g"))
    page = results.read(_page(write_trends(results, "line-1"))).decode()
    assert "10 nights, " in page
    assert "Out of the ordinary in the last 10 nights" in page


def test_nights_under_the_same_settings_have_no_label(results):
    for night in nights(3):
        write_sealed(results, night)
    page = results.read(_page(write_trends(results, "line-1"))).decode()
    assert "other settings" not in page
    assert "<th>settings</th>" not in page


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


WIDER_THAN_SHOWN = "[...document.querySelectorAll(%r)].map(box => box.scrollWidth > box.clientWidth)"
HIGHEST_CELL = "Math.max(...[...document.querySelectorAll('td')].map(cell => cell.getClientRects()[0].height))"


@pytest.mark.slow
def test_on_a_phone_plots_stay_legible_and_table_and_plots_scroll_by_themselves(results, tmp_path):
    for night in nights(9):
        write_sealed(results, night)
    page_file = tmp_path / "results" / _page(write_trends(results, "line-1"))
    with browser(tmp_path / "profile") as devtools, opened(devtools, page_file.as_uri()) as page:
        page.ask("Emulation.setDeviceMetricsOverride", width=500, height=900, deviceScaleFactor=1, mobile=False)
        page.wait_for_text("A night is compared", timeout=20)
        assert page.value(WIDER_THAN_SHOWN % "html") == [False]
        assert page.value(WIDER_THAN_SHOWN % ".scrolled") == [True]
        assert min(page.value("[...document.images].slice(0, 2).map(image => image.clientWidth)")) >= 700
        assert page.value(HIGHEST_CELL) < 45, "dates and rates stay on one line"


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


@pytest.mark.parametrize("content", [b"", b"PAR1" + 20 * b"\xff" + b"\x14\0\0\0PAR1", None])
def test_a_table_that_is_damaged_or_of_another_version_is_written_anew(results, content):
    write_sealed(results, figures(0))
    if content is None:
        buffer = pa.BufferOutputStream()
        parquet.write_table(pa.table({"night": [1]}), buffer)
        content = buffer.getvalue().to_pybytes()
    results.write("trends/line-1.parquet", content)
    write_trends(results, "line-1")
    assert read_table(results, "line-1") == [figures(0)]


def test_a_night_that_is_sealed_while_the_table_is_written_is_in_the_table(results, monkeypatch):
    write_sealed(results, figures(0))

    def write_beside_another(results, line, rows):
        write_table(results, line, rows=rows)
        write_sealed(results, figures(1))

    monkeypatch.setattr(tasks.trend_page, "write_table", write_beside_another)
    trends = write_trends(results, "line-1")
    assert [row.figures for row in trends.rows] == read_table(results, "line-1") == [figures(0), figures(1)]


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


def test_a_line_without_a_sealed_night_keeps_no_other_from_its_trends(results):
    for line in ("a", "b"):
        write_sealed(results, figures(0, line=line))
    results.below(figures(0, line="a").batch).delete("seal.json")
    assert [trends.page[-6:] for trends in write_all_trends(results)] == ["b.html"]
    with pytest.raises(NoNightsError, match="no sealed night of line 'a'"):
        write_all_trends(results, ["a", "b"])
    results.below(figures(0, line="b").batch).delete("seal.json")
    with pytest.raises(NoNightsError, match=r"holds no sealed night: .*LINE-YYYY-MM-DD"):
        write_all_trends(results)


def test_trends_whose_only_seal_is_broken_meanwhile_stay_as_they_were_written(results, monkeypatch):
    write_sealed(results, figures(0))

    def write_beside_another(results, line, rows):
        write_table(results, line, rows=rows)
        results.below(figures(0).batch).delete("seal.json")

    monkeypatch.setattr(tasks.trend_page, "write_table", write_beside_another)
    trends = write_trends(results, "line-1")
    assert [row.figures for row in trends.rows] == read_table(results, "line-1") == [figures(0)]


def test_results_without_nights_are_refused(results):
    results.write("carpet/seal.json", b"{}")
    with pytest.raises(NoNightsError, match="LINE-YYYY-MM-DD"):
        write_all_trends(results)


def _page(trends):
    return trends.page.split("/results/")[1]


def test_the_last_four_weeks_are_those_that_are_listed_with_their_galleries(results):
    for night in nights(31):
        write_sealed(results, night)
        results.write(f"{night.batch}/report/index.html", b"<!doctype html>")
    write_trends(results, "line-1")
    page = results.read("trends/line-1.html").decode()
    linked = [night.batch for night in nights(31) if f'href="../{night.batch}/report' in page]
    assert linked == [night.batch for night in nights(31)[3:]]
