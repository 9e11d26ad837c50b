"""The body of ``ssdnet inspect`` and ``ssdnet evaluate``: a flow with a Prefect API and a progress bar."""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TypeVar

from flows.embedded import start_prefect_server, wait_until_ready

Result = TypeVar("Result")


def run_batch_flow(
    flow: Callable[[], Result],
    *,
    module: str,
    addresses: Iterable[str | None],
    scheduler: str | None,
    as_json: bool,
) -> Result:
    """Run a flow, with the server that ``PREFECT_API_URL`` names or one for the length of this process.

    Parameters
    ----------
    module
        The flow's; it is imported while the server comes up, as each takes seconds.
    addresses
        That the flow is given: a run would keep wrong ones, and any credentials in them, among its parameters.
    scheduler
        The address that the flow is given; without any, the process its workers are forked from comes up as well.
    as_json
        Show no progress.

    Raises
    ------
    AddressError
        If an address is none that could be read.
    EmbeddedServerError
        If the command's own server does not start.
    NoPrefectApiError
        If there is none at the address that the user gave.
    """
    start_prefect_server()
    from flows.progress import observed_by
    from flows.progress_bar import ProgressBar
    from tasks.cluster import scheduler_to_use
    from tasks.storage import Storage
    from tasks.worker_template import start_worker_template

    for address in addresses:
        if address is not None:
            Storage(address)
    with ProgressBar(shown=not as_json) as bar, observed_by(bar):
        bar.stage("starting")
        if not scheduler_to_use(scheduler):
            start_worker_template()
        import_module(module)
        wait_until_ready()
        return flow()
