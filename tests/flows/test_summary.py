import io
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from flows import summary
from flows.batch_figures import MOST_FAILURES_SHOWN
from flows.summary import outcome_tree, print_evaluation, print_measured, print_outcome
from tasks.batch_results import BatchResults
from tasks.category_metrics import Evaluation
from tasks.discovery import Listing
from tasks.found_masks import FoundMasks
from tasks.image_metrics import UnmeasuredImage
from tasks.manifest import ImageEntry
from tasks.records import ImageRecord, failed_record
from tasks.storage import Storage
from tests.conftest import ROOT
from tests.flows.made_metrics import row


@pytest.fixture
def evaluation():
    missed = UnmeasuredImage(
        key="carpet/test/a hole in [brackets]/" + "0" * 90 + ".png", category="carpet", reason="there is no mask " * 9
    )
    rows = (
        row("a category of a very long name, longer than the others", 0.5),
        row("c", math.nan, good=0, false_alarm_rate=math.nan),
    )
    return Evaluation(images=(), unmeasured=(missed,), categories=rows, mean=row("mean", 0.75))


def printed(evaluation, *, width=80):
    stream = io.StringIO()
    print_evaluation(evaluation, Console(file=stream, width=width))
    return stream.getvalue()


def test_the_tables_fit_in_80_columns_even_of_a_wide_terminal_if_names_are_short(evaluation):
    assert max(map(len, printed(evaluation).splitlines())) <= 80
    short = Evaluation(images=(), unmeasured=(), categories=(row("fabric_strip", 0.5),), mean=row("mean", 0.75))
    assert max(len(line.rstrip()) for line in printed(short, width=200).splitlines()) <= 80


def test_nothing_is_cut_off(evaluation):
    text = printed(evaluation)
    assert "…" not in text
    assert "1234+12" in text
    for figure in ("0.500", "0.432", "100 %", "25 %", "0.750", "0.751", "0.752", "0.753", "0.988", "95 %"):
        assert figure in text
    assert "[brackets]" in "".join(text.split()).replace("│", "")


def test_the_second_table_says_which_figures_are_pooled_and_which_ignore_the_border(evaluation):
    lines = {line.split("│")[1].strip(): line for line in printed(evaluation).splitlines() if line.count("│") == 6}
    assert "0.750" in lines["image by image, full frame"]
    assert "0.751" in lines["image by image, 10 % border ignored"]
    assert "0.752" in lines["pooled by category, full frame"]
    assert "0.753" in lines["pooled by category, 10 % border ignored"]


def test_means_of_categories_and_shares_of_all_images_are_rows_of_their_own(evaluation):
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed(evaluation).splitlines()]
    [mean, everything] = [row for row in rows if row and row[0] in ("category mean", "all images")]
    assert mean == ["category mean", "", "0.750", "0.750", "0.750", "0.432", "", ""]
    assert everything == ["all images", "1234+12", "", "", "", "", "100 %", "25 %"]


def test_a_single_category_has_no_mean(evaluation):
    one = Evaluation(images=(), unmeasured=(), categories=(row("carpet", 0.75),), mean=row("mean", 0.75))
    assert "category mean" not in printed(one)
    assert "Mean of" not in printed(one)


def test_what_is_undefined_is_a_dash(evaluation):
    [line] = [line for line in printed(evaluation).splitlines() if line.startswith("│ c ")]
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "c",
        "1234+0",
        "-",
        "-",
        "-",
        "0.432",
        "100 %",
        "-",
    ]


def test_a_night_without_unmeasured_images_has_no_table_of_them(evaluation):
    assert "Not measured: 1" in printed(evaluation)
    assert "Not measured" not in printed(
        Evaluation(images=(), unmeasured=(), categories=evaluation.categories, mean=evaluation.mean)
    )


def test_json_has_the_means_the_categories_and_what_was_not_measured(evaluation, monkeypatch, capsys):
    monkeypatch.setattr(summary, "outcome_tree", lambda outcome: {"batch": "n"})
    print_measured(SimpleNamespace(outcome=None, evaluation=evaluation), as_json=True)
    tree = json.loads(capsys.readouterr().out)
    assert tree["batch"] == "n"
    assert tree["evaluation"]["mean"]["auroc"] == 0.75
    assert tree["evaluation"]["categories"][1]["false_alarm_rate"] is None
    assert tree["evaluation"]["unmeasured"][0]["reason"].startswith("there is no mask")
    assert "images" not in tree["evaluation"]


def test_a_measured_batch_is_printed_with_its_images_and_its_metrics(outcome, evaluation, capsys):
    print_measured(SimpleNamespace(outcome=outcome, evaluation=evaluation), as_json=False)
    said = capsys.readouterr().out
    assert said.index("Highest scores") < said.index("Not measured: 1") < said.index("Full frame")


@pytest.mark.parametrize(("defective", "verdict"), [(False, "good"), (True, "defective")])
def test_each_image_is_printed_with_its_verdict(outcome, capsys, defective, verdict):
    records = {**outcome.results.records, 2: replace(outcome.results.records[2], defective=defective)}
    print_outcome(replace(outcome, results=BatchResults(outcome.results.manifest, records)), as_json=False)
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│ good.png")]
    assert line.split("│")[3].strip() == verdict


def test_files_that_are_no_images_are_counted_by_suffix(outcome, capsys):
    mixed = replace(outcome, listing=Listing([], {".heic": 3, "": 1}))
    assert outcome_tree(mixed)["others"] == {".heic": 3, "": 1}
    print_outcome(mixed, as_json=False)
    assert "1 without a suffix, 3 .heic" in capsys.readouterr().out
    print_outcome(outcome, as_json=False)
    assert "other files" not in capsys.readouterr().out


def test_images_that_are_gone_are_not_told_of(outcome, capsys):
    tree = outcome_tree(outcome)
    assert (tree["images"], tree["failed"]) == (2, 1)
    assert tree["failures"] == {"unread.png": "no picture in unread.png"}
    print_outcome(outcome, as_json=False)
    said = capsys.readouterr().out
    assert "good.png" in said
    assert "unread.png" in said
    assert "gone.png" not in said
    assert "broken.png" not in said


def test_warnings_are_counted_and_those_of_each_image_are_in_the_json(outcome, capsys):
    constant = replace(outcome.results.records[2], warnings=("the image is constant",))
    records = {**outcome.results.records, 2: constant}
    warned = replace(outcome, results=BatchResults(outcome.results.manifest, records))
    assert outcome_tree(warned)["warnings"] == {"good.png": ("the image is constant",)}
    print_outcome(warned, as_json=False)
    said = capsys.readouterr().out
    assert "1, listed in the gallery" in said
    assert "the image is constant" in said
    print_outcome(outcome, as_json=False)
    assert "with warnings" not in capsys.readouterr().out


def test_of_many_warnings_the_first_are_printed_and_all_are_counted(outcome, capsys):
    entries = tuple(ImageEntry(index=index, key=f"{index:02d}.png", etag="", size=1) for index in range(20))
    records = {
        e.index: ImageRecord(index=e.index, key=e.key, etag="", fingerprint="f", status="inspected", warnings=("dark",))
        for e in entries
    }
    manifest = replace(outcome.results.manifest, entries=entries)
    many = replace(outcome, results=BatchResults(manifest, records))
    print_outcome(many, as_json=False)
    said = capsys.readouterr().out
    assert said.count("dark") == summary.MOST_WARNINGS_PRINTED
    assert f"{summary.MOST_WARNINGS_PRINTED} of 20" in said
    assert "20, listed in the gallery" in said


def test_of_many_failures_the_first_are_printed_and_all_are_in_the_json(outcome, capsys):
    entries = tuple(ImageEntry(index=index, key=f"{index:02d}.png", etag="", size=1) for index in range(70))
    records = {entry.index: failed_record(entry, "cut short", fingerprint="f", lasting=True) for entry in entries}
    manifest = replace(outcome.results.manifest, entries=entries)
    many = replace(outcome, results=BatchResults(manifest, records))
    print_outcome(many, as_json=False)
    said = capsys.readouterr().out
    assert said.count("cut short") == MOST_FAILURES_SHOWN
    assert f"{MOST_FAILURES_SHOWN} of 70" in " ".join(said.split())  # A narrow table folds its title.
    assert len(outcome_tree(many)["failures"]) == 70
    print_outcome(outcome, as_json=False)
    assert " of 1" not in capsys.readouterr().out  # One of one is all.


def test_how_many_images_have_a_mask_is_told_where_masks_were_given(outcome, capsys):
    print_outcome(outcome, as_json=False)
    assert "with a mask" not in capsys.readouterr().out
    entries = tuple(
        replace(entry, mask="good.png") if entry.key == "good.png" else entry
        for entry in outcome.results.manifest.entries
    )
    manifest = replace(outcome.results.manifest, masks="/masks", entries=entries)
    masked = replace(outcome, results=BatchResults(manifest, outcome.results.records))
    print_outcome(masked, as_json=False)
    assert "1 of 2, the others whole" in capsys.readouterr().out
    print_outcome(masked, as_json=True)
    assert json.loads(capsys.readouterr().out)["masked"] == 1


def with_stray_masks(outcome, *keys):
    return replace(outcome, listing=Listing([], {}, FoundMasks(others=keys)))


def test_masks_of_no_image_are_counted_and_the_first_of_them_named(outcome, capsys):
    stray = with_stray_masks(outcome, *(f"m{number}.png" for number in range(7)))
    print_outcome(stray, as_json=False)
    assert "7: m0.png, m1.png, m2.png, m3.png, m4.png, ..." in " ".join(capsys.readouterr().out.split())
    print_outcome(stray, as_json=True)
    assert json.loads(capsys.readouterr().out)["stray_masks"][-1] == "m6.png"
    print_outcome(with_stray_masks(stray, "a.png"), as_json=False)
    assert "1: a.png " in capsys.readouterr().out


def test_long_names_are_folded_and_not_cut(outcome, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    name = "camera-03_lot-2026-11-22T030501_" + "0" * 60 + "17.png"
    records = {index: replace(record, key=name) for index, record in outcome.results.records.items()}
    print_outcome(replace(outcome, results=BatchResults(outcome.results.manifest, records)), as_json=False)
    said = capsys.readouterr().out
    assert "…" not in said
    assert "17.png" in said


@pytest.mark.parametrize(("letters", "whole"), [(28, True), (40, True), (50, True), (60, False)])
def test_a_name_that_would_be_broken_takes_the_room_of_the_regions_and_their_places(
    outcome, capsys, monkeypatch, letters, whole
):
    monkeypatch.setenv("COLUMNS", "80")
    name = "0" * (letters - 4) + ".png"
    records = {index: replace(record, key=name) for index, record in outcome.results.records.items()}
    print_outcome(replace(outcome, results=BatchResults(outcome.results.manifest, records)), as_json=False)
    said, _ = capsys.readouterr().out.split("Not inspected")
    assert (f" {name} " in said) == whole
    assert ("largest at" in said) == (letters == 28)


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (60, "image score verdict regions largest at (x, y)"),
        (50, "image score verdict regions"),
        (35, "image score verdict"),
    ],
)
def test_a_narrow_terminal_has_the_names_and_the_addresses_in_one_piece(outcome, capsys, monkeypatch, columns, shown):
    monkeypatch.setenv("COLUMNS", str(columns))
    address = "s3://results/" + "/".join(["long-name"] * 9)
    print_outcome(replace(outcome, folder=Storage(address)), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert f"results  {address}" in lines
    assert f"gallery  {address}/report/index.html" in lines
    [header] = [line for line in lines if "verdict" in line]
    assert " ".join(header.replace("┃", " ").split()) == shown


def test_what_a_terminal_would_obey_in_a_name_is_shown_as_text(outcome, capsys):
    name = "evil\x1b]0;title\x07\x1b[31m[red].png"
    records = {index: replace(record, key=name) for index, record in outcome.results.records.items()}
    print_outcome(replace(outcome, results=BatchResults(outcome.results.manifest, records)), as_json=False)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "[red].png" in said.replace("\n", "")


def test_the_documentation_names_every_field_of_the_json(outcome):
    section = (ROOT / "docs" / "USAGE.md").read_text().partition("`--json` prints")[2].partition("\n## ")[0]
    assert {name for name in outcome_tree(outcome) if f"`{name}`" not in section} == set()
