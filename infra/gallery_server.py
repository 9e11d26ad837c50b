"""The galleries of a results folder or bucket over HTTP: ``python -m infra.gallery_server RESULTS``.

A browser opens neither ``s3://`` nor, from a page of the Prefect UI, a file. Of the results only pages, pictures
and the tables of images are served, and nothing is ever changed.
"""

import argparse
import html
import mimetypes
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import compress
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from ssdnet_core.errors import SsdnetError
from tasks.batch import IMAGE_TABLE
from tasks.report import PAGE
from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError, StorageError
from tasks.trends import TRENDS

SUFFIXES = (".html", ".jpg", ".png", ".svg")
UTF_8 = ("text/html", "text/csv")
HEALTH = "/health"
"""Answers as long as the server does, whatever the storage does."""

STYLE = """
  body { max-width: 1240px; margin: 0 auto; padding: 0 24px 40px; background: #f6f7f8; color: #1c2126;
         font: 15px/1.5 system-ui, sans-serif; color-scheme: light; }
  h1 { font-size: 26px; margin: 28px 0 0; }
  h2 { font-size: 16px; margin: 24px 0 8px; }
  p { color: #66707a; margin: 2px 0 18px; }
  ul { list-style: none; margin: 0; padding: 0; display: grid; gap: 8px;
       grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); }
  a { display: block; padding: 10px 14px; border: 1px solid #dde2e6; border-radius: 10px; background: #fff;
      color: #0b57d0; text-decoration: none; overflow-wrap: anywhere; }
  a:hover { border-color: #0b57d0; }
"""
"""The front page's, as that of galleries and trends."""

REQUESTS = 16
"""Batches asked for their gallery side by side."""
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")


def page_key(path: str) -> str | None:
    """Return the key of the page, picture or table of images that a URL's path names; None if it names anything else.

    >>> page_key("/line-1-2026-11-22/report/index.html")
    'line-1-2026-11-22/report/index.html'
    """
    parts = unquote(path).split("/")[1:]
    plain = all(part and not part.startswith(".") and part.isprintable() and "\\" not in part for part in parts)
    return "/".join(parts) if parts and plain and (parts[-1].endswith(SUFFIXES) or parts[-1] == IMAGE_TABLE) else None


def read_page(results: Storage, key: str) -> bytes:
    """Read what :func:`page_key` names.

    Raises
    ------
    MissingObjectError
        If there is none, or it is a link that leads out of the results.
    """
    if results.is_local and not Path(results.path(key)).resolve().is_relative_to(Path(results.root).resolve()):
        raise MissingObjectError(f"{key} leads out of {results.address}")
    return results.read(key)


def pages(results: Storage) -> list[str]:
    """Return the keys of the pages to begin with: trends, then galleries, the last by name first."""
    drawn = results.below(TRENDS)
    trends = [f"{TRENDS}/{page.key}" for page in drawn.list("*.html")] if drawn.exists() else []
    batches = reversed(results.folders()) if results.exists() else ()
    candidates = [f"{name}/{PAGE}" for name in batches]
    with ThreadPoolExecutor(REQUESTS) as threads:
        there = list(threads.map(results.exists, candidates))
    return [key for key in (*trends, *compress(candidates, there)) if page_key(f"/{quote(key)}")]


def front_page(results: Storage) -> str:
    """Return the page that links to all others."""
    there = pages(results)
    trends = [key for key in there if key.startswith(f"{TRENDS}/")]
    galleries = [key for key in there if key not in trends]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>SSDnet Inspect</title><style>{STYLE}</style>\n"
        f"<h1>SSDnet Inspect</h1><p>{html.escape(results.address)}</p>\n"
        f"{_section('Trends', trends)}{_section('Galleries', galleries)}"
        f"{'' if there else '<p>None yet.</p>'}</html>\n"
    )


def _section(title: str, keys: list[str]) -> str:
    links = "\n".join(f'<li><a href="/{quote(key)}">{html.escape(_name(key))}</a></li>' for key in keys)
    return f"<h2>{title}</h2>\n<ul>{links}</ul>\n" if keys else ""


def _name(key: str) -> str:
    return key.removesuffix(f"/{PAGE}").removeprefix(f"{TRENDS}/").removesuffix(".html")


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")  # As of "//[": it names nobody and nothing.


class GalleryHandler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for pages, pictures and tables of images, and for a list of the pages at ``/``."""

    protocol_version = "HTTP/1.1"
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
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        try:
            content, kind = self._content(_split(self.path).path)
        except MissingObjectError:
            self.send_error(HTTPStatus.NOT_FOUND)
        except StorageError as error:
            self.log_error("%s", error)
            self.send_error(HTTPStatus.BAD_GATEWAY, explain="The storage of the results does not answer.")
        else:
            # Out of the try: what fails from here on is the browser's, and half an answer may be on its way.
            self._answer(content, kind)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _content(self, path: str) -> tuple[bytes, str]:
        if path == HEALTH:
            return b"ok", "text/plain"
        if path == "/":
            return front_page(self._results).encode(), "text/html"
        key = page_key(path)
        if key is None:
            raise MissingObjectError(f"{path} is no page, picture or table of images")
        return read_page(self._results, key), mimetypes.guess_type(key)[0] or "application/octet-stream"

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind in UTF_8 else kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


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
