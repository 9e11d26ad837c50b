"""The folder that a command is run in: what lies there is the user's, and no module of the command or its processes.

This module imports only what is loaded already: all else could come from that folder.
"""

# pathlib is not loaded yet, and loads others.
# ruff: noqa: PTH100, PTH109, PTH120, PTH121
import os
import sys


def keep_out_of_imports() -> None:
    """Keep the current folder out of what this process imports, and those that it starts.

    A folder of images may hold a ``queue.py``; ``python -m``, ``python -c`` and ``multiprocessing`` look there first.
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    here = os.getcwd() if has_current_folder() else ""
    if here and os.path.samefile(here, root):
        return  # A checkout that is not installed: the command's own modules come from there.
    if not sys.flags.safe_path and sys.path[0] in {"", here}:
        del sys.path[0]
    os.environ["PYTHONSAFEPATH"] = "1"


def has_current_folder() -> bool:
    """Whether the current folder is still there: somebody may have removed it."""
    try:
        os.getcwd()
    except OSError:
        return False
    return True
