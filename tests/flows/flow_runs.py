"""Flow runs of a line, and a Prefect API that knows them and no more; over real HTTP connections."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Completed, Running

from flows.line import Line
from ssdnet_core.config import Config
from tests.http_server import served_by

LINE = Line(
    deployment="nightly/line-1",
    id=uuid4(),
    name="line-1",
    images="s3://images",
    results="s3://results",
    timezone="Europe/Madrid",
    config=Config(),
    pool="inspection",
    limit=1,
)
DUE = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
"""03:00 in Madrid: the run of the 22nd."""


def flow_run(state: State[Any] | None = None, *, due: datetime = DUE, **changes: Any) -> FlowRun:
    """Return a run of a line's deployment; changes are those of its parameters, or fields of its own."""
    own = {name: changes.pop(name) for name in ("auto_scheduled", "idempotency_key") if name in changes}
    places = {"line": LINE.name, "images": LINE.images, "results": LINE.results, "timezone": LINE.timezone}
    return FlowRun(
        id=uuid4(),
        flow_id=uuid4(),
        deployment_id=LINE.id,
        parameters={**places, **changes},
        expected_start_time=due,
        state=state or Running(),
        **own,
    )


@dataclass
class RunsApi:
    """What the server knows, how many requests it refuses before it answers again, and what it was asked.

    Of the deployments that it knows it starts runs, which are completed at once, unless it has a reason to refuse them.
    """

    runs: list[FlowRun]
    away: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    started: list[dict[str, Any]] = field(default_factory=list)
    deployments: dict[UUID, str] = field(default_factory=dict)


@contextmanager
def serving(api: RunsApi) -> Iterator[RunsApi]:
    """Have Prefect's clients in the block ask this server."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            id = self._deployment()
            if id is None:
                self._answer(404, None)  # As a server does that knows no CSRF tokens.
            else:
                self._answer(200, DeploymentResponse(id=id, name="x", flow_id=uuid4()).model_dump(mode="json"))

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if api.away:
                api.away -= 1
                self._answer(503, None)
                return
            if (id := self._deployment()) is not None:
                if refusal := api.deployments[id]:
                    self._answer(409, {"detail": refusal})
                    return
                api.started.append(body)
                api.runs.append(flow_run(Completed()).model_copy(update={"deployment_id": id}))
                self._answer(201, api.runs[-1].model_dump(mode="json"))
                return
            api.asked.append(body)
            page = api.runs[body["offset"] : body["offset"] + body["limit"]]
            self._answer(200, [run.model_dump(mode="json") for run in page])

        def _deployment(self):
            return next((id for id in api.deployments if f"/deployments/{id}" in self.path), None)

        def _answer(self, status, content):
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(body)

    with api_served_by(Answer):
        yield api


@contextmanager
def api_served_by(handler: type[BaseHTTPRequestHandler], *, certificate: Path | None = None) -> Iterator[str]:
    """Have Prefect's clients in the block ask a server of these answers; gives the address of its API."""
    with (
        served_by(handler, certificate=certificate) as address,
        temporary_settings({PREFECT_API_URL: f"{address}/api", PREFECT_CLIENT_MAX_RETRIES: 0}),
    ):
        yield f"{address}/api"
