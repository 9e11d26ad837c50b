"""What a command prints is told as lost where it cannot be written, and what it did stays done."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "flows"]
FULL = Path("/dev/full")

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="no device here that is always full")


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("arguments", [["settings"], ["--help"]], ids=" ".join)
def test_output_that_cannot_be_written_is_one_line_and_status_1(arguments, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with FULL.open("w") as full:
        finished = subprocess.run([*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True)
    assert finished.returncode == 1
    assert finished.stderr.startswith("ssdnet: cannot write the output: No space left on device. ")
    assert finished.stderr.count("\n") == 1


def test_what_a_command_did_before_its_output_was_lost_is_kept(tmp_path):
    with FULL.open("w") as full:
        finished = subprocess.run([*COMMAND, "sample", str(tmp_path), "--images", "2"], stdout=full)
    assert finished.returncode == 1
    assert len(list(tmp_path.rglob("test/*/*.png"))) == 2


def test_messages_that_cannot_be_written_change_neither_status_nor_output():
    with FULL.open("w") as full:
        wrong = subprocess.run([*COMMAND, "settings", "--preset", "none"], stdout=subprocess.PIPE, stderr=full)
        right = subprocess.run([*COMMAND, "settings"], stdout=subprocess.PIPE, stderr=full)
    assert (wrong.returncode, wrong.stdout) == (2, b"")
    assert right.returncode == 0
    assert b"working_size" in right.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_line_is_told_when_it_is_said(unbuffered, monkeypatch):
    # Containers mostly set the variable, and are the ones whose log is watched.
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    told = (
        "import sys, os; from flows.output import watch_output; watch_output(); "
        r"sys.stderr.write('first\n'); os.write(2, b'second\n'); sys.stderr.write('third\n')"
    )
    finished = subprocess.run([sys.executable, "-c", told], stderr=subprocess.PIPE, text=True)
    assert finished.stderr == "first\nsecond\nthird\n"


def test_a_reader_that_has_seen_enough_is_no_error_to_tell_of():
    with subprocess.Popen([*COMMAND, "settings"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        command.stdout.close()
        assert command.stderr is not None
        assert command.stderr.read() == ""
    assert command.returncode == 1
