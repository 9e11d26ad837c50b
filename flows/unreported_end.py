"""The result of a flow that did its work, though its server went away before it took note of that."""

import sys
from collections.abc import Callable
from typing import Any

import httpx
from prefect.exceptions import ObjectNotFound

from flows.api_address import NoPrefectApiError
from flows.prefect_api import server
from flows.progress import Results, observed_by


def result_of(run: Callable[[], Any], *, done: str) -> Any:
    """Run a flow that tells its result to its observers, and return it.

    Parameters
    ----------
    done
        What is done if the flow told its result but its server did not hear of it, as "the batch is sealed".

    Raises
    ------
    NoPrefectApiError
        If the server goes away before there is a result.
    """
    results = Results()
    try:
        with observed_by(results), server():
            return run()
    except (NoPrefectApiError, httpx.HTTPStatusError, ObjectNotFound) as error:
        if not results.all:
            raise
        sys.stderr.write(f"ssdnet: {done}, but its run's page does not tell so: {error}\n")
        return results.all[0]
