"""The Prefect server that ``PREFECT_API_URL`` names: whether one answers there, before a command relies on it."""

import os
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException

import certifi

from flows.api_address import NoPrefectApiError, WrongApiAddressError, check_api_address

START_SECONDS = 10.0
"""Seconds that a server may take to start; at a wrong address waiting is in vain."""
NO_CREDENTIALS = {401, 403}
"""Answers of a server that wants credentials: Prefect's client sends them, the question asked here does not."""
ASK_FOR_API = "does the address end in /api?"
ASK_FOR_AUTHORITY = "does PREFECT_API_SSL_CERT_FILE name its authority?"
AUTHORITY = ("PREFECT_API_SSL_CERT_FILE", "SSL_CERT_FILE")
"""Variables that name the authority of a server's certificate; Prefect's client heeds the first that is set."""
YES = {"1", "true", "yes", "on", "t", "y"}
"""What Prefect takes for a yes."""


@dataclass(frozen=True)
class _Problem:
    reason: str
    lasting: bool = True


def wait_for_named_server(address: str, timeout: float = START_SECONDS) -> None:
    """Wait until the Prefect API at an address answers.

    Raises
    ------
    WrongApiAddressError
        As :func:`flows.api_address.check_api_address`, or if the authority of its certificate cannot be read.
    NoPrefectApiError
        If it does not within ``timeout`` seconds, or something else answers there.
    """
    check_api_address(address)
    context = trusted(address)
    deadline = time.monotonic() + timeout
    while problem := _problem(address, context):
        if problem.lasting or time.monotonic() > deadline:
            raise NoPrefectApiError(
                f"no Prefect API answers at {address}: {problem.reason} Correct PREFECT_API_URL, or unset it: "
                "`ssdnet inspect` and `ssdnet evaluate` then start their own"
            )
        time.sleep(0.2)


def _problem(address: str, context: ssl.SSLContext | None) -> _Problem | None:
    """Return why there is no Prefect API at an address, None if there is."""
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=5, context=context) as answer:
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
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            return _Problem(f"{reason.verify_message}: {ASK_FOR_AUTHORITY}")
        return _Problem(f"{reason}.", lasting=False)
    except (ValueError, HTTPException) as error:
        return _Problem(f"{type(error).__name__} {error}.")


def trusted(address: str) -> ssl.SSLContext | None:
    """Return whom Prefect's client will trust at an address: the authorities of a file, or else those of certifi.

    Raises
    ------
    WrongApiAddressError
        If that file cannot be read.
    """
    if not address.startswith("https:"):
        return None
    name = next((name for name in AUTHORITY if os.environ.get(name)), None)
    try:
        context = ssl.create_default_context(cafile=os.environ[name] if name else certifi.where())
    except OSError as error:
        named = f"{name} is {os.environ[name]!r}" if name else certifi.where()
        raise WrongApiAddressError(f"{named}: {error}: name a file of PEM certificates, or unset it") from error
    if os.environ.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "").lower() in YES:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
