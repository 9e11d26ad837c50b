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


def create_file(path: str, content: bytes) -> None:
    """Write a file, whole, where there is none.

    Raises
    ------
    OSError
        A FileExistsError if there is one.
    """
    written = write_beside(path, content)
    try:
        os.link(written, path)
    except OSError as error:
        if error.errno in WITHOUT_LINKS:
            raise OSError(
                "its file system has no hard links, without which two runs could hold one batch: keep results elsewhere"
            ) from error
        raise
    finally:
        written.unlink()


def _raise_unless_gone(error: OSError) -> None:
    # Deleted since its folder was listed.
    if not isinstance(error, FileNotFoundError):
        raise error
