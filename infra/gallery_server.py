"""The galleries of a results folder or bucket over HTTP: ``python -m infra.gallery_server RESULTS``.

A browser opens neither ``s3://`` nor, from a page of the Prefect UI, a file. Of the results only pages, pictures
and the tables of images are served, and nothing is ever changed.
"""

import argparse
import errno
import mimetypes
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import SplitResult, urlsplit

from infra.gallery_keys import check_inside, folder_key, page_key
from infra.gallery_pages import list_page, whole_page
from ssdnet_core.errors import SsdnetError
from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError, StorageError

UTF_8 = ("text/html", "text/csv")
HEALTH = "/health"
"""Answers as long as the server does, whatever the storage does."""

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")

ERROR_PAGE = whole_page("", '<h2>%(message)s</h2>\n<p>%(explain)s</p>\n<p><a href="/">All galleries</a></p>\n')
NOT_THERE = (
    "There is no such page, picture or folder of batches. A batch has its gallery once all of its images are done; a "
    "batch or its gallery may have been removed since the link was made."
)
UNKNOWN_NAME = (
    "The server was asked by a name that is not its own. Ask for 127.0.0.1 or localhost, or start it with --allow-host "
    "and that name."
)
NAMES_NOTHING = (errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
"""What a file system says of a path that names no file, or no folder, and never will."""
NO_ANSWER = "The storage of the results does not answer, or refuses: the server's log says what it said."


class GalleryHandler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for pages, pictures and tables of images, and for a list of the pages at ``/``."""

    protocol_version = "HTTP/1.1"
    error_content_type = "text/html; charset=utf-8"
    error_message_format = ERROR_PAGE
    timeout = 60.0
    """Seconds: a browser keeps its connection open, and each takes a thread."""

    def __init__(self, *connection: object, results: Storage, hosts: tuple[str, ...]) -> None:
        self._results, self._hosts = results, hosts
        super().__init__(*connection)  # type: ignore[arg-type]

    def handle_one_request(self) -> None:
        """Answer a request, unless the browser hangs up meanwhile, which is nothing to tell of."""
        try:
            # Tells by itself of one that takes too long, and closes the connection.
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def do_GET(self) -> None:
        """Answer with a page, a picture or a table."""
        # DNS rebinding: a page elsewhere could give this machine's address a name of its own, and read the results.
        if self._hosts and _split(f"//{self.headers.get('Host', '')}").hostname not in self._hosts:
            self.send_error(HTTPStatus.FORBIDDEN, explain=UNKNOWN_NAME)
            return
        try:
            content, kind = self._content(_split(self.path).path)
        except StorageError as error:
            if isinstance(error, MissingObjectError) or getattr(error.__cause__, "errno", None) in NAMES_NOTHING:
                self.send_error(HTTPStatus.NOT_FOUND, explain=NOT_THERE)
                return
            self.log_error("%s", error)
            self.send_error(HTTPStatus.BAD_GATEWAY, explain=NO_ANSWER)
        else:
            # Out of the try: what fails from here on is the browser's, and half an answer may be on its way.
            self._answer(content, kind)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _content(self, path: str) -> tuple[bytes, str]:
        if path == HEALTH:
            return b"ok", "text/plain"
        folder = folder_key(path)
        if folder is not None:
            return list_page(self._results, folder).encode(), "text/html"
        key = page_key(path)
        if key is None:
            raise MissingObjectError(f"{path} is no page, picture or table of images")
        check_inside(self._results, key)
        return self._results.read(key), mimetypes.guess_type(key)[0] or "application/octet-stream"

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind in UTF_8 else kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")  # As of "//[": it names nobody and nothing.


def gallery_server(
    results: Storage, *, host: str = "127.0.0.1", port: int = 0, allowed: Sequence[str] = ()
) -> ThreadingHTTPServer:
    """Return a server of the galleries, bound but not yet serving.

    Parameters
    ----------
    host
        Address to listen on; on a loopback address only requests that name the server so are answered.
    port
        0 takes a free one.
    allowed
        Further names by which the server may be asked; on other addresses, without any, it answers to all.
    """
    names = (*(LOOPBACK_NAMES if host in LOOPBACK_NAMES else ()), *(name.lower() for name in allowed))
    handler = partial(GalleryHandler, results=results, hosts=names)
    return ThreadingHTTPServer((host, port), handler)


def main() -> None:
    """Serve the galleries until Ctrl-C; a mistake of the caller's ends it with a message."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", help="folder or s3://bucket/prefix that holds the batches")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; there is no authentication")
    parser.add_argument("--port", type=int, default=8790)
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name by which browsers may ask, without a port; repeatable; off loopback, by default any",
    )
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        try:
            results = Storage(options.results)
            server = gallery_server(results, host=options.host, port=options.port, allowed=options.allow_host)
        except SsdnetError as error:
            sys.exit(f"gallery_server: {error}")
        except (OSError, OverflowError) as error:
            sys.exit(f"gallery_server: cannot listen on {options.host}, port {options.port}: {error}")
        with server:
            address, port = server.server_address[:2]
            sys.stderr.write(f"serving the galleries in {results.address} at http://{address!s}:{port}\n")
            server.serve_forever()


if __name__ == "__main__":
    main()
