"""The Prefect server that ``PREFECT_API_URL`` names: whether one answers there, before a command relies on it."""

import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException

from flows.api_address import NoPrefectApiError, check_api_address

START_SECONDS = 10.0
"""Seconds that a server may take to start; at a wrong address waiting is in vain."""
NO_CREDENTIALS = {401, 403}
"""Answers of a server that wants credentials: Prefect's client sends them, the question asked here does not."""
ASK_FOR_API = "does the address end in /api?"


@dataclass(frozen=True)
class _Problem:
    reason: str
    lasting: bool = True


def wait_for_named_server(address: str, timeout: float = START_SECONDS) -> None:
    """Wait until the Prefect API at an address answers.

    Raises
    ------
    WrongApiAddressError
        As :func:`flows.api_address.check_api_address`.
    NoPrefectApiError
        If it does not within ``timeout`` seconds, or something else answers there.
    """
    check_api_address(address)
    deadline = time.monotonic() + timeout
    while problem := _problem(address):
        if problem.lasting or time.monotonic() > deadline:
            raise NoPrefectApiError(
                f"no Prefect API answers at {address}: {problem.reason} Correct PREFECT_API_URL, or unset it: "
                "`ssdnet inspect` and `ssdnet evaluate` then start their own"
            )
        time.sleep(0.2)


def _problem(address: str) -> _Problem | None:
    """Return why there is no Prefect API at an address, None if there is."""
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=5) as answer:
            # Prefect's server answers with its UI where nothing else is.
            page = answer.headers.get_content_type() == "text/html"
            return _Problem(f"a page is there: {ASK_FOR_API}") if page else None
    except urllib.error.HTTPError as error:
        if error.code in NO_CREDENTIALS:
            return None
        if error.code >= 500:
            return _Problem(f"{error.code} {error.reason}.", lasting=False)
        return _Problem(f"{error.code} {error.reason}: {ASK_FOR_API}")
    except OSError as error:
        return _Problem(f"{getattr(error, 'reason', error)}.", lasting=False)
    except (ValueError, HTTPException) as error:
        return _Problem(f"{type(error).__name__} {error}.")
