"""What is told of an address that the user gave; over real connections."""

import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from flows.api_address import NoPrefectApiError
from flows.named_server import wait_for_named_server
from tasks.proxies import reached_directly
from tests.conftest import free_port
from tests.http_server import served_by


@contextmanager
def answering(*statuses, page=False):
    """Answer one question after another with these statuses, the last one for ever; gives the address."""
    left = list(statuses)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.send_header("Content-Type", "text/html" if page else "application/json")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with served_by(Answer) as address:
        yield f"{address}/api"


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
