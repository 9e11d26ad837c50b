"""Imports run one way: flows, tasks, ssdnet_core; and the core knows neither files nor schedulers."""

import ast
import re
import sys
import tomllib
from dataclasses import fields, is_dataclass
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from ssdnet_core.errors import SsdnetError

ROOT = Path(__file__).parent.parent
KNOWN_TO_CORE = {"numpy", "scipy", "torch", "pydantic", "ssdnet_core"}
NOT_IMPORTED = {"bokeh", "fastapi", "sqlalchemy", "xarray"}
"""Dependencies for Dask's UI, at a version that Prefect works with, and for users: pyproject.toml says which."""
FILES = {"pathlib", "io", "os", "shutil", "tempfile", "glob", "socket", "subprocess", "urllib"}
PACKAGES = ("ssdnet_core", "tasks", "flows", "infra")


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
    assert imported(path) <= KNOWN_TO_CORE | set(sys.stdlib_module_names) - FILES


@pytest.mark.parametrize("path", sorted((ROOT / "tasks").rglob("*.py")), ids=lambda path: path.name)
def test_tasks_know_nothing_of_flows_nor_prefect(path):
    assert not imported(path) & {"flows", "infra", "prefect"}


@pytest.mark.parametrize("path", sorted((ROOT / "infra" / "local").rglob("*.py")), ids=lambda path: path.name)
def test_the_local_stack_starts_flows_but_imports_none(path):
    assert not imported(path) & {"flows", "prefect"}


@pytest.mark.parametrize("package", ["tasks", "flows", "infra"])
def test_a_dataclass_of_more_than_three_fields_is_built_by_their_names(package):
    for path in (ROOT / package).rglob("*.py"):
        module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
        for found in vars(module).values():
            if isinstance(found, type) and is_dataclass(found) and found.__module__ == module.__name__:
                # Its own: some also have those of a dataclass of the core.
                own = [field for field in fields(found) if field.name in vars(found).get("__annotations__", {})]
                assert len(own) <= 3 or all(field.kw_only for field in own), f"{module.__name__}.{found.__name__}"


def test_what_is_imported_is_a_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w.-]", entry)[0].lower() for entry in project["dependencies"]}
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    foreign = set().union(*map(imported, paths)) - set(sys.stdlib_module_names) - set(PACKAGES)
    brought_by = packages_distributions()
    assert {name for name in foreign if not declared & {one.lower() for one in brought_by[name]}} == set()


def test_a_dependency_is_imported_or_its_reason_is_known():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w.-]", entry)[0].lower() for entry in project["dependencies"]}
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    brought_by = packages_distributions()
    used = {one.lower() for name in set().union(*map(imported, paths)) for one in brought_by.get(name, ())}
    assert declared - used == NOT_IMPORTED


def test_every_error_that_is_raised_on_purpose_says_so():
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for name in [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]:
                if not name.endswith("Error"):
                    continue
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                assert issubclass(getattr(import_module(module), name), SsdnetError), f"{module}.{name}"
