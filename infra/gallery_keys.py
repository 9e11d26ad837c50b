"""Which keys of the results browsers are given: pages, pictures, tables of images and folders, and nothing outside."""

import os
from pathlib import Path
from urllib.parse import unquote

from tasks.batch import IMAGE_TABLE
from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError

SUFFIXES = (".html", ".jpg", ".png")


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


def check_inside(results: Storage, key: str) -> None:
    """Refuse a key that lies below the results by its name only.

    Raises
    ------
    MissingObjectError
        If it is a link that leads out of the results.
    """
    # Not by Path.resolve(), which fails at a link that leads to itself.
    asked, root = (Path(os.path.realpath(path)) for path in (results.path(key), results.root))
    if results.is_local and not asked.is_relative_to(root):
        raise MissingObjectError(f"{key} leads out of {results.address}")


def _is_plain(part: str) -> bool:
    return bool(part) and not part.startswith(".") and part.isprintable() and "\\" not in part
