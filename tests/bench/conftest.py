import pytest

from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def benchmarks_are_found(monkeypatch):
    """They are programs beside one another, no package."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
