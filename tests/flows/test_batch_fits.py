import logging
from types import SimpleNamespace

import pytest
import torch
from distributed import Client

import tasks.local_workers
from flows import batch_fits as fits
from tasks.cluster import dask_client
from tasks.dispatch import MIN_CHUNK
from tasks.lease import LeaseLostError, hold_batch
from tasks.manifest import ImageEntry, Manifest
from tasks.records import ImageRecord, read_records, write_record
from tasks.storage import Storage
from tests.flows.runs_here import take_over, without_prefect
from tests.tasks.prepared import QUICK, DeadlyStorage, prepared

torch.set_num_threads(1)


def test_a_run_that_is_taken_over_waits_for_no_further_chunk(tmp_path, monkeypatch):
    broken = tuple(
        ImageEntry(index=i, key=f"{i}.png", etag="", size=1, problem="cut short") for i in range(3 * MIN_CHUNK)
    )
    manifest = Manifest(batch="n", input=str(tmp_path / "night"), pattern="", config=QUICK, entries=broken)
    folder, awaited, chunk = Storage(str(tmp_path / "n")), [], without_prefect(fits.inspect_chunk)

    def taken_over_during_the_first(*arguments, first, **others):
        awaited.append(first)
        records = chunk(*arguments, first=first, **others)
        take_over(folder, 2)
        return records

    monkeypatch.setattr(fits, "inspect_chunk", taken_over_during_the_first)
    monkeypatch.setattr(fits, "get_run_logger", logging.getLogger)
    with (
        Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client,
        hold_batch(folder) as lease,
        pytest.raises(LeaseLostError),
    ):
        fits.inspect_all(
            Storage(manifest.input),
            folder,
            manifest=manifest,
            todo=list(broken),
            known={},
            cluster=SimpleNamespace(client=client, group=None),
            lease=lease,
        )
    assert awaited == ["0.png"]


def test_records_are_withdrawn_as_their_chunk_is_queued_and_no_sooner(tmp_path, monkeypatch):
    monkeypatch.setattr(fits, "get_run_logger", logging.getLogger)
    inspection, entries = prepared(tmp_path, *(f"{number:02d}.png" for number in range(MIN_CHUNK + 1)))
    folder, manifest = (
        inspection.folder,
        Manifest(batch="n", input=inspection.source.url, pattern="", config=inspection.config, entries=entries),
    )
    known = {
        entry.index: ImageRecord(
            index=entry.index, key=entry.key, etag=entry.etag, fingerprint=manifest.fingerprint, status="inspected"
        )
        for entry in entries[1:]
    }
    for record in known.values():
        write_record(folder, record)

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fits, "submit_chunk", killed)
    with (
        Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client,
        hold_batch(folder) as lease,
        pytest.raises(KeyboardInterrupt),
    ):
        fits.inspect_all(
            inspection.source,
            folder,
            manifest=manifest,
            todo=list(entries),
            known=known,
            cluster=SimpleNamespace(client=client, group=None),
            lease=lease,
        )
    left = read_records(folder, entries)
    assert sorted(left) == sorted(known)
    assert [record.passing for record in left.values()] == [True] * (MIN_CHUNK - 1) + [False]
    assert left[MIN_CHUNK] == known[MIN_CHUNK]


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_no_image_is_blamed_for_the_death_of_a_worker_that_had_it_beside_the_next_chunk(tmp_path, monkeypatch):
    # Futures that ask for a GPU are all given to its worker at once, and are suspected of its death together.
    monkeypatch.setitem(tasks.local_workers.DASK_SETTINGS, "distributed.scheduler.allowed-failures", 0)
    monkeypatch.setattr(tasks.local_workers, "visible_gpus", lambda: ("0",))
    monkeypatch.setattr(fits, "get_run_logger", logging.getLogger)
    for name in ("inspect_chunk", "inspect_suspects"):
        monkeypatch.setattr(fits, name, without_prefect(getattr(fits, name)))
    names = [f"{number:02d}.png" for number in range(2 * MIN_CHUNK + 3)]
    names[3] = "03-deadly.png"  # Of the first chunk and of the last, which is queued while the second is waited for.
    names[2 * MIN_CHUNK + 1] = "33-deadly.png"
    inspection, entries = prepared(tmp_path, *names)
    manifest = Manifest(batch="n", input=inspection.source.url, pattern="", config=inspection.config, entries=entries)
    with dask_client(workers=1) as client, hold_batch(inspection.folder) as lease:
        records = fits.inspect_all(
            DeadlyStorage(inspection.source.url),
            inspection.folder,
            manifest=manifest,
            todo=list(entries),
            known={},
            cluster=SimpleNamespace(client=client, group=1),
            lease=lease,
        )
    assert [record.key for record in records.values() if record.failed] == ["03-deadly.png", "33-deadly.png"]
    assert sorted(records) == list(range(len(names)))
