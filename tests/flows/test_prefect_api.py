"""What becomes of a Prefect API that refuses, as one behind a proxy does, or is none."""

from http.server import BaseHTTPRequestHandler
from uuid import uuid4

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.named_server import NoPrefectApiError, WrongApiAddressError
from flows.night_runs import look_up
from flows.prefect_api import check_api
from tests.flows.flow_runs import api_served_by


@pytest.fixture
def refusing(request):
    """The address of an API that answers everything with one status."""

    class Refusal(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(request.param)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "0")
            self.send_header("Retry-After", "0")  # Prefect's client waits after its last try as well.
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

    with api_served_by(Refusal):
        yield


@pytest.mark.parametrize("refusing", [401, 502, 503], indirect=True)
def test_an_api_that_refuses_everything_is_no_api_for_now(refusing):
    with pytest.raises(NoPrefectApiError, match=r"answers \d{3}"):
        look_up([uuid4()])
    with pytest.raises(NoPrefectApiError, match=r"answers \d{3}"):
        check_api(purpose="for this test")


@pytest.mark.parametrize("refusing", [200, 404, 405], indirect=True)
def test_an_address_of_something_else_is_not_taken_for_an_api(refusing):
    with pytest.raises(NoPrefectApiError, match=r"http://127.*/api, answers.*end in /api\?"):
        check_api(purpose="for this test")


@pytest.mark.parametrize("refusing", [422], indirect=True)
def test_a_request_that_is_refused_for_itself_is_not_asked_again(refusing):
    with pytest.raises(httpx.HTTPStatusError):
        look_up([uuid4()])


@pytest.mark.parametrize("address", ["http://localhost:port/api", "nonsense"])
def test_what_is_no_address_is_wrong_usage(address):
    with temporary_settings({PREFECT_API_URL: address}), pytest.raises(WrongApiAddressError, match="host:4200/api"):
        check_api(purpose="for this test")
