"""What is stored as JSON: dataclasses, whose types are checked when they are read.

Another version, or a hand, may have written what is read: if a file does not fit its dataclass, the error names the
first fields that are wrong, and what is wrong with them.
"""

import json
import math
import reprlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ssdnet_core.errors import SsdnetError
from tasks.storage_answers import StorageError

Value = TypeVar("Value")

MOST_PROBLEMS_TOLD = 3

BEGINNING = 60
"""Bytes of a page that are told."""

PAGE_BEGINNINGS = (b"<!doctype html", b"<html")

NO_JSON = "json_invalid"
"""As pydantic calls it."""

PLAINLY = {
    "missing": "is missing",
    "unexpected_keyword_argument": "is no field that this version knows",
}
"""Plain words for some of pydantic's errors, by their type; the others are told with the value."""

_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


class StoredJsonError(SsdnetError, ValueError):
    """What is stored is no JSON, or not what it should hold."""


class NoJsonError(StoredJsonError):
    """What is stored is no JSON at all: it was cut off, or emptied."""


class PageError(StorageError):
    """In place of what is stored came a web page, as a proxy gives it: that says nothing of what is stored."""


def to_json(value: object, *, indent: int | None = None) -> bytes:
    """Serialise a dataclass: in one piece or, indented, for people as well. NaN stays NaN."""
    text = json.dumps(_adapter(type(value)).dump_python(value, mode="json"), indent=indent)
    return (text if indent is None else f"{text}\n").encode()


def from_json(kind: type[Value], content: bytes, *, others: bool = False) -> Value:
    """Read what :func:`to_json` wrote.

    Parameters
    ----------
    kind
        What it is: a dataclass, or a type as ``dict[str, str]``.
    others
        Whether there may be fields that the dataclass does not have; they are left alone.

    Raises
    ------
    StoredJsonError
        Naming the fields that are missing, unknown or of another type; nothing is converted. A NoJsonError if it is
        no JSON.
    PageError
        If it is a web page.
    """
    if content[:BEGINNING].lstrip().lower().startswith(PAGE_BEGINNINGS):
        begins = content[:BEGINNING].decode(errors="replace").strip()
        raise PageError(
            f"a web page came in place of what is stored of a batch, beginning with {begins!r}: something between "
            "answers for the store, as a proxy or a network's login page. The results may be whole: leave them where "
            "they are, check AWS_ENDPOINT_URL and the network, and run again"
        )
    try:
        return _adapter(kind).validate_json(content, strict=True, extra="ignore" if others else "forbid")
    except ValidationError as error:
        no_json = any(problem["type"] == NO_JSON for problem in error.errors())
        raise (NoJsonError if no_json else StoredJsonError)("; ".join(_problems(error))) from error


def null_for_nan(tree: Any) -> Any:
    """Return plain data with None in place of NaN, which the JSON of other programs does not have; lists for tuples."""
    if isinstance(tree, dict):
        return {name: null_for_nan(part) for name, part in tree.items()}
    if isinstance(tree, list | tuple):
        return [null_for_nan(part) for part in tree]
    return None if isinstance(tree, float) and math.isnan(tree) else tree


def _problems(error: ValidationError) -> Iterator[str]:
    problems: list[Any] = list(error.errors(include_url=False))
    for problem in problems[:MOST_PROBLEMS_TOLD]:
        path = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == NO_JSON:
            yield problem["msg"]
        elif problem["type"] in PLAINLY:
            yield f"{path} {PLAINLY[problem['type']]}"
        else:
            yield f"{path or 'the file'} = {reprlib.repr(problem['input'])}: {problem['msg']}"
    if len(problems) > MOST_PROBLEMS_TOLD:
        yield f"and {len(problems) - MOST_PROBLEMS_TOLD} more"
