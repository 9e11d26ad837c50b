import io
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

import flows.progress_bar
from flows.progress_bar import ProgressBar
from tasks.records import ImageRecord

GOOD = ImageRecord(index=0, key="0.png", etag="e", fingerprint="f", status="inspected")


class Closed(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


def walked(bar):
    with bar:
        bar.stage("listing images")
        bar.begin(images=3, settled=1)
        bar.stage("inspecting")
        bar.waiting(done=1, nights=3, running=["line-1 2026-11-22"], queued=["line-2 2026-11-22 (Late)"])
        bar.hint("is a worker started?")


def test_a_batch_goes_on_if_nobody_listens_to_its_progress(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Closed())
    walked(ProgressBar())


@pytest.mark.parametrize("setting", [{}, {"FORCE_COLOR": "1"}, {"TERM": "dumb"}])
def test_where_there_is_no_terminal_to_draw_on_lines_are_printed(monkeypatch, setting):
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    walked(ProgressBar())
    lines = sys.stderr.getvalue().splitlines()
    assert lines == [
        "ssdnet: listing images",
        "ssdnet: 3 images, 1 done before",
        "ssdnet: inspecting",
        "ssdnet: 1 of 3 nights done, running: line-1 2026-11-22; not running: line-2 2026-11-22 (Late)",
        "ssdnet: is a worker started?",
    ]


@pytest.fixture
def clock(monkeypatch):
    """The time that the bar reads."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(flows.progress_bar, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_the_rate_is_that_since_the_inspection_began_and_is_told_once_in_thirty_seconds(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    failed, defective = replace(GOOD, status="failed", error="no picture"), replace(GOOD, defective=True)
    with ProgressBar() as bar:
        clock.now = 100.0
        bar.begin(images=1006, settled=6)
        bar.stage("inspecting")
        begun = sys.stderr.tell()
        for seconds, record in ((10, GOOD), (20, failed), (30, defective), (36, GOOD), (60, GOOD), (67, GOOD)):
            clock.now = 100.0 + seconds
            bar.inspected(record)
    assert sys.stderr.getvalue()[begun:].splitlines() == [
        "ssdnet: 10 of 1006, 0.11/s, 2:29:24 left, 1 defective, 1 failed in this run",
        "ssdnet: 12 of 1006, 0.09/s, 3:05:00 left, 1 defective, 1 failed in this run",
    ]


def test_the_time_left_of_less_than_an_hour_is_told_in_minutes(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with ProgressBar() as bar:
        bar.begin(images=3, settled=0)
        clock.now = 65.0
        bar.inspected(GOOD)
    assert sys.stderr.getvalue().splitlines()[-1] == "ssdnet: 1 of 3, 0.02/s, 2:10 left, 0 defective, 0 failed"
