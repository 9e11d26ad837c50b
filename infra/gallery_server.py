"""The galleries of a results folder or bucket over HTTP: ``python -m infra.gallery_server RESULTS``.

A browser opens neither ``s3://`` nor, from a page of the Prefect UI, a file. Of the results only pages, pictures
and the tables of images are served, and nothing is ever changed.
"""

import argparse
import errno
import html
import mimetypes
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from ssdnet_core.errors import SsdnetError
from tasks.batch import GALLERY, IMAGE_TABLE, MANIFEST, TRENDS
from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError, StorageError

SUFFIXES = (".html", ".jpg", ".png")
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
    served = parts and (parts[-1].endswith(SUFFIXES) or parts[-1] == IMAGE_TABLE)
    return "/".join(parts) if served and all(map(_is_plain, parts)) else None


def folder_key(path: str) -> str | None:
    """Return the key of the folder below the results that a URL's path names, the results' own empty; None if none.

    >>> folder_key("/plant-2/")
    'plant-2'
    """
    parts = unquote(path).split("/")[1:]
    return "/".join(parts[:-1]) if parts and not parts[-1] and all(map(_is_plain, parts[:-1])) else None


def _is_plain(part: str) -> bool:
    return bool(part) and not part.startswith(".") and part.isprintable() and "\\" not in part


def read_page(results: Storage, key: str) -> bytes:
    """Read a page or picture.

    Raises
    ------
    MissingObjectError
        If there is none, or it is a link that leads out of the results.
    """
    _check_inside(results, key)
    return results.read(key)


@dataclass(frozen=True)
class Contents:
    """What a folder of results has for a browser: keys below that folder, and names of folders in it."""

    trends: list[str]
    galleries: list[str]
    folders: list[str]


def contents(folder: Storage) -> Contents:
    """Return a folder's trends, and its galleries and folders that are no batches, the last by name first."""
    drawn = folder.below(TRENDS)
    trends = [f"{TRENDS}/{page.key}" for page in drawn.list("*.html")] if drawn.exists() else []
    names = [name for name in reversed(folder.folders()) if folder_key(f"/{quote(name)}/")] if folder.exists() else []
    with ThreadPoolExecutor(REQUESTS) as threads:
        kinds = list(threads.map(partial(_kind, folder), names))
    return Contents(
        trends=[key for key in trends if page_key(f"/{quote(key)}")],
        galleries=[f"{name}/{GALLERY}" for name, kind in zip(names, kinds, strict=True) if kind == GALLERY],
        folders=[name for name, kind in zip(names, kinds, strict=True) if not kind],
    )


def _kind(folder: Storage, name: str) -> str:
    """Return what marks a folder as that of trends or of a batch; empty if nothing does."""
    if name == TRENDS:
        return TRENDS
    return next((key for key in (GALLERY, MANIFEST) if folder.exists(f"{name}/{key}")), "")


def list_page(results: Storage, key: str = "") -> str:
    """Return the page that links to all that lies in the results, or in a folder of them.

    Raises
    ------
    MissingObjectError
        If there is no such folder, it leads out of the results, or it is part of a batch.
    """
    parts = key.split("/") if key else []
    if key:
        _check_inside(results, key)
        around = ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        if not results.exists(key) or any(results.exists(f"{folder}/{MANIFEST}") for folder in around):
            raise MissingObjectError(f"{key} is no folder of batches")
    folder = results.below(key) if key else results
    here = contents(folder)
    sections = [
        _section(title, [(f"{key}/{link}".lstrip("/"), _name(link)) for link in links])
        for title, links in (
            ("Trends", here.trends),
            ("Galleries", here.galleries),
            ("Folders", [f"{name}/" for name in here.folders]),
        )
    ]
    back = '<p><a href="../">One folder up</a></p>\n' if key else ""
    return _page(folder.address, f"{back}{''.join(sections) or _nothing(folder)}")


def _page(heading: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>SSDnet Inspect</title><style>{STYLE}</style>\n"
        f"<h1>SSDnet Inspect</h1><p>{html.escape(heading)}</p>\n{body}</html>\n"
    )


def _nothing(folder: Storage) -> str:
    missing = "" if folder.exists() else "There is no such folder yet: the first batch makes it. "
    return (
        f"<h2>No gallery yet</h2>\n<p>{missing}A batch has its gallery once all of its images are done. If there are "
        f"finished batches elsewhere, start this server with their address.</p>\n"
    )


def _check_inside(results: Storage, key: str) -> None:
    # Not by Path.resolve(), which fails at a link that leads to itself.
    asked, root = (Path(os.path.realpath(path)) for path in (results.path(key), results.root))
    if results.is_local and not asked.is_relative_to(root):
        raise MissingObjectError(f"{key} leads out of {results.address}")


def _section(title: str, links: list[tuple[str, str]]) -> str:
    items = "\n".join(f'<li><a href="/{quote(key)}">{html.escape(name)}</a></li>' for key, name in links)
    return f"<h2>{title}</h2>\n<ul>{items}</ul>\n" if links else ""


def _name(key: str) -> str:
    return key.removesuffix(f"/{GALLERY}").removeprefix(f"{TRENDS}/").removesuffix(".html").removesuffix("/")


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")  # As of "//[": it names nobody and nothing.


ERROR_PAGE = _page("", '<h2>%(message)s</h2>\n<p>%(explain)s</p>\n<p><a href="/">All galleries</a></p>\n')
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
