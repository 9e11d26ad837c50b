"""Objects of a bucket: listed also for those who may list only part of it, and read whole, together with their ETag."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fsspec.asyn import sync
from s3fs.core import S3_RETRYABLE_ERRORS

from tasks.storage_answers import EXISTS, despite_conflicts, error_code

RETRY_PAUSES = (0.1, 0.5, 2.0)
"""Seconds before an answer that was cut short is asked for again; what is refused is retried by s3fs itself."""


@dataclass(frozen=True)
class S3Objects:
    """What a storage asks of S3, by ``bucket/key`` and over an ``s3fs.S3FileSystem``, whose errors it gets."""

    filesystem: Any

    def listed(self, root: str, *, depth: int | None) -> Iterator[tuple[str, int, str]]:
        """Give key, size and ETag of each object below a root, at any depth; folders' marks are none."""
        try:
            # All below the root whatever the depth: with one, s3fs leaves out the folders that it cannot list.
            found = self.filesystem.find(root, detail=True)
        except PermissionError:
            # S3 denies those who may list only part access to what is missing, too: where nothing is listed, s3fs asks
            # for an object of that name.
            if self.exists(root):
                raise
            return
        for path, told in found.items():
            key = path[len(root) + 1 :]
            # Consoles mark a folder by an object of its name and a slash.
            if key and not key.endswith("/") and told["type"] == "file":
                yield key, int(told["size"]), str(told["ETag"]).strip('"')

    def folders(self, root: str) -> Iterator[str]:
        """Give the names of the folders directly below a root."""
        for entry in self.filesystem.ls(root, detail=True):
            if entry["type"] == "directory":
                yield entry["name"].rstrip("/").rsplit("/", 1)[-1]

    def exists(self, path: str) -> bool:
        """Whether there is such an object, or anything below it."""
        # An access point's name has slashes, too.
        bucket, key, _ = self.filesystem.split_path(path)
        if key:
            try:
                return bool(self.filesystem.exists(path))
            except PermissionError:
                return _is_listed(self.filesystem, bucket, key=key)
        # Asked for a bucket, s3fs takes every failure for its absence.
        try:
            self.filesystem.ls(path)
        except FileNotFoundError:
            return False
        return True

    def read_with_etag(self, path: str) -> tuple[bytes, str]:
        """Return an object's content and its ETag, of one answer: s3fs needs a second request to ask for it."""
        content, etag = sync(self.filesystem.loop, _read, self.filesystem, path)
        return content, etag

    def write(self, path: str, content: bytes) -> None:
        """Write an object, whole or not at all."""
        self.filesystem.pipe_file(path, content)

    def create(self, path: str, content: bytes) -> None:
        """Write an object, or raise a FileExistsError if there is one."""
        try:
            despite_conflicts(lambda: self.filesystem.pipe_file(path, content, mode="create"))
        except OSError as error:
            # moto's refusal reaches us as a FileExistsError, radosgw's as an OSError without a word.
            if error_code(error) in EXISTS:
                raise FileExistsError(path) from error
            raise


def _is_listed(filesystem: Any, bucket: str, *, key: str) -> bool:
    # Between an object and what lies below its name others may come, as `a.png` between `a` and `a/b`.
    for prefix in (key, f"{key}/"):
        listed = filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
        if any(found["Key"] == key or found["Key"].startswith(f"{key}/") for found in listed.get("Contents", [])):
            return True
    return False


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
