"""The body of ``ssdnet inspect`` and ``ssdnet evaluate``: a flow with a Prefect API and a progress bar."""

from collections.abc import Callable
from importlib import import_module
from typing import TypeVar

from flows.embedded import start_prefect_server, wait_until_ready

Result = TypeVar("Result")


def run_batch_flow(flow: Callable[[], Result], *, module: str, as_json: bool) -> Result:
    """Run a flow, with the server that ``PREFECT_API_URL`` names or one for the length of this process.

    Parameters
    ----------
    module
        The flow's; it is imported while the server comes up, as each takes seconds.
    as_json
        Show no progress.

    Raises
    ------
    EmbeddedServerError
        If the command's own server does not start.
    NoPrefectApiError
        If there is none at the address that the user gave.
    """
    start_prefect_server()
    from flows.progress import observed_by
    from flows.progress_bar import ProgressBar

    with ProgressBar(shown=not as_json) as bar, observed_by(bar):
        bar.stage("starting")
        import_module(module)
        wait_until_ready()
        return flow()
