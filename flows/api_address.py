"""The address in ``PREFECT_API_URL``: whether it can be that of a Prefect API, before Prefect is imported."""

import os
import re
from urllib.parse import urlsplit

from ssdnet_core.errors import SsdnetError, UsageError


class NoPrefectApiError(SsdnetError, OSError):
    """There is no Prefect server, or it does not answer."""


class WrongApiAddressError(NoPrefectApiError, UsageError):
    """The address cannot be a server's."""


def check_named_address() -> None:
    """Refuse what the environment names if it can be no address of a Prefect API.

    Raises
    ------
    WrongApiAddressError
        As :func:`check_api_address`.
    """
    if named := os.environ.get("PREFECT_API_URL"):
        check_api_address(named)


def check_api_address(address: str) -> None:
    """Refuse what can be no address of a Prefect API.

    Raises
    ------
    WrongApiAddressError
        If it is no address, as http://host:4200/api is, or holds credentials.
    """
    problem = _problem(address)
    if not problem:
        return
    # What stands before an @ may be a password: messages are logged.
    shown = repr(re.sub(".*@", "...@", address, flags=re.DOTALL))
    if os.environ.get("PREFECT_API_URL") == address:
        origin, otherwise = "", "or unset it: `ssdnet inspect` and `ssdnet evaluate` then start their own server"
    else:
        origin, otherwise = " in Prefect's profile, prefect.toml or .env", "there or in the environment"
    raise WrongApiAddressError(
        f"PREFECT_API_URL is {shown}{origin}, {problem}: give it as http://host:4200/api, {otherwise}"
    )


def _problem(address: str) -> str:
    """Return why it can be no address, else an empty text."""
    if not address.isprintable() or " " in address:
        return "with a blank or another character that no address has"
    if "@" in address:
        return "with credentials, which belong in PREFECT_API_AUTH_STRING as user:password"
    try:
        parts = urlsplit(address)
        port, host = parts.port, parts.hostname or ""
        # As it is looked up; the codec refuses parts that are empty or longer than 63 characters.
        host.encode("idna")
    except UnicodeError:
        return "whose host can be no name"
    except ValueError as error:
        return f"which is no address ({error})"
    if parts.scheme not in {"http", "https"}:
        return "which does not begin with http:// or https://"
    if not host:
        return "which names no host"
    if port == 0:
        return "whose port nothing listens on"
    if parts.query or parts.fragment:
        return "which does not end with the API's path"
    return ""
