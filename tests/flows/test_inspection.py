import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from distributed import Client
from PIL import Image
from prefect.utilities.annotations import quote

import tasks.local_workers
from flows import inspection as flow
from ssdnet_core.synthetic import sample
from tasks import lease as leases
from tasks.batch import REGIONS, SEAL, ImageEntry, Manifest
from tasks.cluster import dask_client
from tasks.dispatch import MIN_CHUNK
from tasks.image_figures import STATUSES, read_figures
from tasks.inspection import Inspection, inspect_images
from tasks.lease import LeaseHolder, LeaseLostError, hold_batch
from tasks.maps import read_map, written_maps
from tasks.report import PAGE
from tasks.seal import read_seal
from tasks.storage import Storage
from tasks.zarr_store import MAPS_METADATA
from tests.tasks.prepared import QUICK, DeadlyStorage, prepared

torch.set_num_threads(1)
TASKS = ("discover_images", "write_figures_and_regions", "draw_report", "seal_batch")


def without_prefect(task):
    def plain(value):
        return value.unquote() if isinstance(value, quote) else value

    def call(*arguments, **options):
        return task.fn(*map(plain, arguments), **{name: plain(value) for name, value in options.items()})

    return call


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Inspect a night after so many more images came, in this process: without Prefect's server and Dask."""

    def inspect_here(source, folder, manifest, todo, **_):
        inspection = Inspection(source, folder, manifest.config, manifest.fingerprint)
        return {record.index: record for record in inspect_images(todo, inspection)}

    for name in TASKS:
        monkeypatch.setattr(flow, name, without_prefect(getattr(flow, name)))
    monkeypatch.setattr(flow, "inspect_all", inspect_here)
    monkeypatch.setattr(leases, "RENEWED_EVERY", 0.05)
    night, results = tmp_path / "night", Storage(str(tmp_path / "results"))
    night.mkdir()

    def inspect(more=1):
        for _ in range(more):
            seed = len(list(night.iterdir()))
            Image.fromarray(sample("leather", "hole", size=(64, 64), seed=seed).pixels).save(night / f"{seed}.png")
        return flow.run_batch(
            Storage(str(night)),
            results,
            pattern="",
            batch="n",
            config=QUICK,
            crew=SimpleNamespace(start=lambda images: None),
            retry_failed=False,
        )

    return inspect


def take_over(folder: Storage, number: int) -> None:
    other = LeaseHolder(run="r", host="another-host", pid=1, boot="b", renewed=0)
    folder.write(f"leases/{number:06d}.json", json.dumps(asdict(other)).encode())


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
        take_over(folder, 3)
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


def test_a_run_that_is_taken_over_waits_for_no_further_chunk(tmp_path, monkeypatch):
    broken = tuple(ImageEntry(i, f"{i}.png", "", 1, problem="cut short") for i in range(3 * MIN_CHUNK))
    manifest = Manifest("n", input=str(tmp_path / "night"), pattern="", config=QUICK, entries=broken)
    folder, awaited, chunk = Storage(str(tmp_path / "n")), [], without_prefect(flow.inspect_chunk)

    def taken_over_during_the_first(*arguments, first, **others):
        awaited.append(first)
        records = chunk(*arguments, first=first, **others)
        take_over(folder, 2)
        return records

    monkeypatch.setattr(flow, "inspect_chunk", taken_over_during_the_first)
    monkeypatch.setattr(flow, "get_run_logger", logging.getLogger)
    with (
        Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client,
        hold_batch(folder) as lease,
        pytest.raises(LeaseLostError),
    ):
        flow.inspect_all(
            Storage(manifest.input),
            folder,
            manifest=manifest,
            todo=list(broken),
            crew=SimpleNamespace(client=client),
            lease=lease,
        )
    assert awaited == ["0.png"]


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_no_image_is_blamed_for_the_death_of_a_worker_that_had_it_beside_the_next_chunk(tmp_path, monkeypatch):
    # Futures that ask for a GPU are all given to its worker at once, and are suspected of its death together.
    monkeypatch.setitem(tasks.local_workers.SETTINGS, "distributed.scheduler.allowed-failures", 0)
    monkeypatch.setattr(tasks.local_workers, "visible_gpus", lambda: ("0",))
    monkeypatch.setattr(flow, "get_run_logger", logging.getLogger)
    for name in ("inspect_chunk", "inspect_suspects"):
        monkeypatch.setattr(flow, name, without_prefect(getattr(flow, name)))
    names = [f"{number:02d}.png" for number in range(2 * MIN_CHUNK + 3)]
    names[3] = "03-deadly.png"  # Of the first chunk and of the last, which is queued while the second is waited for.
    names[2 * MIN_CHUNK + 1] = "33-deadly.png"
    inspection, entries = prepared(tmp_path, *names)
    manifest = Manifest("n", input=inspection.source.url, pattern="", config=inspection.config, entries=entries)
    with dask_client(workers=1) as client, hold_batch(inspection.folder) as lease:
        records = flow.inspect_all(
            DeadlyStorage(inspection.source.url),
            inspection.folder,
            manifest=manifest,
            todo=list(entries),
            crew=SimpleNamespace(client=client),
            lease=lease,
            group=1,
        )
    assert [record.key for record in records.values() if record.failed] == ["03-deadly.png", "33-deadly.png"]
    assert sorted(records) == list(range(len(names)))


def test_a_sealed_batch_without_news_is_left_as_it_is(run):
    first = run(more=2)
    stored = contents(Storage(first.folder))
    again = run(more=0)
    assert (again.seal, again.fitted) == (first.seal, 0)
    assert contents(Storage(first.folder)) == stored


def test_an_image_that_was_removed_is_in_no_count_of_a_sealed_batch_nor_in_its_gallery(run, tmp_path):
    first = run(more=2)
    (tmp_path / "night" / "0.png").unlink()
    outcome = run(more=0)
    folder = Storage(outcome.folder)
    assert (outcome.fitted, first.seal.images, outcome.seal.images) == (0, 2, 1)
    assert read_seal(folder) == outcome.seal != first.seal
    assert [STATUSES[status] for status in read_figures(folder)["status"]] == ["absent", "inspected"]
    page = folder.read(PAGE).decode()
    assert "1.png" in page
    assert "0.png" not in page


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("lost", ["emptied", "deleted"])
def test_an_image_whose_map_was_lost_is_inspected_again(run, lost, sealed):
    first = run(more=2)
    folder = Storage(first.folder)
    before = read_map(folder, first.records[1])
    if not sealed:
        folder.delete(SEAL)
    chunk = Path(folder.path("maps.zarr/anomaly_map/c/1/0/0"))
    os.truncate(chunk, 0) if lost == "emptied" else chunk.unlink()
    again = run(more=0)
    assert (again.fitted, again.seal) == (1, first.seal)
    assert (read_map(folder, again.records[1]) == before).all()


def test_an_image_replaced_by_one_that_cannot_be_inspected_leaves_no_map(run, tmp_path):
    first = run(more=2)
    whole = tmp_path / "night" / "1.png"
    whole.write_bytes(whole.read_bytes()[:200])
    outcome = run(more=0)
    assert [outcome.records[index].failed for index in (0, 1)] == [False, True]
    folder = Storage(outcome.folder)
    assert written_maps(folder) == {0}
    assert (read_map(folder, outcome.records[0]) == read_map(folder, first.records[0])).all()


def test_maps_that_are_gone_from_a_sealed_batch_are_made_again_and_equal(run):
    first = run(more=2)
    folder = Storage(first.folder)
    before = contents(folder)
    for key in before:
        if key.startswith("maps.zarr/"):
            folder.delete(key)
    again = run(more=0)
    assert (again.fitted, again.seal) == (2, first.seal)
    kept = [key for key in before if key.startswith(("maps.zarr/anomaly_map/", REGIONS))]
    after = contents(folder)
    assert kept
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert folder.exists(PAGE)


@pytest.mark.parametrize("gone", [MAPS_METADATA, "maps.zarr/score/zarr.json", REGIONS, PAGE, "report/"])
def test_what_the_flow_itself_writes_is_made_again_and_equal_where_it_is_gone_from_a_sealed_batch(run, gone):
    first = run()
    folder = Storage(first.folder)
    before = contents(folder)
    for key in before:
        if key.startswith(gone):
            folder.delete(key)
    again = run(more=0)
    assert (again.seal, again.fitted) == (first.seal, 0)
    assert contents(folder) == before


def test_what_is_sealed_has_been_flushed_to_a_local_disk(run, monkeypatch):
    folder, flushed = Storage(run().folder), []
    monkeypatch.setattr(os, "sync", lambda: flushed.append((read_seal(folder), written_maps(folder))))
    assert run().seal.images == 2
    assert flushed == [(None, {0, 1})]
