"""The Prefect API that a command works through: whether it is there, and a client whose failures say what to do."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_CLIENT_MAX_RETRIES,
    get_current_settings,
    temporary_settings,
)

from flows.api_address import NoPrefectApiError, check_api_address, check_named_address
from flows.embedded import has_own_server
from flows.named_server import ASK_FOR_API, ASK_FOR_AUTHORITY, trusted
from ssdnet_core.errors import UsageError

Row = TypeVar("Row")

PAGE_SIZE = 200
"""Most that the server returns at once."""
PROBE_SECONDS = 20.0
"""How long a server may take to say that it is there; Prefect's client would ask six times, for a minute each."""
UNAVAILABLE = {401, 403, 407, 429, 500, 502, 503, 504}
"""Statuses with which the server, or a proxy before it, refuses whatever it is asked."""
ASK_FOR_SERVER = "is it started, and PREFECT_API_URL right?"
UNKNOWN_PROXY = (ImportError, ValueError, httpx.InvalidURL)
"""What httpx raises: at SOCKS without the package for it, at another scheme, at what is no address."""


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
        As :func:`flows.api_address.check_api_address` and :func:`flows.named_server.trusted`.
    NoPrefectApiError
        If there is none, or something else is at its address.
    """
    # Of the environment first: at some that are none, Prefect's settings cannot be had.
    check_named_address()
    address = get_current_settings().api.url
    if not address:
        raise NoPrefectApiError(
            f"{purpose} a Prefect server is needed, and PREFECT_API_URL names none: start one with `ssdnet up` and "
            "source its environment.sh, or set PREFECT_API_URL, as http://127.0.0.1:4200/api"
        )
    check_api_address(address)
    trusted(address)
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


@contextmanager
def server() -> Iterator[SyncPrefectClient]:
    """Give a client of the Prefect API.

    Raises
    ------
    NoPrefectApiError
        If it does not answer, or refuses whatever it is asked.
    """
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in UNAVAILABLE:
            raise
        raise NoPrefectApiError(
            f"the Prefect API at {get_current_settings().api.url} answers {error.response.status_code} "
            f"{error.response.reason_phrase}: {_to_ask(error.response.status_code)}"
        ) from error
    except (httpx.TransportError, RuntimeError) as error:
        # A client that cannot reach the server at its first request says so with a RuntimeError.
        if isinstance(error, RuntimeError) and not isinstance(error.__cause__, httpx.TransportError):
            raise
        reason = str(error.__cause__ or error)
        asked = ASK_FOR_AUTHORITY if "CERTIFICATE_VERIFY_FAILED" in reason else ASK_FOR_SERVER
        raise NoPrefectApiError(
            f"the Prefect API at {get_current_settings().api.url} does not answer: {reason}: {asked}"
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
