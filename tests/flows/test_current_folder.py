"""What lies in the current folder is no module of the command, nor of any process that it starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import QUICK, ROOT
from tests.tasks.small_images import write_image

NAMES = ("calendar", "inspect", "queue", "random", "tasks")
SCRIPT = "import sys; del sys.path[0]; from flows.__main__ import main; main()"
"""As the installed ``ssdnet``: the folder that Python looks in first is the script's."""
EXECUTED = "import os, pathlib; (pathlib.Path(__file__).parent / 'executed').touch(); raise ImportError(__name__)\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", [["-c", SCRIPT], ["-m", "flows"]], ids=["ssdnet", "python -m flows"])
def test_a_command_executes_nothing_that_lies_in_the_current_folder(tmp_path: Path, command: list[str]):
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(EXECUTED)
    for number in range(2):
        write_image(tmp_path / "images" / f"{number}.png", size=(64, 64))
    # One of the command's own, with its Prefect server and its worker: none of the tests'.
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    finished = subprocess.run(
        [sys.executable, *command, "inspect", "images", "--results", "results", "--workers", "1", *QUICK],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not (tmp_path / "executed").exists()
    assert finished.returncode == 0, finished.stderr


def test_a_checkout_that_is_not_installed_still_finds_its_own_modules(tmp_path: Path):
    (tmp_path / "flows").symlink_to(ROOT / "flows")
    code = (
        "import os, sys; sys.path.insert(0, ''); from flows.current_folder import keep_out_of_imports\n"
        "keep_out_of_imports(); print(sys.path[0] == '', 'PYTHONSAFEPATH' in os.environ)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert finished.stdout.split() == ["True", "False"]
