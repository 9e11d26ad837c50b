import re
from dataclasses import replace
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import run_page
from flows.run_page import artifact_key, plain, show_batch, show_metrics, show_trends, url_of
from tasks.batch_results import BatchResults
from tasks.category_metrics import Evaluation
from tasks.report import overlay_key
from tasks.storage import Storage
from tasks.trends import Trends, compare_nights
from tests.flows.made_metrics import row
from tests.tasks.made_nights import nights


@pytest.mark.parametrize(
    ("batch", "key"),
    [
        ("line-1-2026-11-22", "line-1"),
        ("line-1-2026-11-22~0a1b2c3d", "line-1"),
        ("Line_1-2026-11-22", "line-1-08a392"),
        ("carpet-test", "carpet-test"),
        ("...", "batch-ab5df6"),
    ],
)
def test_the_nights_of_a_line_are_versions_of_one_artifact(batch, key):
    assert artifact_key(batch) == key


def test_two_lines_are_two_artifacts():
    names = ("cam-1", "cam_1", "CAM-1", "cam=1", "cam-1-", "_", "batch")
    assert len({artifact_key(f"{name}-2026-11-22") for name in names}) == len(names)


@given(st.text(max_size=40))
def test_artifact_keys_have_only_what_prefect_allows(name):
    key = artifact_key(name)
    assert key
    assert all(character in "abcdefghijklmnopqrstuvwxyz0123456789-" for character in key)


@pytest.mark.parametrize(
    ("results", "address", "url"),
    [
        ("", "s3://results/line-1-2026-11-22~0a1b", "http://host:8088/line-1-2026-11-22~0a1b/report/a%20b.html"),
        ("s3://results/", "s3://results/line-1-2026-11-22", "http://host:8088/line-1-2026-11-22/report/a%20b.html"),
        ("s3://results", "s3://results/lab/trial", "http://host:8088/lab/trial/report/a%20b.html"),
        ("/served/results", "/served/results/trial", "http://host:8088/trial/report/a%20b.html"),
        ("/", "/served/trial", "http://host:8088/served/trial/report/a%20b.html"),
        ("s3://results/lab", "s3://results/line-1-2026-11-22", None),
        ("/served/results", "/served/results-of-old/trial", None),
        ("s3://results", "/elsewhere/trial", None),
    ],
)
def test_addresses_become_urls_where_they_are_served(monkeypatch, results, address, url):
    monkeypatch.setenv("SSDNET_RESULTS", results)
    monkeypatch.delenv("SSDNET_GALLERY_URL", raising=False)
    assert url_of(Storage(address), "report/a b.html") is None
    monkeypatch.setenv("SSDNET_GALLERY_URL", "http://host:8088/")
    assert url_of(Storage(address), "report/a b.html") == url


@pytest.mark.parametrize("name", ["a|b.png", "[x](http://evil)", "<script>", "a\nb", "*b*", "`c`", "&lt;"])
def test_a_file_name_cannot_become_markup(name):
    shown = plain(name)
    assert unescape(re.sub(r"\\(.)", r"\1", shown)) == " ".join(name.split())
    assert "\n" not in shown
    assert "<" not in shown
    for position, character in enumerate(shown):
        if character in "|[]()*`":
            assert shown[position - 1] == "\\", shown


@pytest.mark.parametrize(("number", "other"), [(9, False), (3, True)])
def test_a_night_under_other_settings_than_the_latest_is_told_as_such(monkeypatch, number, other):
    def settings(night):
        return {"fingerprint": "f", "settings": "preset fast"} if night < 5 else {"fingerprint": "g"}

    rows = compare_nights([replace(night, **settings(place)) for place, night in enumerate(nights(10))])
    written = {}
    monkeypatch.setattr(run_page, "create_markdown_artifact", lambda **artifact: written.update(artifact))
    show_trends("line-1", rows[number], trends=Trends(rows, table="results/trends/t", page="results/trends/p"))
    assert ("Settings: preset fast \\(f\\), **others than the latest night's**, g" in written["markdown"]) is other
    assert ("Settings: g\n" in written["markdown"]) is not other


@pytest.mark.parametrize("categories", [("carpet",), ("carpet", "wood")])
def test_the_mean_of_the_categories_and_what_counts_all_images_are_rows_of_their_own(monkeypatch, categories):
    measured = tuple(row(name, 0.5) for name in categories)
    written = {}
    monkeypatch.setattr(run_page, "create_table_artifact", lambda **artifact: written.update(artifact))
    show_metrics("b", Evaluation(images=(), unmeasured=(), categories=measured, mean=row("mean", 0.75)))
    shown = {line.pop("category"): line for line in written["table"]}
    assert list(shown) == [*categories, *(["category mean", "all images"] if len(categories) > 1 else [])]
    assert len({tuple(line) for line in shown.values()}) == 1
    empty = {name: {column for column, value in line.items() if value is None} for name, line in shown.items()}
    counts = shown["all images" if len(categories) > 1 else "carpet"]
    assert [counts[name] for name in ("defective", "good", "unmeasured", "hits")] == [1234, 12, 1, 1.0]
    if len(categories) > 1:
        assert empty["category mean"] == {"defective", "good", "unmeasured", "hits", "false alarms"}
        assert empty["all images"] == {"AUROC", "AUPRC", "AUPRO"}


@pytest.fixture
def written(monkeypatch):
    """The artifacts that are written, by their keys."""
    written = {}
    for kind in ("markdown", "table", "image"):
        monkeypatch.setattr(
            run_page, f"create_{kind}_artifact", lambda key, **artifact: written.update({key: artifact})
        )
    return written


@pytest.mark.parametrize(("defective", "verdict"), [(False, "good"), (True, "defective")])
def test_the_page_of_a_batch_has_its_figures_its_worst_images_and_those_not_inspected(
    written, outcome, defective, verdict
):
    records = {**outcome.results.records, 2: replace(outcome.results.records[2], defective=defective)}
    show_batch(replace(outcome, results=BatchResults(outcome.results.manifest, records)))
    assert list(written) == ["night-summary", "night-worst", "night-failures"]
    [worst] = written["night-worst"]["table"]
    assert (worst["image"], worst["verdict"]) == ("good.png", verdict)
    assert written["night-failures"]["table"] == [{"image": "unread.png", "reason": "no picture in unread.png"}]


def test_pictures_of_the_worst_images_are_on_the_page_where_they_are_drawn_and_served(
    written, outcome, tmp_path, monkeypatch
):
    monkeypatch.setenv("SSDNET_GALLERY_URL", "http://host:8088")
    monkeypatch.delenv("SSDNET_RESULTS", raising=False)
    bad = replace(outcome.results.records[2], defective=True)
    results = BatchResults(outcome.results.manifest, {**outcome.results.records, 2: bad})
    served = replace(outcome, results=results, folder=Storage(str(tmp_path / "night")))
    show_batch(served)
    assert "night-worst-1" not in written
    served.folder.write(overlay_key(bad), b"")
    show_batch(served)
    assert written["night-worst-1"]["image_url"] == f"http://host:8088/night/{overlay_key(bad)}"
