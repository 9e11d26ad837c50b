import re
from dataclasses import replace
from datetime import date
from itertools import takewhile

import pytest

from flows.backfill import NightOutcome
from flows.backfill_plan import NightState, PlannedNight
from flows.backfill_summary import outcome_tree, planned_tree, print_outcomes, print_plan
from tasks.nights import Night
from tasks.seal import Seal
from tests.flows.flow_runs import LINE

LOST = PlannedNight(
    line=LINE,
    config=LINE.config,
    night=Night("line-1", date(2026, 11, 1)),
    images=0,
    state=NightState.FAILED,
    reason="no line 'line-1'",
)


def test_a_plan_for_machines_says_what_is_done_and_why_a_night_is_given_up():
    tree = planned_tree(LOST)
    assert (tree["action"], tree["reason"]) == ("nothing: no line 'line-1'", "no line 'line-1'")


def test_an_outcome_for_machines_has_the_reason_that_its_run_failed_for():
    outcome = NightOutcome(planned=LOST, state=NightState.FAILED, reason="its run was deleted")
    assert outcome_tree(outcome)["reason"] == "its run was deleted"


@pytest.mark.parametrize("batch", ["line-1-2026-11-01", "line-1-2026-11-01~0123abcd"])
def test_a_sealed_night_names_the_folder_and_gallery_of_its_settings(batch):
    seal = Seal(batch=batch, fingerprint="", images=2, inspected=2, failed=0, defective=0, digest="")
    there = {"batch": batch, "folder": f"s3://results/{batch}", "report": f"s3://results/{batch}/report/index.html"}
    sealed = NightOutcome(planned=LOST, state=NightState.SEALED, seal=seal)
    for tree in (outcome_tree(sealed), planned_tree(replace(LOST, seal=seal))):
        assert {name: tree[name] for name in there} == there


def test_a_night_that_is_not_sealed_names_no_folder():
    tree = outcome_tree(NightOutcome(planned=LOST, state=NightState.FAILED))
    assert (tree["batch"], tree["folder"], tree["report"]) == ("line-1-2026-11-01", None, None)


LONG = "weaving-hall-3-[loom-17]-left-camera-underneath"
REASON = f"cannot list s3://images-of-the-plant/by-line/{LONG}: the store does not answer"


@pytest.fixture
def narrow(monkeypatch):
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")


def nights(line):
    """A night to start with the longest words for it, and three that failed for one reason."""
    night = replace(LOST, night=Night(line, date(2026, 11, 1)), images=12_345, reason="")
    failed = [replace(night, night=Night(line, date(2026, 11, day)), reason=REASON) for day in (2, 3, 5)]
    return (replace(night, state=NightState.PASSING_FAILURES, attempt=2), *failed)


def rows(table):
    """The rows of a table as printed, each as its columns' texts with the folds taken out."""
    found = []
    for line in takewhile(lambda line: not line.startswith("└"), table):
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        if cells and re.match(r"\d{4}-\d{2}-\d{2}$", cells[1]):
            found.append(cells)
        elif cells:
            found[-1] = [above + below for above, below in zip(found[-1], cells, strict=True)]
    return found


@pytest.mark.parametrize("line", ["line-1", LONG])
def test_a_plan_fits_80_columns_and_says_once_below_why_nights_are_given_up(narrow, capsys, line):
    print_plan(nights(line), as_json=False)
    *table, told = capsys.readouterr().out.splitlines()
    assert max(map(len, table)) <= 80
    assert told == f"{line} 3 nights, 2026-11-02 to 2026-11-05: {REASON}"
    first, *failed = rows(table)
    assert first == [line, "2026-11-01", "passing failures", "12345", "start attempt 2"]
    assert failed == [[line, f"2026-11-0{day}", "failed", "12345", "nothing"] for day in (2, 3, 5)]


def test_nights_of_a_line_with_several_deployments_are_told_apart_by_them(capsys):
    strict = replace(LOST, line=replace(LINE, deployment="nightly/line-1-strict"))
    other = replace(LOST, night=Night("line-2", date(2026, 11, 1)), line=replace(LINE, deployment="nightly/line-2"))
    labels = ["line-1 (nightly/line-1)", "line-1 (nightly/line-1-strict)", "line-2"]
    print_plan([LOST, strict, other], as_json=False)
    *table, first, second, third = capsys.readouterr().out.splitlines()
    # Where a table breaks a text is not told.
    assert [cells[0].replace(" ", "") for cells in rows(table)] == [label.replace(" ", "") for label in labels]
    for label, told in zip(labels, (first, second, third), strict=True):
        assert told == f"{label} 2026-11-01: no line 'line-1'"
    print_outcomes([NightOutcome(planned=night, state=NightState.FAILED) for night in (LOST, strict)], as_json=False)
    shown = [cells[0].replace(" ", "") for cells in rows(capsys.readouterr().out.splitlines())]
    assert shown == [label.replace(" ", "") for label in labels[:2]]


@pytest.mark.parametrize("line", ["line-1", LONG])
def test_an_outcome_fits_80_columns_with_every_day_and_number_in_one_piece(narrow, capsys, line):
    seal = Seal(batch="", fingerprint="", images=12_345, inspected=12_000, failed=345, defective=1_234, digest="")
    first, failed, *_ = nights(line)
    sealed = NightOutcome(planned=first, state=NightState.SEALED, seal=seal)
    print_outcomes([sealed, NightOutcome(planned=failed, state=NightState.FAILED, reason=REASON)], as_json=False)
    *table, told = capsys.readouterr().out.splitlines()
    assert max(map(len, table)) <= 80
    assert told == f"{line} 2026-11-02: {REASON}"
    assert rows(table) == [
        [line, "2026-11-01", "sealed", "12345", "1234", "345"],
        [line, "2026-11-02", "failed", "12345", "", ""],
    ]
