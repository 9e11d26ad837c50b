import os
import shlex
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "flows"]


def run(command: list[str], *, closed: str, **options) -> subprocess.CompletedProcess[str]:
    """With streams closed as a shell does it, as "2>&-"; subprocess itself can only lead them elsewhere."""
    return subprocess.run(["sh", "-c", f"exec {closed}; exec {shlex.join(command)}"], text=True, **options)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing_about_how_a_command_ends(closed, tmp_path):
    assert run([*COMMAND, "settings"], closed=closed, stdout=subprocess.DEVNULL).returncode == 0
    assert run([*COMMAND, "settings", "--preset", "none"], closed=closed, stderr=subprocess.DEVNULL).returncode == 2
    assert run([*COMMAND, "sample", str(tmp_path), "--images", "2"], closed=closed).returncode == 0
    assert len(list(tmp_path.rglob("test/*/*.png"))) == 2


def test_no_file_takes_the_place_of_a_closed_stream_in_this_process_or_in_those_it_starts(tmp_path):
    code = (
        "import os, subprocess, sys; from flows.interpreter import open_closed_streams; open_closed_streams(); "
        "print('lost', file=sys.stderr, flush=True); "
        f"file = open({str(tmp_path / 'file')!r}, 'w'); "
        "subprocess.run([sys.executable, '-c', 'import os; os.write(2, b\"lost\")'], check=True); "
        "print(file.fileno() > 2, *map(os.get_inheritable, range(3)))"
    )
    finished = run([sys.executable, "-c", code], closed="<&- 2>&-", stdout=subprocess.PIPE, check=True)
    assert finished.stdout == "True True True True\n"
    assert (tmp_path / "file").read_text() == ""


def test_in_a_locale_without_utf8_a_files_name_is_read_as_utf8_and_the_terminal_keeps_its_encoding(tmp_path):
    (tmp_path / "Prüfung 中.png").write_bytes(b"")
    code = (
        "import sys; from flows.interpreter import read_names_as_utf8; read_names_as_utf8(); "
        "from tasks.local_files import walk_files; "
        "print([(ascii(key), status is not None) for key, status in walk_files(sys.argv[1])], sys.stdout.encoding)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env={**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert finished.stdout == f"{[(ascii('Prüfung 中.png'), True)]} ascii\n"
