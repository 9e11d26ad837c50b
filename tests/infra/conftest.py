from pathlib import Path

import pytest

from tasks.local_workers import DASK_SETTINGS, WORKER_ENVIRONMENT
from tests.conftest import ROOT

INFRA = ROOT / "infra"


def dask_variables(kind: str) -> dict[str, str]:
    """The environment that gives a process what tasks/local_workers.py sets for Dask's schedulers or workers."""
    return {
        "DASK_" + name.upper().replace(".", "__").replace("-", "_"): str(value)
        for name, value in DASK_SETTINGS.items()
        if name.startswith(f"distributed.{kind}.")
    }


@pytest.fixture(scope="session")
def infra() -> Path:
    return INFRA


@pytest.fixture(scope="session")
def scheduler_environment() -> dict[str, str]:
    return dask_variables("scheduler")


@pytest.fixture(scope="session")
def worker_environment() -> dict[str, str]:
    return {**WORKER_ENVIRONMENT, **dask_variables("worker")}
