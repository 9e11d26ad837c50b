"""What folders and object stores answer when they refuse, in the words of who has to act on it."""

import errno
import os
import time
from collections.abc import Callable

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError

from ssdnet_core.errors import SsdnetError

# A connection or credentials that are missing reach us as botocore's own errors, an answer that was cut short as
# aiohttp's, all else as those of files.
FAILURES = (OSError, ValueError, BotoCoreError, aiohttp.ClientError)
UNANSWERED = (BotoCoreError, aiohttp.ClientError, TimeoutError, ConnectionError)

# Error codes of S3, and what botocore has instead where an answer has no body.
EXISTS = ("PreconditionFailed", "412")
IN_CONFLICT = ("ConditionalRequestConflict", "409")
BEYOND_THE_END = ("InvalidRange", "416")

ADVICE = {
    **dict.fromkeys(IN_CONFLICT, ("others were writing it at each try", "run again")),
    **dict.fromkeys(
        ("SlowDown", "ServiceUnavailable", "503"),
        ("the store takes no more requests now", "run again later, with fewer workers where it stays so"),
    ),
    # s3fs makes a PermissionError of each of these.
    "InvalidObjectState": ("it lies in an archive", "have the store restore it first"),
    "ExpiredToken": (
        "the session's credentials have expired",
        "renew AWS_SESSION_TOKEN and its keys, and start the workers again with them",
    ),
    "RequestTimeTooSkewed": ("the clock of the machine that asks is off", "set it"),
}
"""What an error code means where it says more than that access is refused, and what to do about it."""

OF_THE_SYSTEM = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "this account has no right to: change the rights, or the account"),
    errno.ENOTDIR: "a part of this path is a file, where a folder is needed",
    errno.EISDIR: "it is a folder, where a file is needed",
    errno.ENAMETOOLONG: "a name in it is too long for the file system: give a shorter one",
    errno.ELOOP: "a link in it leads back to itself: remove it",
    errno.EROFS: "it is mounted to be read only: give a folder that can be written to",
    errno.ENOSPC: "the disk is full: make room, and run again",
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE), "too many files are open: raise the limit (ulimit -n), and run again"
    ),
    errno.EDQUOT: "the quota on this disk is used up: make room, and run again",
}
"""What the system's error numbers mean of a file, and what to do about it."""

CONFLICT_PAUSES = (0.1, 0.3, 1.0)
"""Seconds before a conditional write that met another one is tried again, as S3 asks for."""


class StorageError(SsdnetError, OSError):
    """An object could not be listed, read or written."""


class MissingObjectError(StorageError):
    """There is no such object."""


class NoAnswerError(StorageError):
    """The store could not be asked, or did not answer: other objects would fail alike."""


def storage_error(what: str, error: Exception) -> StorageError:
    """Return the error of what could not be done, as ``cannot read s3://bucket/image.png``, with the reason."""
    kind = StorageError
    if isinstance(error, FileNotFoundError):
        kind = MissingObjectError
    elif isinstance(error, UNANSWERED):
        kind = NoAnswerError
    # The path that failed may lie below, as in a listing. When a file
    # cannot be moved into place, `filename2` is that place.
    path = getattr(error, "filename2", None) or getattr(error, "filename", None)
    below = f"{path}: " if isinstance(path, str) and path not in what and kind is not MissingObjectError else ""
    return kind(f"{what}: {below}{reason_of(error)}")


def reason_of(error: Exception) -> str:
    """Return why a request failed and, if it is known, what to do about it."""
    if isinstance(error, FileNotFoundError):
        # A listing shows such a name escaped, and there is none of the escaped name.
        if r"\x" in str(error.filename):
            return "its name is not UTF-8: rename it"
        return "there is no such file, folder or bucket"
    if isinstance(error, NoCredentialsError):
        return "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if isinstance(error, EndpointConnectionError):
        return f"{error}: check AWS_ENDPOINT_URL"
    if str(error).startswith("Invalid endpoint"):
        # botocore's word for an address that lacks its scheme.
        variable = "AWS_ENDPOINT_URL_S3" if os.environ.get("AWS_ENDPOINT_URL_S3") else "AWS_ENDPOINT_URL"
        return f"{error}: give {variable} with http:// or https://, as http://host:9000"
    answer, code = _answer(error), error_code(error)
    if code in ADVICE:
        meaning, advice = ADVICE[code]
        return f"{meaning} ({code}): {advice}"
    if isinstance(error, PermissionError) and code:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS"
        return (
            f"{endpoint} refuses access ({code}): check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, that "
            "AWS_ENDPOINT_URL is theirs, and what their policy allows"
        )
    if isinstance(error, OSError) and not code and error.errno is not None:
        # Its own text repeats the path, after a number.
        return OF_THE_SYSTEM.get(error.errno) or error.strerror or str(error)
    return answer.get("Message") or code or str(error) or type(error).__name__


def error_code(error: Exception) -> str:
    """Return the store's own code of a failure, as ``NoSuchBucket``; empty if it has none."""
    return _answer(error).get("Code", "")


def _answer(error: Exception) -> dict[str, str]:
    # The cause of the file error that s3fs makes of it, whose own text may be empty.
    return error.__cause__.response.get("Error", {}) if isinstance(error.__cause__, ClientError) else {}


def despite_conflicts(write: Callable[[], object]) -> None:
    """Make a conditional write, and again if it meets another one under way; the last time's failure is raised."""
    for pause in CONFLICT_PAUSES:
        try:
            write()
        except OSError as error:
            if error_code(error) not in IN_CONFLICT:
                raise
            time.sleep(pause)
        else:
            return
    write()
