import signal
from http.server import BaseHTTPRequestHandler

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

import flows.inspection
from flows import batch_command
from flows.api_address import NoPrefectApiError
from flows.batch_command import BatchParameters, run_batch_flow
from flows.progress import observer
from ssdnet_core import Config
from ssdnet_core.errors import UsageError
from tasks.address import AddressError
from tests.flows.flow_runs import api_served_by

PARAMETERS: BatchParameters = {
    "input": "/in",
    "results": "/out",
    "batch": None,
    "masks": None,
    "config": Config(),
    "scheduler": None,
    "workers": None,
    "group": None,
    "retry_failed": False,
}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"batch": "a/b"}, "'a/b'"),
        ({"scheduler": "tcp://host:8786", "workers": 2}, "workers = 2"),
        ({"scheduler": "tcp://host:99999"}, "out of range"),
        ({"config": Config().updated({"device": "cuda:1"})}, "cuda:1"),
    ],
)
def test_what_can_be_refused_without_a_run_never_becomes_one(monkeypatch, changed, named):
    monkeypatch.setattr(batch_command, "start_prefect_server", lambda: None)
    begun = []
    monkeypatch.setattr(flows.inspection, "inspect", lambda **parameters: begun.append(parameters))
    with pytest.raises(UsageError, match=named):
        run_batch_flow("flows.inspection:inspect", {**PARAMETERS, **changed}, as_json=True)
    assert begun == []


@pytest.mark.parametrize("address", ["input", "results", "masks"])
@pytest.mark.parametrize("wrong", ["s3://AKIAKEY:hush@nights/line-1", "ftp://nights", ""])
def test_a_wrong_address_never_becomes_the_parameter_of_a_run(monkeypatch, wrong, address):
    monkeypatch.setattr(batch_command, "start_prefect_server", lambda: None)
    begun = []
    monkeypatch.setattr(flows.inspection, "inspect", lambda **parameters: begun.append(parameters))
    with pytest.raises(AddressError):
        run_batch_flow("flows.inspection:inspect", {**PARAMETERS, address: wrong}, as_json=True)
    assert begun == []


def test_a_file_is_no_place_for_results(monkeypatch, tmp_path):
    monkeypatch.setattr(batch_command, "start_prefect_server", lambda: None)
    (tmp_path / "000.png").write_text("")
    with pytest.raises(AddressError, match=rf"--results {tmp_path}/000\.png is a file: give a folder"):
        run_batch_flow("flows.inspection:inspect", {**PARAMETERS, "results": str(tmp_path / "000.png")}, as_json=True)


@pytest.mark.parametrize("option", ["results", "masks"])
def test_what_could_only_lie_below_a_file_is_refused_with_the_file(monkeypatch, tmp_path, option):
    monkeypatch.setattr(batch_command, "start_prefect_server", lambda: None)
    (tmp_path / "a.png").write_text("")
    with pytest.raises(AddressError, match=rf"{tmp_path}/a\.png is a file, so that --{option} .*/night cannot be a fo"):
        run_batch_flow("flows.inspection:inspect", {**PARAMETERS, option: f"{tmp_path}/a.png/night"}, as_json=True)


def test_a_single_mask_is_refused_with_what_to_give(monkeypatch, tmp_path):
    monkeypatch.setattr(batch_command, "start_prefect_server", lambda: None)
    (tmp_path / "mask.png").write_text("")
    with pytest.raises(AddressError, match=rf"--masks {tmp_path}/mask\.png is a file: give the folder in which each"):
        run_batch_flow("flows.inspection:inspect", {**PARAMETERS, "masks": f"{tmp_path}/mask.png"}, as_json=True)


def test_a_signal_to_end_is_an_exception_only_once_the_flow_begins(monkeypatch, handled_as_a_command_starts):
    handlers = []

    def note(**parameters):
        handlers.append(signal.getsignal(signal.SIGINT))

    monkeypatch.setattr(batch_command, "start_prefect_server", note)
    monkeypatch.setattr(batch_command, "wait_until_ready", note)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(flows.inspection, "inspect", note)
    at_once = signal.getsignal(signal.SIGINT)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        run_batch_flow("flows.inspection:inspect", {**PARAMETERS, "scheduler": "tcp://host:8786"}, as_json=True)
    assert handlers == [at_once, at_once, signal.default_int_handler]


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_wants_credentials_is_told_of_before_there_is_a_run(monkeypatch, status):
    class Refusal(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    begun = []
    monkeypatch.setattr(batch_command, "start_prefect_server", lambda: None)
    monkeypatch.setattr(flows.inspection, "inspect", lambda **parameters: begun.append(parameters))
    with api_served_by(Refusal):
        monkeypatch.setenv("PREFECT_API_URL", str(get_current_settings().api.url))
        with pytest.raises(NoPrefectApiError, match=rf"answers {status} .*does it want PREFECT_API_AUTH_STRING"):
            run_batch_flow("flows.inspection:inspect", {**PARAMETERS, "scheduler": "tcp://host:8786"}, as_json=True)
    assert begun == []


def test_a_batch_that_is_sealed_is_returned_though_its_server_has_gone_away(monkeypatch, capsys):
    def inspect(**_):
        observer().ended("the outcome")
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(batch_command, "start_prefect_server", lambda: None)
    monkeypatch.setattr(batch_command, "wait_until_ready", lambda: None)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(flows.inspection, "inspect", inspect)
    parameters: BatchParameters = {**PARAMETERS, "scheduler": "tcp://host:8786"}
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert run_batch_flow("flows.inspection:inspect", parameters, as_json=True) == "the outcome"
    assert capsys.readouterr().err.startswith("ssdnet: the batch is sealed, but ")
