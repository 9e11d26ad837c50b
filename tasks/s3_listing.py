"""What a bucket holds, also for those who may list only part: S3 denies them access to what is missing.

Paths are as s3fs takes them, ``bucket/key``.
"""

from collections.abc import Iterator
from typing import Any


def listed_objects(filesystem: Any, root: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the key of each object below a root, and what S3 tells of it; folders' marks are none."""
    try:
        # All below the root whatever is looked for: with a depth, s3fs leaves out the folders that it cannot list.
        found = filesystem.find(root, detail=True)
    except PermissionError:
        # Where nothing is listed, s3fs asks for an object of that name.
        if is_there(filesystem, root):
            raise
        return
    for path, told in found.items():
        key = path[len(root) + 1 :]
        # Consoles mark a folder by an object of its name and a slash.
        if key and not key.endswith("/") and told["type"] == "file":
            yield key, told


def is_there(filesystem: Any, path: str) -> bool:
    """Whether there is such an object, or anything below it."""
    # An access point's name has slashes, too.
    bucket, key, _ = filesystem.split_path(path)
    if key:
        try:
            return bool(filesystem.exists(path))
        except PermissionError:
            return _is_listed(filesystem, bucket, key=key)
    # Asked for a bucket, s3fs takes every failure for its absence.
    try:
        filesystem.ls(path)
    except FileNotFoundError:
        return False
    return True


def _is_listed(filesystem: Any, bucket: str, *, key: str) -> bool:
    # Between an object and what lies below its name others may come, as `a.png` between `a` and `a/b`.
    for prefix in (key, f"{key}/"):
        listed = filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
        if any(found["Key"] == key or found["Key"].startswith(f"{key}/") for found in listed.get("Contents", [])):
            return True
    return False
