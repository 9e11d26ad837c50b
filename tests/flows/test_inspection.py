import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from prefect.utilities.annotations import quote

from flows import inspection as flow
from ssdnet_core.synthetic import sample
from tasks import lease as leases
from tasks.inspection import Inspection, inspect_images
from tasks.lease import LeaseHolder, LeaseLostError
from tasks.seal import read_seal
from tasks.storage import Storage
from tests.tasks.prepared import QUICK

torch.set_num_threads(1)
TASKS = ("discover_images", "write_figures_and_regions", "draw_report", "seal_batch")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Inspect a night of which each run finds one more image, in this process: without Prefect's server and Dask."""

    def without_prefect(task):
        def plain(value):
            return value.unquote() if isinstance(value, quote) else value

        def call(*arguments, **options):
            return task.fn(*map(plain, arguments), **{name: plain(value) for name, value in options.items()})

        return call

    def inspect_here(source, folder, manifest, todo, **_):
        inspection = Inspection(source, folder, manifest.config, manifest.fingerprint)
        return {record.index: record for record in inspect_images(todo, inspection)}

    for name in TASKS:
        monkeypatch.setattr(flow, name, without_prefect(getattr(flow, name)))
    monkeypatch.setattr(flow, "inspect_all", inspect_here)
    monkeypatch.setattr(leases, "RENEWED_EVERY", 0.05)
    night, results = tmp_path / "night", Storage(str(tmp_path / "results"))
    night.mkdir()

    def inspect():
        number = len(list(night.iterdir()))
        Image.fromarray(sample("leather", "hole", size=(64, 64), seed=number).pixels).save(night / f"{number}.png")
        return flow.run_batch(
            Storage(str(night)),
            results,
            pattern="",
            batch="n",
            config=QUICK,
            crew=SimpleNamespace(start=lambda: None),
            retry_failed=False,
        )

    return inspect


def contents(folder: Storage) -> dict[str, bytes]:
    """All that is stored of a batch, but who is at work on it."""
    return {entry.key: folder.read(entry.key) for entry in folder.list() if not entry.key.startswith("leases/")}


@pytest.mark.parametrize(
    "step", ["discover_images", "break_seal", "inspect_all", "write_figures_and_regions", "draw_report"]
)
def test_a_run_that_is_taken_over_during_a_step_changes_nothing_after_it(run, monkeypatch, step):
    folder = Storage(run().folder)
    stored, done = {}, getattr(flow, step)

    def taken_over(*arguments, **options):
        outcome = done(*arguments, **options)
        other = LeaseHolder(run="r", host="another-host", pid=1, boot="b", renewed=0)
        folder.write("leases/000003.json", json.dumps(asdict(other)).encode())
        stored.update(contents(folder))
        return outcome

    monkeypatch.setattr(flow, step, taken_over)
    with pytest.raises(LeaseLostError):
        run()
    assert contents(folder) == stored
    monkeypatch.setattr(flow, step, done)
    outcome = run()
    assert read_seal(folder) == outcome.seal
    assert outcome.seal.inspected == 3
