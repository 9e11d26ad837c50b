"""``python -m flows``: the command line, as ``ssdnet``."""

from flows.current_folder import keep_out_of_imports

if __name__ == "__main__":
    keep_out_of_imports()
    from flows.command_line import main

    main()
