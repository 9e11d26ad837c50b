"""The pages that lead to the galleries: what a folder of results has for a browser, as links."""

import html
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from infra.gallery_keys import check_inside, folder_key, page_key
from tasks.batch import GALLERY, MANIFEST, TRENDS
from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError

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
        check_inside(results, key)
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
    return whole_page(folder.address, f"{back}{''.join(sections) or _nothing(folder)}")


def whole_page(heading: str, body: str) -> str:
    """Return a page as the server makes them, of a heading in plain text and a body in HTML."""
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


def _section(title: str, links: list[tuple[str, str]]) -> str:
    items = "\n".join(f'<li><a href="/{quote(key)}">{html.escape(name)}</a></li>' for key, name in links)
    return f"<h2>{title}</h2>\n<ul>{items}</ul>\n" if links else ""


def _name(key: str) -> str:
    return key.removesuffix(f"/{GALLERY}").removeprefix(f"{TRENDS}/").removesuffix(".html").removesuffix("/")
