import io
import sys

import pytest

from flows.progress_bar import ProgressBar


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


@pytest.mark.parametrize("stream", [Closed(), None])
def test_a_batch_goes_on_if_nobody_listens_to_its_progress(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
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
        "ssdnet: 3 images, 1 of them done before",
        "ssdnet: inspecting",
        "ssdnet: 1 of 3 nights done, running: line-1 2026-11-22; not running: line-2 2026-11-22 (Late)",
        "ssdnet: is a worker started?",
    ]
