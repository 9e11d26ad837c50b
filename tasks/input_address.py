"""What the address of an input means: a folder or prefix, a glob below one, or a single file."""

import glob
from pathlib import Path, PurePosixPath

from tasks.decoding import SUFFIXES
from tasks.keys import suffix_of
from tasks.storage import Storage
from tasks.storage_answers import StorageError


def split_input(url: str) -> tuple[Storage, str]:
    """Return the folder or prefix of an input, and the glob below it (empty if there is none).

    ``night/*.png`` gives ``night`` and ``*.png``; a single image its folder and its name. On this machine, a
    name that exists as it stands is no glob, whatever brackets it has.

    Raises
    ------
    StorageError
        If it cannot be looked at, or is neither a file nor a folder.
    """
    storage = Storage(url)
    root = PurePosixPath(storage.root)
    # Asked first whether it exists, since that tells in words what cannot be looked at.
    if storage.is_local and storage.exists():
        if Path(root).is_file():
            return Storage(str(root.parent)), glob.escape(root.name)
        if not Path(root).is_dir():
            raise StorageError(f"cannot read {root}: it is neither a file nor a folder")
    patterns = [
        part
        for part in (root, *root.parents)
        if glob.has_magic(part.name) and not (storage.is_local and Storage(str(part)).exists())
    ]
    if patterns:
        folder = patterns[-1].parent
        return Storage(str(folder) if storage.is_local else f"s3://{folder}"), str(root.relative_to(folder))
    if not storage.is_local and suffix_of(root.name) in SUFFIXES:
        around = Storage(f"s3://{root.parent}")
        if isinstance(around.read_many([root.name], end=1)[root.name], bytes):
            return around, root.name
    return Storage(storage.address), ""
