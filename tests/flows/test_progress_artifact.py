"""What becomes of a run where the Prefect server does not take what is told of it; over real HTTP connections."""

import logging
from http.server import BaseHTTPRequestHandler

import pytest

from flows import events, monitoring, progress_artifact
from flows.monitoring import tell_of_batch
from flows.progress_artifact import UPDATE_PERCENT, ProgressArtifact
from tests.flows.flow_runs import api_served_by

# Prefect would have artifacts written in flow runs only.
pytestmark = pytest.mark.filterwarnings("ignore:Artifact creation outside:FutureWarning")


@pytest.fixture
def refused():
    """The paths of all that was asked of an API that takes nothing."""
    asked = []

    class Refusal(BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer(404)  # As a server does that knows no CSRF tokens.

        def do_POST(self):
            asked.append(self.path)
            self._answer(503)

        def _answer(self, status):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.send_header("Retry-After", "0")
            self.end_headers()

    with api_served_by(Refusal):
        yield asked


@pytest.fixture
def run(monkeypatch, caplog):
    """What the log of a flow run says."""
    # Events take a way of their own, past these answers.
    monkeypatch.setattr(events, "emit_event", lambda *_, **__: None)
    for module in (monitoring, progress_artifact):
        name = "get_run_logger" if module is monitoring else "get_logger"
        monkeypatch.setattr(module, name, lambda *_: logging.getLogger("run"))
    return caplog


def test_a_server_that_takes_no_artifact_costs_no_batch(refused, run, outcome):
    tell_of_batch(outcome, sealed=False)
    assert "not all of this run is shown and told" in run.text
    assert refused == ["/api/artifacts/"]


def test_a_server_that_takes_no_progress_stops_no_batch(refused, run):
    with ProgressArtifact("night") as bar:
        bar.begin(images=2, settled=0)
        bar.inspected("a record")
    assert "the run's page shows no progress" in run.text
    assert refused == ["/api/artifacts/"]


class OneImageEachTime:
    """In place of the event that ends the bar's thread: whenever it waits, one more image is inspected."""

    def __init__(self, bar: ProgressArtifact, images: int) -> None:
        self._bar, self._left = bar, images

    def wait(self, seconds: float) -> bool:
        assert seconds == progress_artifact.UPDATE_SECONDS
        if not self._left:
            return True
        self._left -= 1
        self._bar.inspected("a record")
        return False

    def set(self) -> None:
        pass


def test_a_long_run_moves_its_bar_200_times_at_most_and_to_the_end(monkeypatch):
    shown = []
    monkeypatch.setattr(progress_artifact, "create_progress_artifact", lambda progress, **_: shown.append(progress))
    monkeypatch.setattr(progress_artifact, "update_progress_artifact", lambda _, progress: shown.append(progress))
    bar = ProgressArtifact("night")
    bar.begin(images=1234, settled=0)
    bar._finished = OneImageEachTime(bar, 1234)
    with bar:
        bar._thread.join()
    first, *updates = shown
    assert (first, updates[-1]) == (0, 100)
    assert 150 < len(updates) <= 200
    assert all(later - earlier >= UPDATE_PERCENT for earlier, later in zip(shown, updates[:-1], strict=False))
