"""Where and with what a benchmark ran: stands in every result file."""

import os
import platform
import shlex
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tasks.cluster import available_cores

PACKAGES = ("ssdnet-inspect", "torch", "numpy", "distributed", "prefect", "zarr", "s3fs")


def about(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return command, date, machine and versions. The load is of the last minute: above 1 others were at work, too."""
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)]
    return {
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{processor()}, {available_cores()} cores, load {os.getloadavg()[0]:.1f} at the start",
        "versions": ", ".join(versions),
    }


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
