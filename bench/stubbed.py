"""``ssdnet`` with workers that do everything but the fit: ``python bench/stubbed.py inspect NIGHT --results OUT``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client
from stub_fit import StubFit

import tasks.cluster

dask_client = tasks.cluster.dask_client


@contextmanager
def stubbed_client(*arguments: Any, **options: Any) -> Iterator[Client]:
    """Connect to the workers as the product does, and replace their fit."""
    with dask_client(*arguments, **options) as client:
        client.register_plugin(StubFit())
        yield client


# Spawned workers import this module again: only the command itself runs it.
if __name__ == "__main__":
    tasks.cluster.dask_client = stubbed_client
    from flows.command_line import main

    main()
