"""Wrong settings, told so that they can be mended: name, value, and what is allowed."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from pydantic import ValidationError

PLAINLY = {
    "tuple_type": "several values are wanted, as [8, 16]",
    "model_type": "this is a group of settings, and none itself",
    # The device is the only one with a pattern.
    "string_pattern_mismatch": "choose auto, cpu, mps or cuda, or outside the pipeline cuda:1",
}
"""Plain words for some of pydantic's errors, by their type: its own are about Python's types and patterns."""


def no_such_setting(path: str, known: Sequence[str]) -> str:
    """Return what is wrong with the name of a setting, with the nearest of those there are."""
    leaves = [name.rpartition(".")[2] for name in known]
    near = get_close_matches(path, known, n=1) or [
        known[leaves.index(leaf)] for leaf in get_close_matches(path.rpartition(".")[2], leaves, n=1)
    ]
    guess = f" (did you mean {near[0]}?)" if near else ""
    return f"there is no setting {path!r}{guess}: one of {', '.join(known)}"


def wrong_values(error: ValidationError, known: Sequence[str]) -> str:
    """Return all that is wrong with settings, in one line.

    Parameters
    ----------
    error
        As pydantic raised it.
    known
        Dotted paths of all settings.
    """
    return "; ".join(_problems(error, known))


def _problems(error: ValidationError, known: Sequence[str]) -> Iterator[str]:
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"]) or "config"
        if problem["type"] == "extra_forbidden" and path in known:
            group, _, name = path.rpartition(".")
            yield f"{path}: in a file it is written nested, as {group}: {{{name}: {problem['input']}}}"
        elif problem["type"] == "extra_forbidden":
            yield no_such_setting(path, known)
        else:
            words = re.sub(r"0\.0{9,}1", lambda bound: f"{float(bound[0]):g}", problem["msg"])
            yield f"{path} = {problem['input']!r}: {PLAINLY.get(problem['type'], words)}"
