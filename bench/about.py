"""What a benchmark's figures were taken on, and how they are printed."""

import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dask.system import CPU_COUNT

from ssdnet_core.errors import SsdnetError

PACKAGES = ("ssdnet-inspect", "torch", "numpy", "scipy", "scikit-learn", "dask", "prefect", "zarr")


@contextmanager
def mistakes_told() -> Iterator[None]:
    """End the command with a message at a mistake of the caller's, or where the memory does not do."""
    try:
        yield
    except (SsdnetError, MemoryError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


def about() -> dict[str, str]:
    """Return the command, the date, the machine and the versions."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{processor()}, {CPU_COUNT} cores",
        "versions": ", ".join(
            [
                f"Python {platform.python_version()}",
                *(f"{name} {found}" for name in PACKAGES if (found := _version(name))),
            ]
        ),
    }


def _version(package: str) -> str:
    # The method alone needs no Prefect, nor to be installed.
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with the first column to the left, figures to the right."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] + ["---:"] * (len(header) - 1), *rows))
