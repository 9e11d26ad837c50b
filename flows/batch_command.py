"""The body of ``ssdnet inspect`` and ``ssdnet evaluate``: a flow with a Prefect API and a progress bar."""

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from flows.embedded import start_prefect_server, wait_until_ready
from flows.interruption import raise_when_interrupted
from flows.prefect_settings import check_prefect_settings

if TYPE_CHECKING:
    from flows.evaluation import MeasuredOutcome
    from flows.outcome import Outcome
    from ssdnet_core.config import Config


class BatchParameters(TypedDict):
    """What both flows are given: see :func:`flows.inspection.inspect`."""

    input: str
    results: str
    batch: str | None
    masks: str | None
    config: "Config"
    scheduler: str | None
    workers: int | None
    group: int | None
    retry_failed: bool


def inspect_batch(parameters: BatchParameters, *, as_json: bool) -> "Outcome":
    """Inspect a batch, and print what came of it; errors as :func:`run_batch_flow`."""
    outcome: Outcome = run_batch_flow("flows.inspection:inspect", parameters, as_json=as_json)
    from flows.summary import print_outcome

    print_outcome(outcome, as_json=as_json)
    return outcome


def evaluate_batch(parameters: BatchParameters, *, as_json: bool) -> "MeasuredOutcome":
    """Inspect a labelled batch and measure it, and print what came of it; errors as :func:`run_batch_flow`."""
    measured: MeasuredOutcome = run_batch_flow("flows.evaluation:evaluate", parameters, as_json=as_json)
    from flows.summary import print_measured

    print_measured(measured, as_json=as_json)
    return measured


def run_batch_flow(flow: str, parameters: BatchParameters, *, as_json: bool) -> Any:
    """Run a flow, with the server that ``PREFECT_API_URL`` names or one for the length of this process.

    Parameters
    ----------
    flow
        As Prefect names it, ``module:function``; it is imported while the server comes up, as each takes seconds.
    parameters
        The flow's. Mistakes are refused before there is a run: it would keep wrong addresses, and any credentials in
        them. If they name no scheduler, the process that workers are forked from comes up beside the server as well.
    as_json
        Show no progress.

    Returns
    -------
    Any
        What the flow returns.

    Raises
    ------
    AddressError
        If an address is malformed, or a file is where the results or the masks need a folder.
    BatchConflictError
        If the batch's name cannot be a folder's.
    InvalidConfigError
        If the scheduler's address is malformed, workers are asked for besides, or the device is ``cuda:1`` or higher.
    EmbeddedServerError
        If the command's own server does not start.
    WrongApiAddressError
        If ``PREFECT_API_URL`` is no address.
    WrongPrefectSettingsError
        If Prefect refuses its settings.
    ProxyError
        If Prefect's client cannot use the proxies that the environment names.
    NoPrefectApiError
        If there is none at the address that the user gave, or it refuses this user.
    """
    named = bool(os.environ.get("PREFECT_API_URL"))
    start_prefect_server()
    from flows.progress import observed_by
    from flows.progress_bar import ProgressBar
    from tasks.batch import check_batch_name
    from tasks.cluster import check_device
    from tasks.scheduler_address import scheduler_to_use
    from tasks.storage import Storage
    from tasks.worker_template import start_worker_template

    for address in (parameters["input"], parameters["results"], parameters["masks"]):
        if address is not None:
            Storage(address)
    _check_folder("--results", parameters["results"], advice="give a folder, which need not be there yet")
    if parameters["masks"] is not None:
        advice = "give the folder in which each mask has the name of its image, and a copy for each where one fits all"
        _check_folder("--masks", parameters["masks"], advice=advice)
    if parameters["batch"] is not None:
        check_batch_name(parameters["batch"])
    check_device(parameters["config"].device)
    scheduler = scheduler_to_use(parameters["scheduler"], workers=parameters["workers"])
    with ProgressBar(shown=not as_json) as bar, observed_by(bar):
        bar.stage("starting")
        if not scheduler:
            start_worker_template()
        check_prefect_settings()
        module, _, function = flow.partition(":")
        body = getattr(import_module(module), function)
        from flows.prefect_api import check_proxies, wait_for_api

        if named:
            wait_for_api(purpose="for the run")
        else:
            check_proxies()
            wait_until_ready()
        from flows.unreported_end import result_of

        raise_when_interrupted()
        return result_of(lambda: body(**parameters), done="the batch is sealed")


def _check_folder(option: str, address: str, *, advice: str) -> None:
    """Refuse a file, and what could only lie below one, where a folder is needed."""
    from tasks.address import AddressError
    from tasks.storage import Storage

    folder = Storage(address)
    if not folder.is_local:
        return
    root = Path(folder.root)
    for path in (root, *root.parents):
        if os.path.isfile(path):  # noqa: PTH113 - a name too long is told by who reads or writes
            told = (
                f"{option} {root} is a file"
                if path == root
                else f"{path} is a file, so that {option} {root} cannot be a folder"
            )
            raise AddressError(f"{told}: {advice}")
