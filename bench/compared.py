"""Runs over the same labelled images: what they are run on, kept in a file to be gone on with, and compared."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from about import about
from dask.system import CPU_COUNT
from labelled import Finding, accuracy

from ssdnet_core.errors import SsdnetError

Run = dict[str, Any]
"""What :func:`about` tells of a run, its ``settings``, and the figures of its ``images``."""


class DamagedRunsError(SsdnetError):
    """The file of earlier runs cannot be read."""


def image_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which images are taken, where the results go, and by how many workers."""
    parser.add_argument("data", type=Path, help="folder of categories in MVTec-AD layout")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--every", type=whole_number, default=1, help="take every n-th image of each kind of defect of a category"
    )
    parser.add_argument("--categories", type=names, default=(), help="only these, as carpet,tile")
    parser.add_argument("--workers", type=whole_number, default=CPU_COUNT, help="processes; by default one a core")


def whole_number(text: str) -> int:
    """Read a number of at least 1; argparse tells of another."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def names(text: str) -> tuple[str, ...]:
    """Read names with commas between them."""
    return tuple(name for name in text.split(",") if name)


def chosen(wanted: Sequence[str], known: Iterable[str], *, parser: argparse.ArgumentParser) -> list[str]:
    """Return which of the known names are wanted, in their order: each by itself, or by a part that only it has."""
    found = set()
    for text in wanted:
        named = [name for name in known if name == text] or [name for name in known if text.lower() in name.lower()]
        if len(named) != 1:
            parser.error(
                f"{text!r} is {'a part of several' if named else 'none'}: choose of {', '.join(named or known)}"
            )
        found.update(named)
    return [name for name in known if name in found]


def made_or_kept(
    path: Path, settings: Mapping[str, str], *, only: Iterable[str], make: Callable[[str], list[Finding]]
) -> dict[str, Run]:
    """Make the runs that a file has not for these settings, and return those that it then has for them, in their order.

    Parameters
    ----------
    settings
        By the names of all runs there may be: the texts of :func:`labelled.stamp`.
    only
        The names of those that are made if they are not there.
    make
        Makes the run of a name.
    """
    runs = _kept_runs(path)
    for name in only:
        if runs.get(name, {}).get("settings") != settings[name]:
            runs[name] = {**about(), "settings": settings[name], "images": [asdict(one) for one in make(name)]}
            _keep_runs(path, runs)
    return {name: runs[name] for name, wanted in settings.items() if runs.get(name, {}).get("settings") == wanted}


def findings_of(run: Run) -> list[Finding]:
    """Return the figures of a run's images."""
    return [Finding(**image) for image in run["images"]]


def cells(found: Sequence[Finding], base: Sequence[Finding] | None) -> tuple[str, str]:
    """Return AUROC and average precision as a cell of a table, and the difference to another run's; empty if none."""
    change = "" if base is None else "{:+.4f} / {:+.4f}".format(*difference(found, base))
    return "{:.4f} / {:.4f}".format(*accuracy(found)), change


def difference(found: Sequence[Finding], base: Sequence[Finding]) -> tuple[float, float]:
    """Return by how much AUROC and average precision differ, over the images that both have."""
    common = {one.key for one in found} & {one.key for one in base}
    here, there = (accuracy([one for one in each if one.key in common]) for each in (found, base))
    return here[0] - there[0], here[1] - there[1]


def _kept_runs(path: Path) -> dict[str, Run]:
    """Return the runs in a file, by name; none if there is no file."""
    try:
        return json.loads(path.read_text())["runs"]
    except FileNotFoundError:
        return {}
    except (ValueError, LookupError, TypeError) as error:
        raise DamagedRunsError(f"{path} holds no runs ({error!r}): delete it, and all are run again") from error


def _keep_runs(path: Path, runs: dict[str, Run]) -> None:
    """Write runs, whole or not at all."""
    written = path.with_suffix(".partial")
    written.write_text(json.dumps({"runs": runs}, indent=1) + "\n")
    written.replace(path)
