"""Prefect's settings, which it reads as it is imported: a wrong one is told, in place of a traceback."""

import io
import sys
from contextlib import redirect_stderr

from ssdnet_core.errors import UsageError


class WrongPrefectSettingsError(UsageError):
    """Prefect refuses its settings."""


def check_prefect_settings() -> None:
    """Import Prefect.

    Raises
    ------
    WrongPrefectSettingsError
        If a variable or a file of Prefect's has a setting that it refuses.
    """
    said = io.StringIO()
    try:
        # It would print the same error, and go on.
        with redirect_stderr(said):
            from prefect.settings import get_current_settings

            get_current_settings()
    except ValueError as error:
        raise WrongPrefectSettingsError(
            f"Prefect refuses its settings: {_reason(error)}. Correct what PREFECT_* variables, the profiles.toml in "
            "PREFECT_HOME (or else ~/.prefect), or a prefect.toml or .env in this folder say"
        ) from error
    sys.stderr.write(said.getvalue())


def _reason(error: ValueError) -> str:
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    # Not the values: some are secrets.
    return "; ".join(": ".join([*map(str, one["loc"]), one["msg"]]) for one in error.errors())
