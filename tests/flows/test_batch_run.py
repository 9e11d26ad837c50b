import logging
import os
import shutil
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from flows import batch_run as flow
from flows.progress import observed_by
from ssdnet_core.synthetic import sample
from tasks import discovery
from tasks import lease as leases
from tasks.batch import GALLERY, IMAGE_TABLE, MANIFEST, REGIONS, SEAL, read_manifest
from tasks.cluster import ClusterError
from tasks.finished_batch import ChangedRecordsError, read_sealed
from tasks.image_figures import STATUSES, read_figures
from tasks.inspection import Inspection, inspect_images
from tasks.lease import LeaseLostError
from tasks.maps import read_map, write_map, written_maps
from tasks.records import failed_record, record_key, withdraw_records, write_record
from tasks.seal import read_seal
from tasks.storage import Storage
from tasks.zarr_store import MAPS_METADATA
from tests.flows.heard import Heard
from tests.flows.runs_here import take_over, without_prefect
from tests.tasks.prepared import QUICK

torch.set_num_threads(1)
TASKS = ("discover_images", "write_figures_and_tables", "draw_report", "seal_batch")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Inspect a night after so many more images came, in this process: without Prefect's server and Dask."""

    def inspect_here(source, folder, manifest, todo, lease, **_):
        lease.check()
        inspection = Inspection(
            source=source,
            folder=folder,
            config=manifest.config,
            fingerprint=manifest.fingerprint,
            masks=Storage(manifest.masks) if manifest.masks else None,
        )
        return {record.index: record for record in inspect_images(todo, inspection)}

    for name in TASKS:
        monkeypatch.setattr(flow, name, without_prefect(getattr(flow, name)))
    monkeypatch.setattr(flow, "inspect_all", inspect_here)
    monkeypatch.setattr(flow, "get_run_logger", logging.getLogger)
    monkeypatch.setattr(flow, "watched", lambda batch: nullcontext())
    monkeypatch.setattr(flow, "tell_of_batch", lambda outcome, sealed: None)
    monkeypatch.setattr(leases, "RENEWED_EVERY", 0.05)
    night, results, here, starts = tmp_path / "night", Storage(str(tmp_path / "results")), Future(), []
    night.mkdir()
    here.set_result(None)

    def inspect(more=1, *, config=QUICK, retry_failed=False, refit=False, workers=None, masks=None):
        def start(**_):
            starts.append(workers or here)
            return starts[-1]

        for _ in range(more):
            seed = len(list(night.iterdir()))
            Image.fromarray(sample("leather", "hole", size=(64, 64), seed=seed).pixels).save(night / f"{seed}.png")
        return flow.run_batch(
            Storage(str(night)),
            results,
            pattern="",
            batch="n",
            config=config,
            cluster=SimpleNamespace(start=start),
            retry_failed=retry_failed,
            refit=refit,
            masks=Storage(str(masks)) if masks else None,
        )

    inspect.starts = starts
    return inspect


def contents(folder: Storage) -> dict[str, bytes]:
    """All that is stored of a batch, but who is at work on it."""
    return {entry.key: folder.read(entry.key) for entry in folder.list() if not entry.key.startswith("leases/")}


def taken_over_after(step: str, folder: Storage, *, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Have another run take the batch over after a step of the flow, and return what is stored then."""
    stored: dict[str, bytes] = {}
    done = getattr(flow, step)

    def taken_over(*arguments, **options):
        outcome = done(*arguments, **options)
        take_over(folder, 3)
        stored.update(contents(folder))
        return outcome

    monkeypatch.setattr(flow, step, taken_over)
    return stored


@pytest.mark.parametrize(
    "step",
    ["discover_images", "break_seal", "prepare_maps", "inspect_all", "write_figures_and_tables", "draw_report"],
)
def test_a_run_that_is_taken_over_during_a_step_changes_nothing_after_it(run, monkeypatch, step):
    folder, done = run().folder, getattr(flow, step)
    stored = taken_over_after(step, folder, monkeypatch=monkeypatch)
    with pytest.raises(LeaseLostError):
        run()
    assert contents(folder) == stored
    monkeypatch.setattr(flow, step, done)
    outcome = run()
    assert read_seal(folder) == outcome.seal
    assert outcome.seal.inspected == 3


def test_a_run_that_is_taken_over_while_it_writes_the_manifest_changes_no_maps(run, monkeypatch):
    folder, write, stored = run().folder, Storage.write, {}

    def taken_over(storage, key, content):
        write(storage, key, content)
        if key == MANIFEST:
            take_over(folder, 3)
            stored.update(contents(folder))

    monkeypatch.setattr(Storage, "write", taken_over)
    with pytest.raises(LeaseLostError):
        run()
    assert contents(folder) == stored


@pytest.mark.parametrize("step", ["inspect_all", "clear_maps"])
def test_a_run_that_is_taken_over_beside_a_failed_image_changes_nothing_after_it(run, monkeypatch, tmp_path, step):
    folder, broken = run(more=2).folder, tmp_path / "night" / "1.png"
    broken.write_bytes(broken.read_bytes()[:200])
    stored = taken_over_after(step, folder, monkeypatch=monkeypatch)
    with pytest.raises(LeaseLostError):
        run(more=0)
    assert contents(folder) == stored


def test_a_sealed_batch_without_news_is_left_as_it_is(run):
    first = run(more=2)
    stored, started = contents(first.folder), len(run.starts)
    again = run(more=0)
    assert (again.seal, again.fitted) == (first.seal, 0)
    assert contents(first.folder) == stored
    assert len(run.starts) == started, "no workers are started"


def test_only_what_is_new_is_read_and_counts_as_to_be_done(run, monkeypatch):
    run(more=2)
    read, read_headers, heard = [], discovery.read_headers, Heard()

    def noted(source, entries):
        read.extend(entry.key for entry in entries)
        return read_headers(source, entries)

    monkeypatch.setattr(discovery, "read_headers", noted)
    with observed_by(heard):
        run()
    assert read == ["2.png"]
    assert {"images": 3, "settled": 2} in heard.told


def test_a_batch_goes_on_on_the_device_of_its_run(run):
    run()
    folder = run(config=QUICK.updated({"device": "cpu"})).folder
    assert read_manifest(folder).config.device == "cpu"


def test_an_image_that_could_never_be_read_is_not_told_of_as_one_that_could(run, tmp_path):
    (tmp_path / "night" / "gone.png").symlink_to("nowhere.png")
    heard = Heard()
    with observed_by(heard):
        assert run().seal.failed == 1
    assert not [text for text in heard.told if isinstance(text, str)]


def test_an_image_that_was_removed_is_in_no_count_of_a_sealed_batch_nor_in_its_gallery(run, tmp_path):
    first = run(more=2)
    (tmp_path / "night" / "0.png").unlink()
    outcome = run(more=0)
    folder = outcome.folder
    assert (outcome.fitted, first.seal.images, outcome.seal.images) == (0, 2, 1)
    assert read_seal(folder) == outcome.seal != first.seal
    assert [STATUSES[status] for status in read_figures(folder)["status"]] == ["absent", "inspected"]
    page = folder.read(GALLERY).decode()
    assert "1.png" in page
    assert "0.png" not in page


@pytest.mark.parametrize("more", [0, 1])
def test_what_was_found_of_images_behind_links_is_kept_while_these_lead_nowhere(run, tmp_path, more):
    (tmp_path / "mounted").mkdir()
    first = run(more=2)
    for name in ("0.png", "1.png"):
        (tmp_path / "night" / name).rename(tmp_path / "mounted" / name)
        (tmp_path / "night" / name).symlink_to(tmp_path / "mounted" / name)
    assert run(more=0).seal == first.seal
    (tmp_path / "mounted").rename(tmp_path / "unmounted")
    heard = Heard()
    with observed_by(heard):
        outcome = run(more=more)
    assert (outcome.fitted, outcome.seal.inspected, outcome.seal.failed) == (more, 2 + more, 0)
    assert [outcome.results.records[index] for index in (0, 1)] == list(first.results.records.values())
    told = "2 images cannot be read any more, as 0.png, which leads nowhere: what was found before is kept"
    assert told in heard.told
    (tmp_path / "unmounted").rename(tmp_path / "mounted")
    assert run(more=0).seal == outcome.seal


def test_what_was_found_of_an_image_is_kept_while_its_mask_leads_nowhere(run, tmp_path):
    mask, mounted = tmp_path / "masks" / "1.png", tmp_path / "mounted.png"
    mask.parent.mkdir()
    Image.new("L", (64, 64), 255).save(mounted)
    Image.new("L", (64, 64), 255).save(mask.with_name("0.png"))
    mask.symlink_to(mounted)
    first = run(more=2, masks=mask.parent)
    mounted.rename(tmp_path / "unmounted.png")
    heard = Heard()
    with observed_by(heard):
        assert run(more=0, masks=mask.parent).seal == first.seal
    told = "1 image cannot be read any more, as 1.png, whose mask leads nowhere: what was found before is kept"
    assert told in heard.told
    Image.new("L", (64, 64), 255).save(mounted)
    assert run(more=0, masks=mask.parent).fitted == 1


def test_where_masks_have_moved_to_is_remembered_though_no_image_is_inspected_anew(run, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.new("L", (64, 64), 255).save(masks / "0.png")
    assert run(more=2, masks=masks).former_masks is None
    moved = masks.rename(tmp_path / "moved")
    again = run(more=0, masks=moved)
    assert (again.fitted, again.former_masks) == (0, str(masks))
    assert read_manifest(again.folder).masks == str(moved)
    assert run(more=0, masks=moved).former_masks is None


@pytest.mark.parametrize("metadata", ["maps.zarr/zarr.json", "maps.zarr/anomaly_map/zarr.json"])
@pytest.mark.parametrize("sealed", [True, False])
def test_a_batch_with_metadata_that_a_power_cut_emptied_is_gone_on_with(run, metadata, sealed):
    first = run(more=2)
    folder = first.folder
    if not sealed:
        folder.delete(SEAL)
    folder.write(metadata, b"")
    again = run(more=0)
    assert again.seal == first.seal
    assert (read_map(folder, again.results.records[1]) == read_map(folder, first.results.records[1])).all()


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("lost", ["emptied", "deleted"])
def test_an_image_whose_map_was_lost_is_inspected_again(run, lost, sealed):
    first = run(more=2)
    folder = first.folder
    before = read_map(folder, first.results.records[1])
    if not sealed:
        folder.delete(SEAL)
    chunk = Path(folder.path("maps.zarr/anomaly_map/c/1/0/0"))
    os.truncate(chunk, 0) if lost == "emptied" else chunk.unlink()
    again = run(more=0)
    assert (again.fitted, again.seal) == (1, first.seal)
    assert (read_map(folder, again.results.records[1]) == before).all()


@pytest.mark.parametrize("more", [0, 1])
def test_a_record_that_was_changed_after_the_seal_is_told_and_once_deleted_its_image_is_inspected_again(run, more):
    first = run(more=2)
    folder = first.folder
    write_record(folder, replace(first.results.records[1], score=77.0))
    stored = contents(folder)
    for read in (lambda: run(more=more), lambda: read_sealed(folder.address)):
        with pytest.raises(ChangedRecordsError, match=r"files in its records were changed since"):
            read()
    assert contents(folder) == stored
    folder.delete(record_key(1))
    again = run(more=0)
    assert again.results.records[1].score == first.results.records[1].score
    assert read_sealed(folder.address)[1].present == again.results.present


def test_records_that_were_changed_after_the_seal_are_made_anew_by_a_refit(run):
    first = run(more=2)
    write_record(first.folder, replace(first.results.records[1], score=77.0))
    assert run(more=0, refit=True).seal == first.seal


@pytest.mark.parametrize("damage", ["cut", "another's"])
@pytest.mark.parametrize("more", [0, 1])
def test_an_image_whose_map_was_damaged_is_inspected_again_by_a_run_that_goes_on(run, more, damage):
    first = run(more=2)
    folder = first.folder
    before = read_map(folder, first.results.records[1])
    if not more:
        folder.delete(SEAL)
    if damage == "cut":
        chunk = Path(folder.path("maps.zarr/anomaly_map/c/1/0/0"))
        os.truncate(chunk, chunk.stat().st_size // 2)
    else:
        write_map(folder, 1, anomaly_map=before + 1)
    heard = Heard()
    with observed_by(heard):
        again = run(more=more)
    assert again.fitted == more + 1
    assert "reading the maps that are there" in heard.stages
    assert heard.told[0] == "1 map damaged, as that of 1.png: inspected again"
    assert (read_map(folder, again.results.records[1]) == before).all()


def test_an_image_replaced_by_one_that_cannot_be_inspected_leaves_no_map(run, tmp_path):
    first = run(more=2)
    whole = tmp_path / "night" / "1.png"
    whole.write_bytes(whole.read_bytes()[:200])
    outcome = run(more=0)
    assert [outcome.results.records[index].failed for index in (0, 1)] == [False, True]
    folder = outcome.folder
    assert written_maps(folder) == {0}
    assert (read_map(folder, outcome.results.records[0]) == read_map(folder, first.results.records[0])).all()


def test_an_image_that_comes_to_fail_after_its_map_was_written_leaves_no_map(run, monkeypatch):
    def without_the_last_record(source, folder, manifest, todo, **_):
        written = inspect_images(todo, Inspection.of(manifest, source=source, folder=folder))
        return {record.index: record for record in written} | {1: record_of_a_death(todo[1], manifest)}

    monkeypatch.setattr(flow, "inspect_all", without_the_last_record)
    outcome = run(more=2)
    assert [outcome.results.records[index].failed for index in (0, 1)] == [False, True]
    assert written_maps(outcome.folder) == {0}


def record_of_a_death(entry, manifest):
    return failed_record(entry, "its worker died", fingerprint=manifest.fingerprint, lasting=False)


def test_an_image_put_back_after_an_interrupted_inspection_of_another_is_inspected_again(run, monkeypatch, tmp_path):
    first = run()
    folder, image, kept = first.folder, tmp_path / "night" / "0.png", tmp_path / "kept.png"
    before = read_map(folder, first.results.records[0])
    shutil.copy2(image, kept)
    Image.fromarray(sample("tile", "hole", size=(64, 64)).pixels).save(image)
    inspect = flow.inspect_all

    def interrupted(source, folder, manifest, todo, **_):
        withdraw_records(folder, todo, fingerprint=manifest.fingerprint)
        write_map(folder, 0, anomaly_map=before + 1)
        raise KeyboardInterrupt

    monkeypatch.setattr(flow, "inspect_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(more=0)
    monkeypatch.setattr(flow, "inspect_all", inspect)
    shutil.copy2(kept, image)
    again = run(more=0)
    assert (again.fitted, again.seal) == (1, first.seal)
    assert (read_map(folder, again.results.records[0]) == before).all()


@pytest.mark.parametrize("refit", [False, True])
def test_a_run_that_finds_no_workers_leaves_a_sealed_batch_as_it_is(run, refit):
    folder, nobody = run(more=2).folder, Future()
    stored = contents(folder)
    nobody.set_exception(ClusterError("no worker"))
    with pytest.raises(ClusterError):
        run(more=0 if refit else 1, refit=refit, workers=nobody)
    assert contents(folder) == stored


def test_a_run_that_listed_before_another_one_sealed_the_batch_takes_no_image_out(run, monkeypatch):
    run()
    opened = flow.open_batch

    def after_another_run(*arguments):
        monkeypatch.setattr(flow, "open_batch", opened)
        run(more=2)
        return opened(*arguments)

    monkeypatch.setattr(flow, "open_batch", after_another_run)
    outcome = run(more=0)
    assert (outcome.seal.images, outcome.seal.inspected, outcome.fitted) == (3, 3, 0)


def test_an_image_that_failed_for_a_reason_of_its_own_is_tried_again_only_if_that_is_asked_for(run, tmp_path):
    run(more=2)
    broken = tmp_path / "night" / "1.png"
    broken.write_bytes(broken.read_bytes()[:200])
    first = run(more=0)
    assert first.results.records[1].lasting
    assert (run(more=0).fitted, run(more=0, retry_failed=True).fitted) == (0, 1)


def test_maps_that_are_gone_from_a_sealed_batch_are_made_again_and_equal(run):
    first = run(more=2)
    folder = first.folder
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
    assert folder.exists(GALLERY)


@pytest.mark.parametrize(
    "gone", [MAPS_METADATA, "maps.zarr/score/zarr.json", REGIONS, IMAGE_TABLE, GALLERY, "report/", MANIFEST]
)
def test_what_the_flow_itself_writes_is_made_again_and_equal_where_it_is_gone_from_a_sealed_batch(run, gone):
    first = run()
    folder = first.folder
    before = contents(folder)
    for key in before:
        if key.startswith(gone):
            folder.delete(key)
    again = run(more=0)
    assert (again.seal, again.fitted) == (first.seal, 0)
    assert contents(folder) == before


@pytest.mark.parametrize("emptied", [REGIONS, IMAGE_TABLE, GALLERY])
def test_what_a_power_cut_has_emptied_is_made_again_and_equal(run, emptied):
    first = run()
    folder = first.folder
    before = contents(folder)
    folder.write(emptied, b"")
    again = run(more=0)
    assert (again.seal, again.fitted) == (first.seal, 0)
    assert contents(folder) == before


def test_what_is_sealed_has_been_flushed_to_a_local_disk(run, monkeypatch):
    folder, flushed = run().folder, []
    monkeypatch.setattr(os, "sync", lambda: flushed.append((read_seal(folder), written_maps(folder))))
    assert run().seal.images == 2
    assert flushed == [(None, {0, 1})]
