"""The command line: ``ssdnet``, or ``python -m flows``."""

from flows.current_folder import keep_out_of_imports
from flows.interpreter import open_closed_streams, read_names_as_utf8


def main() -> None:
    """Run the command line, which takes a moment to be imported."""
    open_closed_streams()
    read_names_as_utf8()
    keep_out_of_imports()
    from flows.interruption import end_at_once_when_interrupted

    end_at_once_when_interrupted()
    from flows.command_line import main as run

    run()


if __name__ == "__main__":
    main()
