"""Folders and object stores behind one interface: list, read, write whole objects, create only if absent.

Everything is addressed by fsspec URLs; ``s3://`` takes its endpoint and credentials from the environment, as the AWS
tools do (``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, ``AWS_ACCESS_KEY_ID``, ...).
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import fsspec
from fsspec.utils import glob_translate

from tasks.address import check_address, is_local, is_utf8, path_of
from tasks.local_files import LocalFiles
from tasks.s3_objects import S3Objects
from tasks.storage_answers import BEYOND_THE_END, FAILURES, MissingObjectError, StorageError, error_code, storage_error


@dataclass(frozen=True)
class StoredObject:
    r"""One object as a listing shows it.

    Attributes
    ----------
    key
        Path below the listed root, with ``/`` between its parts. A file's name that is not UTF-8 is listed with its
        bytes escaped, ``Pr\xfcfung.png``, and cannot be read.
    size
        In bytes.
    etag
        Changes whenever the content does: the store's ETag, or modification time and size of a file. Empty for what
        is listed but cannot be read, as a link that leads nowhere.
    """

    key: str
    size: int
    etag: str


@dataclass(frozen=True)
class Storage:
    """A folder or a prefix of a bucket; cheap to make, pickles as its address.

    Attributes
    ----------
    url
        ``/data/night``, ``file:///data/night`` or ``s3://bucket/prefix``.
    """

    url: str

    def __post_init__(self) -> None:
        check_address(self.url)

    def __getstate__(self) -> dict[str, str]:
        # Not as given: a relative path means another folder in another process.
        return {"url": self.address}

    @cached_property
    def filesystem(self) -> Any:
        """The fsspec file system; its connections belong to this process."""
        return fsspec.filesystem("file" if self.is_local else "s3", **self.options)

    @property
    def options(self) -> dict[str, Any]:
        """The file system's options, for libraries that make their own from the address."""
        # Listings are never cached: a night's prefix grows while we look at it. Objects are read in one piece: to cut
        # them, s3fs asks for the size of each first.
        return {} if self.is_local else {"use_listings_cache": False, "max_concurrency": 1}

    @property
    def is_local(self) -> bool:
        """Whether this is a folder of this machine."""
        return is_local(self.url)

    @cached_property
    def _objects(self) -> LocalFiles | S3Objects:
        # Asked where fsspec will not do; the rest it does alike for files and for a bucket's objects.
        return LocalFiles() if self.is_local else S3Objects(self.filesystem)

    @cached_property
    def root(self) -> str:
        """The URL without its protocol and trailing slash; absolute."""
        return path_of(self.url)

    @property
    def address(self) -> str:
        """The URL in the form that every library takes: an absolute path, or ``s3://...``."""
        return self.root if self.is_local else f"s3://{self.root}"

    @property
    def name(self) -> str:
        """The last part of the address: the name of a batch's folder is that of the batch."""
        return PurePosixPath(self.root).name

    def path(self, key: str) -> str:
        """Return the full path of a key."""
        return f"{self.root.rstrip('/')}/{key}" if key else self.root

    def below(self, key: str) -> "Storage":
        """Return the storage of a folder or prefix below this one."""
        return Storage(f"{self.address.rstrip('/')}/{key}")

    def list(self, pattern: str = "") -> list[StoredObject]:
        """List the objects below the root, sorted by key: all, or those that match a glob.

        Raises
        ------
        StorageError
            If the folder or bucket does not exist or cannot be listed.
        """
        with self._as_storage_error("list"):
            wanted = re.compile(glob_translate(pattern or "**"))
            listed = self._objects.listed(self.root, depth=_depth(pattern))
            found = [StoredObject(key, size=size, etag=etag) for key, size, etag in listed if wanted.match(key)]
            if not found and not self.exists():
                raise FileNotFoundError(self.root)
        return sorted(found, key=lambda entry: entry.key)

    def folders(self) -> tuple[str, ...]:
        """Return the names of the folders directly below the root, sorted; what lies in them is not listed.

        A name that is not UTF-8 is left out: there is no address of it.

        Raises
        ------
        StorageError
            If the folder or bucket does not exist or cannot be listed.
        """
        with self._as_storage_error("list"):
            return tuple(sorted(filter(is_utf8, self._objects.folders(self.root))))

    def exists(self, key: str = "") -> bool:
        """Whether there is such an object, or anything below it.

        Raises
        ------
        StorageError
            If the store does not answer, or will not tell.
        """
        with self._as_storage_error("look for", key):
            return self._objects.exists(self.path(key))

    def modified(self, key: str) -> float:
        """Return when an object was last written, in seconds since the epoch.

        Raises
        ------
        StorageError
            If there is no such object, or the store does not tell.
        """
        with self._as_storage_error("look for", key):
            return float(self.filesystem.modified(self.path(key)).timestamp())

    def read(self, key: str) -> bytes:
        """Read an object.

        Raises
        ------
        StorageError
            If there is no such object, or it cannot be read.
        """
        with self._as_storage_error("read", key):
            return bytes(self.filesystem.cat_file(self.path(key)))

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        """Read an object, and return with it the ETag that a listing shows of what was read.

        Raises
        ------
        StorageError
            If there is no such object, or it cannot be read.
        """
        with self._as_storage_error("read", key):
            return self._objects.read_with_etag(self.path(key))

    def read_many(self, keys: Iterable[str], *, end: int | None = None) -> dict[str, bytes | StorageError]:
        """Read many objects, or their first ``end`` bytes, side by side; what failed comes back as its error."""
        paths = {self.path(key): key for key in keys}
        if not paths:
            return {}
        with self._as_storage_error("read from"):
            contents = self.filesystem.cat_ranges(list(paths), [0] * len(paths), [end] * len(paths), on_error="return")
        return {
            key: _read_error(key, content) if isinstance(content, Exception) else content
            for key, content in zip(paths.values(), contents, strict=True)
        }

    def holds_all(self, keys: Iterable[str]) -> bool:
        """Whether there are all these objects, and none is empty: after a power cut a file may be there, and empty.

        Raises
        ------
        StorageError
            If the store does not answer, or will not tell.
        """
        found = self.read_many(keys, end=1).values()
        for answer in found:
            if isinstance(answer, StorageError) and not isinstance(answer, MissingObjectError):
                raise answer
        return all(isinstance(answer, bytes) and answer for answer in found)

    def write(self, key: str, content: bytes) -> None:
        """Write an object, whole or not at all.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        with self._as_storage_error("write", key):
            self._objects.write(self.path(key), content)

    def create(self, key: str, content: bytes) -> bool:
        """Write an object only if there is none; return whether it was written.

        Of many who try at once, one succeeds: a hard link locally, ``If-None-Match`` on S3. An object of this very
        content counts as written: clients repeat a write whose answer was lost, and then meet their own object.

        Raises
        ------
        StorageError
            If it cannot be written or compared, or others who try were in the way each time.
        """
        with self._as_storage_error("write", key), suppress(FileExistsError):
            self._objects.create(self.path(key), content)
            return True
        return self.read(key) == content

    def delete(self, key: str) -> None:
        """Delete an object if it is there."""
        with suppress(MissingObjectError), self._as_storage_error("delete", key):
            self.filesystem.rm_file(self.path(key))

    @contextmanager
    def _as_storage_error(self, doing: str, key: str = "") -> Iterator[None]:
        """Turn any failure in the block into a `StorageError` that names the address, the reason and what to do."""
        try:
            yield
        except FAILURES as error:
            raise storage_error(f"cannot {doing} {self.below(key).address if key else self.address}", error) from error


def _depth(pattern: str) -> int | None:
    return pattern.count("/") + 1 if pattern and "**" not in pattern else None


def _read_error(key: str, error: Exception) -> bytes | StorageError:
    # An object's first bytes are beyond its end only if it has none.
    return b"" if error_code(error) in BEYOND_THE_END else storage_error(f"cannot read {key}", error)
