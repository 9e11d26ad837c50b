"""How a command ends: with its exit status, and if it fails with the reason in place of a traceback."""

import sys
from collections.abc import Callable
from enum import IntEnum
from typing import NoReturn, TypeVar

import typer

from flows.current_folder import has_current_folder
from ssdnet_core.errors import SsdnetError, UsageError

Result = TypeVar("Result")


class ExitCode(IntEnum):
    """What a command's exit status says."""

    SEALED = 0
    ERROR = 1
    USAGE = 2
    SEALED_WITH_FAILURES = 3


def exit_on_error(work: Callable[[], Result]) -> Result:
    """Return the result of a command's work; on an error print its message and exit with its status."""
    try:
        return work()
    except UsageError as error:
        _fail(str(error), ExitCode.USAGE)
    except SsdnetError as error:
        _fail(str(error), ExitCode.ERROR)
    except FileNotFoundError:
        if has_current_folder():
            raise
        _fail(
            "the current folder was removed: change to one that is there and run again. What is done is kept.",
            ExitCode.ERROR,
        )
    except (MemoryError, RuntimeError) as error:
        # Only this message tells of a limit on threads, of the account or a container.
        if isinstance(error, RuntimeError) and str(error) != "can't start new thread":
            raise
        _fail(
            f"there is no more memory, or no more threads ({error or 'out of memory'}): raise the limits of account or "
            "container and run the same command again. What is done is kept.",
            ExitCode.ERROR,
        )
    except KeyboardInterrupt:
        _fail("stopped. What is done is kept: run the same command again to go on.", ExitCode.ERROR)


def _fail(message: str, code: ExitCode) -> NoReturn:
    sys.stderr.write(f"ssdnet: {message}\n")
    raise typer.Exit(code)
