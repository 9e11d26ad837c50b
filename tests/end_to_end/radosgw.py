"""Ceph's radosgw, which checks credentials and policies as a real store does, where its packages are installed."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT, end, free_port, wait_for

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool")


@contextmanager
def radosgw(folder: Path) -> Iterator[dict[str, str]]:
    """Run infra/s3/radosgw.sh; gives its administrator's environment."""
    if missing := [program for program in PROGRAMS if not shutil.which(program)]:
        reason = f"no {', '.join(missing)}: apt-get install --no-install-recommends ceph-mon ceph-osd radosgw"
        if os.environ.get("SSDNET_REQUIRE_CEPH"):
            pytest.fail(reason)
        pytest.skip(reason)
    ready = folder / "ready"
    with (folder.parent / "radosgw.log").open("w") as log:
        script = [ROOT / "infra" / "s3" / "radosgw.sh", folder, str(free_port())]
        server = subprocess.Popen(script, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for(lambda: ready.exists() or server.poll() is not None, what="radosgw", timeout=300)
            assert ready.exists(), (folder.parent / "radosgw.log").read_text()
            yield dict(line.split("=", 1) for line in ready.read_text().splitlines())
        finally:
            end(server)


def create_user(folder: Path, name: str, *, key: str, secret: str) -> None:
    """Create a user of the server that runs in a folder."""
    command = ["radosgw-admin", "user", "create", "--uid", name, "--display-name", name]
    subprocess.run(
        [*command, "--access-key", key, "--secret", secret],
        env={**os.environ, "CEPH_CONF": str(folder / "ceph.conf")},
        check=True,
        capture_output=True,
    )
