"""An S3 server whose answers are told beforehand, and a process that asks it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from tests.http_server import served_by

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3_that_answers(
    *statuses: int, holds: bytes = b"", length: int | None = None, cut: int = 0
) -> Iterator[tuple[str, list[tuple[str | None, bytes]]]]:
    """A server that answers writes as S3 does, with one status after the other; its address, and what it was sent.

    A read is told as one that sent nothing. It gets what the server ``holds``, the first so many of them ``cut`` short,
    under a header that may claim another ``length``.
    """
    codes = {409: "ConditionalRequestConflict", 412: "PreconditionFailed"}
    waiting, received = list(statuses), []

    class Objects(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            received.append((self.headers["If-None-Match"], self.rfile.read(int(self.headers["Content-Length"]))))
            status = waiting.pop(0)
            body = f"<Error><Code>{codes[status]}</Code><Message/></Error>".encode() if status in codes else b""
            self.answer(status, body)

        def do_GET(self) -> None:
            received.append((None, b""))
            short = len(received) <= cut
            self.answer(200, holds[:-1] if short else holds, length=len(holds) if short else length)
            self.close_connection = True

        def answer(self, status: int, body: bytes, *, length: int | None = None) -> None:
            self.send_response(status)
            self.send_header("ETag", '"tag"')
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

    with served_by(Objects) as address:
        yield address, received


@contextmanager
def s3_that_refuses(status: int, code: str) -> Iterator[str]:
    """A server that answers reads with this error; its address."""

    class Refusal(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<Error><Code>{code}</Code><Message/></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with served_by(Refusal) as address:
        yield address


@contextmanager
def s3_below_a_prefix(objects: Mapping[str, bytes]) -> Iterator[str]:
    """A server with these objects, to someone who may not list all of its bucket, and hence is refused what is missing.

    So AWS says that S3 answers under ``infra/s3/policy.json``.
    """

    class Objects(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            if "list-type=2" in asked.query:
                self.answer(200, self.listing(parse_qs(asked.query)["prefix"][0]))
                return
            content = objects.get(asked.path.removeprefix("/bucket/"))
            if content is None:
                self.answer(403, b"<Error><Code>AccessDenied</Code><Message/></Error>")
            else:
                self.answer(200, content)

        def listing(self, prefix: str) -> bytes:
            names = [name for name in sorted(objects) if name.startswith(prefix)]
            when = "<LastModified>2026-01-01T00:00:00Z</LastModified>"
            found = "".join(
                f"<Contents><Key>{name}</Key><Size>1</Size><ETag>e</ETag>{when}</Contents>" for name in names
            )
            return f"<ListBucketResult><KeyCount>{len(names)}</KeyCount>{found}</ListBucketResult>".encode()

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    with served_by(Objects) as address:
        yield address


def done_at(address: str, call: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call the storage of a server's bucket, as `run_at`."""
    return run_at(address, f"from tasks.storage import Storage; print(Storage('s3://bucket').{call})", **environment)


def run_at(address: str, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Have an S3 server asked, in a process of its own: a file system keeps the server that it first had."""
    # Without those of a server that other tests of this process have started.
    others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**others, "AWS_ENDPOINT_URL": address, **(environment or CREDENTIALS)},
        capture_output=True,
        text=True,
    )
