"""Certificates as users make them."""

import os
import subprocess
from pathlib import Path

from tests.conftest import ROOT


def make_certificates(folder: Path, *names: str, days: int = 1) -> Path:
    """Make an authority, or keep the one that is there, and certificates of the scheduler by further names."""
    script = ROOT / "infra" / "tls" / "make_certificates.sh"
    environment = {**os.environ, "SSDNET_CERTIFICATE_DAYS": str(days)}
    subprocess.run([script, folder, *names], check=True, capture_output=True, env=environment)
    return folder
