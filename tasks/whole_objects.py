"""Reading an object of a bucket together with its ETag: by one request, where s3fs needs a second to ask for it."""

import time
from typing import Any

from fsspec.asyn import sync
from s3fs.core import S3_RETRYABLE_ERRORS

PAUSES = (0.1, 0.5, 2.0)
"""Seconds before an answer that was cut short is asked for again; what is refused, s3fs has asked for again itself."""


def read_object(filesystem: Any, path: str) -> tuple[bytes, str]:
    """Return an object's content and its ETag, both of one answer.

    Parameters
    ----------
    filesystem
        An ``s3fs.S3FileSystem``.
    path
        Bucket and key.
    """
    for pause in PAUSES:
        try:
            return _read(filesystem, path)
        except S3_RETRYABLE_ERRORS:
            time.sleep(pause)
    return _read(filesystem, path)


def _read(filesystem: Any, path: str) -> tuple[bytes, str]:
    bucket, key, _ = filesystem.split_path(path)
    answer = filesystem.call_s3("get_object", Bucket=bucket, Key=key)
    try:
        return sync(filesystem.loop, answer["Body"].read), str(answer["ETag"]).strip('"')
    finally:
        answer["Body"].close()
