"""Addresses of folders and prefixes: ``/data/night``, ``file:///data/night``, ``s3://bucket/prefix``."""

import os
import re
from pathlib import Path

from ssdnet_core.errors import UsageError
from tasks.storage_answers import StorageError

PROTOCOLS = ("file", "s3")


class AddressError(StorageError, UsageError):
    """An address is none that could be read."""


def check_address(url: str) -> None:
    """Refuse an address that could not be read, or that may hold credentials.

    Raises
    ------
    AddressError
        With the reason, and what to give instead.
    """
    if not url.strip():
        # As a path it would be the folder that the process happens to run in.
        raise AddressError("an address is empty: give a folder or s3://bucket/prefix")
    if re.match(r"(s3|file):/?(?!/)", url):
        # As a path it would be a folder of that name, here.
        raise AddressError(f"{url!r} lacks a slash: give s3://bucket/prefix or file:///folder, or ./{url} for a folder")
    if re.match(r"file://[^/~]", url):
        # Its first folder would be a machine's name by the rules, and a folder here as a path.
        path = url.removeprefix("file://")
        raise AddressError(f"{url!r} lacks a slash: give file:///{path}, or ./{path} for a folder here")
    protocol = url.split("://", 1)[0] if "://" in url else "file"
    if protocol != "file" and _may_hold_credentials(url.split("://", 1)[1].split("/", 1)[0]):
        # Not repeated: messages are logged.
        raise AddressError(
            "the bucket of an address has a : or an @ in its name: give s3://bucket/prefix, and credentials as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or by AWS_PROFILE"
        )
    if protocol not in PROTOCOLS:
        raise AddressError(f"{url!r}: cannot read {protocol}://, use a local path or s3://bucket/prefix")
    if protocol != "file" and url.split("://", 1)[1][:1] in ("", "/"):
        # The batch would become a bucket, perhaps one that is there.
        raise AddressError(f"{url!r} names no bucket: give s3://bucket/prefix (is a variable in it empty?)")
    if not is_utf8(url):
        raise AddressError(f"{url!r} is no UTF-8, and cannot be stored: rename the folder, or link to it")
    try:
        path_of(url)
    except RuntimeError as error:
        raise AddressError(
            f"{url!r}: there is no home of such an account here: correct its name, or give the whole path of a folder "
            "whose name begins with ~"
        ) from error


def is_utf8(name: str) -> bool:
    """Whether a name can be stored: that of a file may hold bytes that are no text."""
    return name.encode(errors="ignore").decode() == name


def is_local(url: str) -> bool:
    """Whether an address is that of a folder of this machine."""
    return "://" not in url or url.startswith("file://")


def path_of(url: str) -> str:
    """Return an address without its protocol and trailing slash; absolute."""
    path = url.split("://", 1)[-1]
    return os.path.abspath(Path(path).expanduser()) if is_local(url) else path.rstrip("/")  # noqa: PTH100 - links stay


def real_address(address: str) -> str:
    """Return the address of a storage with a local path's links followed."""
    # Not by Path.resolve, which fails at a link that leads to itself; reading or writing there tells of that.
    return os.path.realpath(address) if is_local(address) else address


def lies_in(address: str, folder: str) -> bool:
    """Whether the address of a storage is that of a folder or prefix, or lies below it, by whatever links."""
    inner, outer = (real_address(one).rstrip("/") + "/" for one in (address, folder))
    return inner.startswith(outer)


def _may_hold_credentials(bucket: str) -> bool:
    # A secret key may hold a slash, so that no @ is seen. An access point's name has colons, and begins so.
    return "@" in bucket or (":" in bucket and not bucket.startswith("arn:"))
