"""What object stores promise and folders do not: complete listings, and objects that are whole or not there."""

import errno
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

WITHOUT_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems without hard links answer, as vfat and exFAT, which memory cards have."""


class LocalFiles:
    """What a storage asks of a folder's files, by their paths; it gets the system's errors."""

    def listed(self, root: str, *, depth: int | None) -> Iterator[tuple[str, int, str]]:
        """Give key, size and ETag of each file below a folder, as :func:`walk_files`."""
        for key, status in walk_files(root, depth=depth):
            # What cannot be read is listed as well, so that it can be reported.
            yield (key, status.st_size, file_etag(status)) if status else (key, 0, "")

    def folders(self, root: str) -> Iterator[str]:
        """Give the names of the folders directly below a folder."""
        # Not by fsspec, to which a link to a folder is none.
        return (path.name for path in Path(root).iterdir() if path.is_dir())

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        # Not by fsspec, to which what it may not look at is not there.
        try:
            Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def read_with_etag(self, path: str) -> tuple[bytes, str]:
        """Return a file's content and its ETag."""
        with open_regular(path) as file:
            content = file.read()
            # If the file was written to meanwhile, this is not the ETag that was listed.
            return content, file_etag(os.fstat(file.fileno()))

    def write(self, path: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        written = write_beside(path, content)
        try:
            written.replace(path)
        except OSError:
            written.unlink()
            raise

    def create(self, path: str, content: bytes) -> None:
        """Write a file, whole, or raise a FileExistsError if there is one."""
        written = write_beside(path, content)
        try:
            os.link(written, path)
        except OSError as error:
            if error.errno in WITHOUT_LINKS:
                raise OSError(
                    "its file system has no hard links, without which two runs could hold one batch: keep results "
                    "elsewhere"
                ) from error
            raise
        finally:
            written.unlink()


def file_etag(status: os.stat_result) -> str:
    """Return what stands for a file's ETag: it changes when the file is written, by modification time and size."""
    return f"{status.st_mtime:.6f}-{status.st_size}"


def walk_files(root: str, *, depth: int | None = None) -> Iterator[tuple[str, os.stat_result | None]]:
    r"""Give the path of each file below a folder, relative to it, and its status; links are followed.

    fsspec's own listing leaves out the folders that it cannot list, and links. A folder is listed under each of its
    names, but a link back to a folder that it lies in is not followed. What cannot be read under the path given has no
    status: a link that leads to no file or folder, and a file whose name is not UTF-8, which comes with its bytes
    escaped, ``Pr\xfcfung.png``.

    Parameters
    ----------
    depth
        How many levels of folders are listed: 1 for the root alone, None for all.

    Raises
    ------
    OSError
        If a folder cannot be listed, or a file's status not be read.
    """
    around: dict[str, frozenset[tuple[int, int]]] = {}
    above_keys = len(root.rstrip("/"))  # Of / itself, too, which has its slash already.
    for folder, folders, names in os.walk(root, onerror=_raise_unless_gone, followlinks=True):
        try:
            status = Path(folder).stat()
        except OSError as error:
            _raise_unless_gone(error)
            folders.clear()
            continue
        here, above = (status.st_dev, status.st_ino), around.get(str(Path(folder).parent), frozenset())
        if here in above:
            folders.clear()
            continue
        around[folder] = above | {here}
        if folder.rstrip("/")[above_keys:].count("/") + 1 == depth:
            folders.clear()
        for name in names:
            path = Path(folder, name)
            name_on_disk = str(path)[above_keys + 1 :]
            key = os.fsencode(name_on_disk).decode("utf-8", "backslashreplace")
            try:
                status = path.stat()
            except OSError as error:
                if path.is_symlink():
                    yield key, None  # It leads nowhere, to itself, through a file, or where nobody may look.
                else:
                    _raise_unless_gone(error)
                continue
            if stat.S_ISREG(status.st_mode):
                yield key, status if key == name_on_disk else None


def open_regular(path: str) -> BinaryIO:
    """Open a file to be read, if it is one: a device could be read for ever, and a pipe waits for its writer.

    Raises
    ------
    OSError
        If there is none, or it cannot be opened.
    """
    file = open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))  # noqa: SIM115
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError("it is no file, but a device or a pipe")


def write_beside(path: str, content: bytes) -> Path:
    """Write a file of another name beside a path, to be linked or renamed to it, and return that name."""
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    # A name of its own: two writers must not share a half-written file. Not tempfile's: others may not read its files.
    written = folder / f".{uuid.uuid4().hex}.partial"
    try:
        with written.open("xb") as file:
            file.write(content)
            file.flush()
            # Else a power cut may leave the new name, and nothing in the file.
            os.fsync(file.fileno())
    except OSError:
        written.unlink(missing_ok=True)
        raise
    return written


def _raise_unless_gone(error: OSError) -> None:
    # Deleted since its folder was listed.
    if not isinstance(error, FileNotFoundError):
        raise error
