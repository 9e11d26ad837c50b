"""The Prefect API that a command works through: whether it is there, and a client whose failures say what to do."""

import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_CLIENT_MAX_RETRIES,
    get_current_settings,
    temporary_settings,
)

from flows.api_address import NoPrefectApiError, WrongApiAddressError, check_api_address, check_named_address
from flows.embedded import has_own_server
from ssdnet_core.errors import UsageError

Row = TypeVar("Row")

PAGE_SIZE = 200
"""Most that the server returns at once."""
PROBE_SECONDS = 20.0
"""How long a server may take to say that it is there; Prefect's client would ask six times, for a minute each."""
UNAVAILABLE = {401, 403, 407, 429, 500, 502, 503, 504}
"""Statuses with which the server, or a proxy before it, refuses whatever it is asked."""
START_SECONDS = 10.0
"""Seconds that a server may take to start; at a wrong address waiting is in vain."""
ASK_FOR_API = "does the address end in /api?"
ASK_FOR_AUTHORITY = "does PREFECT_API_SSL_CERT_FILE name its authority?"
ASK_FOR_SERVER = "is it started, and PREFECT_API_URL right?"
UNKNOWN_PROXY = (ImportError, ValueError, httpx.InvalidURL)
"""What httpx raises: at SOCKS without the package for it, at another scheme, at what is no address."""


class UnansweredError(NoPrefectApiError):
    """Nothing answers as a server does that is up: it may be starting."""


class ProxyError(UsageError):
    """A variable names a proxy that Prefect's client cannot go through."""


def check_proxies() -> None:
    """Refuse proxies of the environment at which Prefect's client would fail, whether it went through them or not.

    Raises
    ------
    ProxyError
        Naming the variable.
    """
    try:
        httpx.Client().close()
    except UNKNOWN_PROXY as error:
        proxies = [f"{scheme}_proxy" for scheme in ("http", "https", "all")]
        named = [name for name in os.environ if name.lower() in proxies and _is_unknown(os.environ[name])]
        names = " and ".join(named or [name for name in os.environ if name.lower() == "no_proxy"])
        raise ProxyError(
            f"Prefect's client cannot use what {names} says ({error}): give proxies as http://host:port, or unset it"
        ) from error


def wait_for_api(*, purpose: str, timeout: float = START_SECONDS) -> None:
    """Do as :func:`check_api`, for a command that starts a server of its own where none is named.

    Parameters
    ----------
    purpose
        As for :func:`check_api`.
    timeout
        For how many seconds a server is waited for that may be starting.

    Raises
    ------
    ProxyError, WrongApiAddressError, NoPrefectApiError
        As :func:`check_api`.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return check_api(purpose=purpose)
        except WrongApiAddressError:
            raise
        except NoPrefectApiError as error:
            if not isinstance(error, UnansweredError) or time.monotonic() >= deadline:
                raise NoPrefectApiError(
                    f"{error} Or unset PREFECT_API_URL: `ssdnet inspect` and `ssdnet evaluate` then start their own "
                    "server"
                ) from error
        time.sleep(0.2)


def check_api(*, purpose: str) -> None:
    """Make sure that there is a Prefect API, and that it answers.

    Parameters
    ----------
    purpose
        What it is needed for, as "to register the automations".

    Raises
    ------
    ProxyError
        As :func:`check_proxies`.
    WrongApiAddressError
        As :func:`flows.api_address.check_api_address`, or if the authority of its certificate cannot be read.
    NoPrefectApiError
        If there is none, or something else is at its address.
    """
    # The environment's first: some wrong ones keep Prefect from reading its settings.
    check_named_address()
    address = get_current_settings().api.url
    if not address:
        raise NoPrefectApiError(
            f"{purpose} a Prefect server is needed, and PREFECT_API_URL names none: start one with `ssdnet up` and "
            "source its environment.sh, or set PREFECT_API_URL, as http://127.0.0.1:4200/api"
        )
    check_api_address(address)
    _check_authority(address)
    check_proxies()
    once = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: PROBE_SECONDS}
    with temporary_settings(once), server() as client:
        try:
            answer = client.hello().raise_for_status()
            problem = "answers with a page" if "text/html" in answer.headers.get("content-type", "") else ""
        except httpx.HTTPStatusError as error:
            if error.response.status_code in UNAVAILABLE:
                raise
            problem = f"answers {error.response.status_code} {error.response.reason_phrase}"
    if problem:
        raise NoPrefectApiError(f"what PREFECT_API_URL names, {address}, {problem}: {ASK_FOR_API}")


def _check_authority(address: str) -> None:
    # Prefect's client would fail at a file that it cannot read, and not name the variable.
    authority = PREFECT_API_SSL_CERT_FILE.value()
    if not authority or not address.startswith("https:"):
        return
    try:
        ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise WrongApiAddressError(
            f"the authority of the server's certificate, {authority!r}, cannot be read: {error}: name a file of PEM "
            "certificates in PREFECT_API_SSL_CERT_FILE, or unset it, and SSL_CERT_FILE"
        ) from error


@contextmanager
def server() -> Iterator[SyncPrefectClient]:
    """Give a client of the Prefect API.

    Raises
    ------
    NoPrefectApiError
        If it does not answer, or refuses whatever it is asked; of these an UnansweredError, if it may be starting.
    """
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in UNAVAILABLE:
            raise
        kind = UnansweredError if error.response.status_code >= 500 else NoPrefectApiError
        raise kind(
            f"the Prefect API at {get_current_settings().api.url} answers {error.response.status_code} "
            f"{error.response.reason_phrase}: {_to_ask(error.response.status_code)}"
        ) from error
    except (httpx.TransportError, RuntimeError) as error:
        # A client that cannot reach the server at its first request says so with a RuntimeError.
        if isinstance(error, RuntimeError) and not isinstance(error.__cause__, httpx.TransportError):
            raise
        failure = error.__cause__ if isinstance(error, RuntimeError) else error
        reason = str(error.__cause__ or error)
        untrusted = "CERTIFICATE_VERIFY_FAILED" in reason
        starting = isinstance(failure, httpx.NetworkError | httpx.TimeoutException) and not untrusted
        raise (UnansweredError if starting else NoPrefectApiError)(
            f"the Prefect API at {get_current_settings().api.url} does not answer: {reason}: "
            f"{ASK_FOR_AUTHORITY if untrusted else ASK_FOR_SERVER}"
        ) from error


def _to_ask(status: int) -> str:
    if status < 500:
        return "is it behind a proxy, or does it want PREFECT_API_AUTH_STRING or PREFECT_API_KEY?"
    if has_own_server():
        return f"does the folder of its database, {os.environ['PREFECT_HOME']}, take no more?"
    return "is the disk of its database full, or is it behind a proxy? Its log says more"


def paged(read: Callable[[int], list[Row]]) -> list[Row]:
    """Return all rows of what is read `PAGE_SIZE` at a time, from an offset on."""
    rows: list[Row] = []
    while len(page := read(len(rows))) == PAGE_SIZE:
        rows += page
    return rows + page


def _is_unknown(proxy: str) -> bool:
    try:
        httpx.Client(proxy=proxy if "://" in proxy else f"http://{proxy}", trust_env=False).close()
    except UNKNOWN_PROXY:
        return True
    return False
