"""Reading an object of a bucket together with its ETag: by one request, where s3fs needs a second to ask for it."""

import asyncio
from typing import Any

from fsspec.asyn import sync
from s3fs.core import S3_RETRYABLE_ERRORS

RETRY_PAUSES = (0.1, 0.5, 2.0)
"""Seconds before an answer that was cut short is asked for again; what is refused is retried by s3fs itself."""


def read_object(filesystem: Any, path: str) -> tuple[bytes, str]:
    """Return an object's content and its ETag, both of one answer.

    Parameters
    ----------
    filesystem
        An ``s3fs.S3FileSystem``.
    path
        Bucket and key.
    """
    content, etag = sync(filesystem.loop, _read, filesystem, path)
    return content, etag


async def _read(filesystem: Any, path: str) -> tuple[bytes, str]:
    for pause in RETRY_PAUSES:
        try:
            return await _read_once(filesystem, path)
        except S3_RETRYABLE_ERRORS:
            await asyncio.sleep(pause)
    return await _read_once(filesystem, path)


async def _read_once(filesystem: Any, path: str) -> tuple[bytes, str]:
    bucket, key, _ = filesystem.split_path(path)
    answer = await filesystem._call_s3("get_object", Bucket=bucket, Key=key)
    try:
        return await answer["Body"].read(), str(answer["ETag"]).strip('"')
    finally:
        answer["Body"].close()
