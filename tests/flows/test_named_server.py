"""What is told of an address that the user gave; over real connections."""

import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from flows.api_address import NoPrefectApiError, WrongApiAddressError
from flows.named_server import wait_for_named_server
from tasks.proxies import reached_directly
from tests.conftest import free_port
from tests.http_server import served_by
from tests.made_certificates import make_certificates


@contextmanager
def answering(*statuses, page=False, certificate=None):
    """Answer one question after another with these statuses, the last one for ever; gives the address."""
    left = list(statuses)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.send_header("Content-Type", "text/html" if page else "application/json")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with served_by(Answer, certificate=certificate) as address:
        yield f"{address}/api"


@pytest.fixture
def certificates(tmp_path):
    return make_certificates(tmp_path)


@pytest.mark.parametrize("statuses", [(200,), (503, 200), (401,), (403,)])
def test_a_server_that_comes_up_or_wants_credentials_is_there(statuses):
    with answering(*statuses) as address:
        wait_for_named_server(address)


@pytest.mark.parametrize(("status", "page"), [(404, False), (405, False), (200, True)])
def test_something_else_at_the_address_is_not_waited_for(status, page):
    started = time.monotonic()
    with answering(status, page=page) as address, pytest.raises(NoPrefectApiError, match=r"/api\?.*unset") as told:
        wait_for_named_server(address, timeout=60)
    assert address in str(told.value)
    assert time.monotonic() - started < 30


def test_a_server_that_speaks_another_language_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(NoPrefectApiError, match=r"SSH-2\.0"):
            wait_for_named_server(f"http://127.0.0.1:{listener.getsockname()[1]}/api")
        thread.join()


def test_a_server_that_is_away_is_waited_for_a_while():
    started = time.monotonic()
    with pytest.raises(NoPrefectApiError, match=r"refused.*unset"):
        wait_for_named_server(f"http://127.0.0.1:{free_port()}/api", timeout=1)
    assert 1 <= time.monotonic() - started < 30


def test_a_server_here_is_not_asked_for_through_the_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    for name, value in reached_directly("127.0.0.1").items():
        monkeypatch.setenv(name, value)
    with answering(200) as address:
        wait_for_named_server(address, timeout=1)


@pytest.mark.parametrize("variable", ["PREFECT_API_SSL_CERT_FILE", "SSL_CERT_FILE"])
def test_a_server_whose_authority_is_named_is_trusted_as_prefects_client_does(certificates, monkeypatch, variable):
    monkeypatch.setenv(variable, str(certificates / "ca.crt"))
    with answering(200, certificate=certificates / "scheduler.crt") as address:
        wait_for_named_server(address)


def test_certificates_are_not_checked_where_prefects_client_does_not(certificates, monkeypatch):
    monkeypatch.setenv("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "true")
    with answering(200, certificate=certificates / "scheduler.crt") as address:
        wait_for_named_server(address)


def test_a_server_of_an_unknown_authority_is_not_waited_for_and_the_variable_is_named(certificates):
    started = time.monotonic()
    with (
        answering(200, certificate=certificates / "scheduler.crt") as address,
        pytest.raises(NoPrefectApiError, match="PREFECT_API_SSL_CERT_FILE name its authority"),
    ):
        wait_for_named_server(address, timeout=60)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_authority_that_cannot_be_read_is_named(tmp_path, monkeypatch, content):
    authority = tmp_path / "ca.crt"
    if content:
        authority.write_text(content)
    monkeypatch.setenv("PREFECT_API_SSL_CERT_FILE", str(authority))
    with pytest.raises(WrongApiAddressError, match=r"PREFECT_API_SSL_CERT_FILE is '.*ca.crt'.*PEM"):
        wait_for_named_server("https://127.0.0.1:1/api")
