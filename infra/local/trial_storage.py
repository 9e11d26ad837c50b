"""The buckets of the S3 server for trying things: kept over a stop, and filled with a night to inspect.

The server keeps its objects in memory. A clean stop writes them to one archive, and the next start puts them back.
"""

import os
import zipfile
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import fsspec

from infra.local.errors import LocalStackError
from tasks.sample_night import write_line_night
from tasks.storage import Storage
from tasks.storage_answers import StorageError

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "ssdnet",
    "AWS_SECRET_ACCESS_KEY": "ssdnet-trial",
    "AWS_DEFAULT_REGION": "us-east-1",
}
"""The server takes any credentials; with these, it gets and logs none of the user's own."""

SAMPLE_IMAGES = 16
SEEDS_A_LINE = 10_000_000
"""Between the seeds of two lines, so that none of their nights are alike."""


def create_buckets(addresses: Iterable[str]) -> None:
    """Create the buckets of those addresses that name one, unless they exist."""
    filesystem = _filesystem()
    for storage in map(Storage, addresses):
        bucket = storage.root.split("/", 1)[0]
        if not storage.is_local and not filesystem.exists(bucket):
            filesystem.mkdir(bucket)


def save_buckets(archive: Path) -> None:
    """Write all buckets to an archive, which replaces an earlier one.

    Raises
    ------
    LocalStackError
        If it cannot be written; the earlier one is kept.
    """
    filesystem = _filesystem()
    partial = archive.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            with zipfile.ZipFile(file, "w") as target:
                for bucket in filesystem.ls("", detail=False):
                    storage = Storage(f"s3://{bucket}")
                    target.mkdir(bucket)
                    for stored in storage.list():
                        target.writestr(f"{bucket}/{stored.key}", storage.read(stored.key))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(archive)
    except StorageError:
        raise
    except OSError as error:
        raise LocalStackError(
            f"the buckets are lost, since {archive} cannot be written ({error.strerror}): the next start has those of "
            "the stop before, if there are any"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def restore_buckets(archive: Path) -> None:
    """Put the buckets of an archive back; without one, nothing happens.

    Raises
    ------
    LocalStackError
        If it is damaged.
    """
    if not archive.exists():
        return
    try:
        with zipfile.ZipFile(archive) as source:
            names = source.namelist()
            create_buckets(f"s3://{name}" for name in names if name.endswith("/") and name.count("/") == 1)
            for name in names:
                bucket, key = name.split("/", 1)
                if key:
                    Storage(f"s3://{bucket}").write(key, source.read(name))
    except zipfile.BadZipFile as error:
        raise LocalStackError(
            f"{archive}, the buckets as the last stop left them, is damaged ({error}): delete it to start with new ones"
        ) from error


def provide_nights(images: str, lines: Iterable[str], *, day: date) -> None:
    """Make a night of each line to inspect, unless there is one of that day; never in a folder, which is the user's."""
    if Storage(images).is_local:
        return
    for number, line in enumerate(lines):
        night = Storage(images).below(f"{line}/{day.isoformat()}")
        if not night.exists():
            write_line_night(night, images=SAMPLE_IMAGES, seed=number * SEEDS_A_LINE + day.toordinal())


def _filesystem() -> fsspec.AbstractFileSystem:
    return fsspec.filesystem("s3", use_listings_cache=False)
