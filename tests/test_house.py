"""Imports run one way: flows, tasks, ssdnet_core; and the core knows neither files nor schedulers."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOREIGN_TO_CORE = {"prefect", "dask", "distributed", "zarr", "fsspec", "s3fs", "pathlib", "io", "PIL", "tasks", "flows"}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "ssdnet_core").rglob("*.py")), ids=lambda path: path.name)
def test_the_core_knows_arrays_only(path):
    assert not imported(path) & FOREIGN_TO_CORE


@pytest.mark.parametrize("path", sorted((ROOT / "tasks").rglob("*.py")), ids=lambda path: path.name)
def test_tasks_know_nothing_of_flows_nor_prefect(path):
    assert not imported(path) & {"flows", "infra", "prefect"}


@pytest.mark.parametrize("path", sorted((ROOT / "infra" / "local").rglob("*.py")), ids=lambda path: path.name)
def test_the_local_stack_starts_flows_but_imports_none(path):
    assert not imported(path) & {"flows", "prefect"}
