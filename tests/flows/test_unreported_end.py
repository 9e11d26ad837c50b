"""What a flow came to, with a server that is there at first."""

import httpx
import pytest
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.api_address import NoPrefectApiError
from flows.progress import observer
from flows.unreported_end import result_of

ASKED = httpx.Request("POST", "http://plant.example/api/flow_runs/1/set_state")
LOST = [
    httpx.ConnectError("connection refused"),
    httpx.HTTPStatusError("bad gateway", request=ASKED, response=httpx.Response(502, request=ASKED)),
    httpx.HTTPStatusError("no such state", request=ASKED, response=httpx.Response(422, request=ASKED)),
    ObjectNotFound(Exception("the run was deleted")),
]


@pytest.fixture(autouse=True)
def named():
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_what_was_done_is_returned_though_the_server_has_gone_away_and_said_so(capsys, error):
    def run():
        observer().ended("the outcome")
        raise error

    assert result_of(run, done="the batch is sealed") == "the outcome"
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("ssdnet: the batch is sealed, but its run's page does not tell so: ")


@pytest.mark.parametrize("error", LOST[:2], ids=lambda error: type(error).__name__)
def test_a_server_that_goes_away_before_there_is_an_outcome_is_told_as_such(error):
    def run():
        raise error

    with pytest.raises(NoPrefectApiError, match=r"does not answer|answers 502"):
        result_of(run, done="the batch is sealed")


def test_an_error_of_the_flow_itself_is_raised_whatever_it_told():
    def run():
        observer().ended("the outcome")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        result_of(run, done="the batch is sealed")
