"""``python -m flows``: the command line, as ``ssdnet``."""

from flows.command_line import main

if __name__ == "__main__":
    main()
