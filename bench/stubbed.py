"""``ssdnet`` with workers that do everything but the fit: ``python bench/stubbed.py inspect NIGHT --results OUT``."""

from pathlib import Path
from typing import Any

from distributed import LocalCluster


def main() -> None:
    import tasks.cluster

    def stubbed_cluster(**options: Any) -> LocalCluster:
        stub = str(Path(__file__).with_name("stub_fit.py"))
        return LocalCluster(**{**options, "preload": [*options["preload"], stub]})

    tasks.cluster.LocalCluster = stubbed_cluster  # type: ignore[misc]
    from flows.command_line import main as ssdnet

    ssdnet()


# Spawned workers import this module again: only the command itself runs it.
if __name__ == "__main__":
    main()
