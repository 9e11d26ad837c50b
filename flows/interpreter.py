"""What the rest takes for granted of the interpreter it runs in: standard streams, and file names in UTF-8.

It imports nothing that is not loaded already: see `flows.current_folder`.
"""

import os
import sys


def open_closed_streams() -> None:
    """Have standard input, output and error lead nowhere where they are closed, as by ``2>&-`` or some services.

    Else the next files that are opened take their place, and get what is printed; and libraries fail that print.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free: those below it are open by now.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - for as long as this runs


def read_names_as_utf8() -> None:
    """Start this program again with Python's UTF-8 mode where the locale has another encoding.

    Otherwise a file's name would not be the key that a store, a record or another worker has for the same image.
    """
    # Already set, but without effect: Python's own options switch the mode off, and this would not end.
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    # The terminal keeps its encoding.
    os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:{sys.stdout.errors}")
    os.execv(sys.executable, sys.orig_argv)
