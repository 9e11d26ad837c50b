from pathlib import Path

import pytest
import typer

from flows.backfill_plan import BackfillError
from flows.exit_status import ExitCode, exit_on_error
from ssdnet_core.errors import InvalidConfigError
from tasks.address import AddressError
from tasks.batch import BatchConflictError
from tasks.discovery import NothingToInspectError
from tasks.found_masks import MasksError
from tasks.storage import Storage
from tasks.storage_answers import StorageError


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidConfigError("fit.steps: too few"), ExitCode.USAGE),
        (NothingToInspectError("no image in /night"), ExitCode.USAGE),
        (BatchConflictError("batch name 'a/b'"), ExitCode.USAGE),
        (AddressError("an address is empty"), ExitCode.USAGE),
        (MasksError("none of the 3 images has a mask"), ExitCode.USAGE),
        (BackfillError("the last day is before the first"), ExitCode.USAGE),
        (StorageError("cannot list /night"), ExitCode.ERROR),
    ],
)
def test_an_error_that_was_foreseen_is_one_line_and_its_status(capsys, error, status):
    def work():
        raise error

    with pytest.raises(typer.Exit) as ended:
        exit_on_error(work)
    assert ended.value.exit_code == status
    assert capsys.readouterr().err == f"ssdnet: {error}\n"


def test_a_command_that_is_stopped_says_that_it_can_go_on(capsys):
    def work():
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as ended:
        exit_on_error(work)
    assert ended.value.exit_code == ExitCode.ERROR
    assert "run the same command again" in capsys.readouterr().err


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")], ids=repr)
def test_a_limit_of_the_system_is_told_and_any_other_error_is_not_taken_for_one(capsys, error):
    def work(raised):
        raise raised

    with pytest.raises(typer.Exit) as ended:
        exit_on_error(lambda: work(error))
    assert ended.value.exit_code == ExitCode.ERROR
    assert "raise the limits of account or container" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="something else"):
        exit_on_error(lambda: work(RuntimeError("something else")))


def test_a_current_folder_that_was_removed_is_told_and_another_file_that_is_missing_is_not(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        exit_on_error(lambda: Path("missing").read_bytes())
    (tmp_path / "gone").rmdir()
    with pytest.raises(typer.Exit) as ended:
        exit_on_error(lambda: Storage("images"))
    assert ended.value.exit_code == ExitCode.ERROR
    assert "the current folder was removed: change to one that is there" in capsys.readouterr().err


def test_an_error_that_nobody_thought_of_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_on_error(lambda: 1 / 0)


def test_what_comes_of_the_work_is_returned():
    assert exit_on_error(lambda: "sealed") == "sealed"
