"""How much memory something takes beside what is there already, in a process of its own."""

import subprocess
import sys

from tests.conftest import ROOT

PEAK = """
import re
from pathlib import Path
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def peak_memory(statement: str, *, after: str) -> int:
    """Return by how many bytes a statement raises a process's peak, after others that make it ready."""
    code = f"{PEAK}\n{after}\nbefore = peak()\n{statement}\nprint(peak() - before)"
    asked = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(asked.stdout)
