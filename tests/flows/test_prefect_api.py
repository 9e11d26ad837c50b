"""What becomes of a Prefect API that refuses, as one behind a proxy does, or is none."""

import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from uuid import uuid4

import httpx
import pytest
from prefect.settings import (
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)

from flows.api_address import NoPrefectApiError, WrongApiAddressError
from flows.night_runs import look_up
from flows.prefect_api import ProxyError, check_api, check_proxies, wait_for_api
from tasks.proxies import reached_directly
from tests.conftest import free_port
from tests.flows.flow_runs import api_served_by
from tests.made_certificates import make_certificates


@contextmanager
def answering(*statuses, content_type="application/json", certificate=None):
    """Have Prefect's client ask what answers with these statuses in turn, the last one for ever; gives its address."""
    left = list(statuses)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", "0")
            self.send_header("Retry-After", "0")  # Prefect's client waits after its last try as well.
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

    with api_served_by(Answer, certificate=certificate) as address:
        yield address


@pytest.fixture
def refusing(request):
    """An API that answers everything with one status."""
    with answering(request.param, content_type="text/html"):
        yield


@pytest.mark.parametrize(
    ("refusing", "asked"),
    [(401, "does it want PREFECT_API_AUTH_STRING"), (500, "is the disk of its database full"), (503, "its database")],
    indirect=["refusing"],
)
def test_an_api_that_refuses_everything_is_no_api_for_now(refusing, asked):
    with pytest.raises(NoPrefectApiError, match=rf"answers \d{{3}} .*: .*{asked}"):
        look_up([uuid4()])
    with pytest.raises(NoPrefectApiError, match=rf"answers \d{{3}} .*: .*{asked}"):
        check_api(purpose="for this test")


@pytest.mark.parametrize("refusing", [200, 404, 405], indirect=True)
def test_an_address_of_something_else_is_not_taken_for_an_api(refusing):
    with pytest.raises(NoPrefectApiError, match=r"http://127.*/api, answers.*end in /api\?"):
        check_api(purpose="for this test")


@pytest.mark.parametrize("refusing", [422], indirect=True)
def test_a_request_that_is_refused_for_itself_is_not_asked_again(refusing):
    with pytest.raises(httpx.HTTPStatusError):
        look_up([uuid4()])


def test_a_server_that_says_nothing_is_asked_once(monkeypatch):
    monkeypatch.setattr("flows.prefect_api.PROBE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(0.5)
        address = f"http://127.0.0.1:{mute.getsockname()[1]}/api"
        with (
            temporary_settings({PREFECT_API_URL: address, PREFECT_CLIENT_MAX_RETRIES: 5}),
            pytest.raises(NoPrefectApiError, match=f"{address} does not answer: .*is it started, and PREFECT_API_URL"),
        ):
            check_api(purpose="for this test")
        mute.accept()[0].close()
        with pytest.raises(TimeoutError):
            mute.accept()


def test_of_a_server_whose_certificate_is_not_trusted_the_variable_is_named_and_none_is_waited_for(tmp_path):
    make_certificates(tmp_path)
    started = time.monotonic()
    with (
        answering(200, certificate=tmp_path / "scheduler.crt"),
        pytest.raises(NoPrefectApiError, match="PREFECT_API_SSL_CERT_FILE name its authority"),
    ):
        wait_for_api(purpose="for this test", timeout=60)
    assert time.monotonic() - started < 30


def test_a_server_that_comes_up_is_waited_for():
    with answering(503, 200):
        wait_for_api(purpose="for this test", timeout=60)


def test_a_server_that_is_away_is_waited_for_a_while():
    started = time.monotonic()
    with (
        temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}),
        pytest.raises(NoPrefectApiError, match=r"refused.*unset PREFECT_API_URL"),
    ):
        wait_for_api(purpose="for this test", timeout=1)
    assert 1 <= time.monotonic() - started < 30


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_what_refuses_or_is_something_else_is_not_waited_for(status):
    started = time.monotonic()
    with answering(status) as address, pytest.raises(NoPrefectApiError, match=r"answers 40.*\?.*unset") as told:
        wait_for_api(purpose="for this test", timeout=60)
    assert address in str(told.value)
    assert time.monotonic() - started < 30


def test_a_server_that_speaks_another_language_is_not_waited_for():
    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with (
            temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{listener.getsockname()[1]}/api"}),
            pytest.raises(NoPrefectApiError, match="does not answer: Server disconnected"),
        ):
            wait_for_api(purpose="for this test", timeout=60)
        thread.join()
    assert time.monotonic() - started < 30


def test_a_server_here_is_not_asked_for_through_the_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    for name, value in reached_directly("127.0.0.1").items():
        monkeypatch.setenv(name, value)
    with answering(200):
        wait_for_api(purpose="for this test", timeout=0)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_authority_that_cannot_be_read_is_named_before_prefects_client_fails_at_it(tmp_path, content):
    authority = tmp_path / "ca.crt"
    if content:
        authority.write_text(content)
    named = {PREFECT_API_URL: "https://127.0.0.1:1/api", PREFECT_API_SSL_CERT_FILE: str(authority)}
    with temporary_settings(named), pytest.raises(WrongApiAddressError, match=r"'.*ca\.crt'.*PEM .*_SSL_CERT_FILE"):
        wait_for_api(purpose="for this test", timeout=60)


def test_a_server_whose_authority_is_named_is_trusted(tmp_path):
    make_certificates(tmp_path)
    with (
        answering(200, certificate=tmp_path / "scheduler.crt"),
        temporary_settings({PREFECT_API_SSL_CERT_FILE: str(tmp_path / "ca.crt")}),
    ):
        wait_for_api(purpose="for this test", timeout=0)


@pytest.mark.parametrize("address", ["http://localhost:port/api", "nonsense"])
def test_what_is_no_address_is_wrong_usage(address):
    with temporary_settings({PREFECT_API_URL: address}), pytest.raises(WrongApiAddressError, match="host:4200/api"):
        check_api(purpose="for this test")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ALL_PROXY", "socks5://plant:hush@127.0.0.1:1080", "socks"),
        ("https_proxy", "socks4://plant:hush@127.0.0.1:1080", "socks4"),
        ("NO_PROXY", "[::1],plant.example", "port"),
    ],
)
def test_a_proxy_that_the_client_cannot_go_through_is_told_by_its_variable(monkeypatch, variable, value, said):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HTTP_PROXY", "proxy.example:3128")
    check_proxies()
    monkeypatch.setenv(variable, value)
    with pytest.raises(ProxyError, match=rf"what {variable} says .*{said}") as refused:
        check_proxies()
    assert "hush" not in str(refused.value)
    with temporary_settings({PREFECT_API_URL: "http://plant.example/api"}), pytest.raises(ProxyError):
        check_api(purpose="for this test")
