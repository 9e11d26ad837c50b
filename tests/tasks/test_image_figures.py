import shutil

import numpy as np
import pytest
import xarray
import zarr

from tasks.batch_results import BatchResults
from tasks.image_figures import FIGURES, STATUSES, has_figures, read_figures, write_figures
from tasks.maps import prepare_maps, write_map
from tasks.records import failed_record
from tasks.storage import Storage
from tasks.storage_answers import StorageError
from tests.tasks.mapped import SHAPES, manifest_of, random_map, record_of


@pytest.fixture
def folder(tmp_path):
    return Storage(str(tmp_path))


def test_xarray_shows_a_labelled_dataset(folder):
    manifest = manifest_of(SHAPES)
    prepare_maps(folder, manifest)
    for entry in manifest.entries[:2]:
        write_map(folder, entry.index, anomaly_map=random_map(entry))
    records = {0: record_of(manifest.entries[0], defective=True), 1: record_of(manifest.entries[1])}
    records[2] = failed_record(manifest.entries[2], "it is broken", fingerprint="f", lasting=True)
    write_figures(folder, BatchResults(manifest, records))
    with xarray.open_zarr(f"{folder.address}/maps.zarr") as store:
        assert store.anomaly_map.dims == ("image", "y", "x")
        assert dict(store.sizes) == {"image": 3, "y": 256, "x": 437}
        assert set(FIGURES) | {"anomaly_map"} == set(store.data_vars)
        assert bool(store.sel(image="0.png").defective)
        assert [STATUSES[value] for value in store.status.values] == ["inspected", "inspected", "failed"]
        assert np.isnan(store.score.values).tolist() == [False, False, True]
        assert store.error.values[2] == "it is broken"
        assert np.isnan(store.anomaly_map[1, 40:].values).all()
        assert np.isnan(store.anomaly_map[2].values).all()
        assert store.anomaly_map.encoding["chunks"] == (1, 256, 437)


def test_an_image_that_is_gone_is_marked_absent(folder):
    manifest = manifest_of(SHAPES[:2])
    prepare_maps(folder, manifest)
    gone = manifest.merged(manifest.entries[:1])
    write_figures(folder, BatchResults(gone, {0: record_of(manifest.entries[0]), 1: record_of(manifest.entries[1])}))
    with xarray.open_zarr(f"{folder.address}/maps.zarr") as store:
        assert [STATUSES[value] for value in store.status.values] == ["inspected", "absent"]


def test_figures_are_read_as_they_are_now_whatever_an_earlier_run_consolidated(folder, monkeypatch):
    for shapes, stopped in ((SHAPES[:2], False), (SHAPES, True)):
        manifest = manifest_of(shapes)
        prepare_maps(folder, manifest)
        if stopped:
            monkeypatch.setattr(zarr, "consolidate_metadata", lambda store: None)
        write_figures(folder, BatchResults(manifest, {entry.index: record_of(entry) for entry in manifest.entries}))
    assert len(read_figures(folder)["score"]) == len(SHAPES)


@pytest.mark.filterwarnings("error")
def test_stray_files_in_the_store_are_no_figures_and_nothing_to_warn_of(folder):
    manifest = manifest_of(SHAPES)
    prepare_maps(folder, manifest)
    for stray in (".DS_Store", "._zarr.json", "anomaly_map/.DS_Store", "score/._c", "score/c/.DS_Store", ".Trash/x"):
        folder.write(f"maps.zarr/{stray}", b"Mac OS X")
    write_figures(folder, BatchResults(manifest, {entry.index: record_of(entry) for entry in manifest.entries}))
    assert has_figures(folder)
    with xarray.open_zarr(f"{folder.address}/maps.zarr") as store:
        assert set(FIGURES) | {"anomaly_map"} == set(store.data_vars)


def test_figures_that_cannot_be_written_are_an_error_that_names_where(folder, tmp_path):
    manifest = manifest_of(SHAPES)
    prepare_maps(folder, manifest)
    records = {entry.index: record_of(entry) for entry in manifest.entries}
    write_figures(folder, BatchResults(manifest, records))
    shutil.rmtree(tmp_path / "maps.zarr" / "score")
    (tmp_path / "maps.zarr" / "score").write_bytes(b"in the way")
    with pytest.raises(StorageError, match=r"cannot write the figures to .*maps\.zarr: "):
        write_figures(folder, BatchResults(manifest, records))


@pytest.mark.parametrize("emptied", [False, True])
@pytest.mark.parametrize("lost", ["zarr.json", "score/zarr.json", "y/zarr.json", "image/zarr.json", "defective/c/0"])
def test_figures_are_there_only_if_all_of_them_are(folder, lost, emptied):
    manifest = manifest_of(SHAPES)
    assert not has_figures(folder)
    prepare_maps(folder, manifest)
    assert not has_figures(folder)
    write_figures(folder, BatchResults(manifest, {}))
    assert has_figures(folder)
    if emptied:
        folder.write(f"maps.zarr/{lost}", b"")
    else:
        folder.delete(f"maps.zarr/{lost}")
    assert not has_figures(folder)


def test_a_store_that_does_not_tell_is_an_error_and_not_a_lack_of_figures(folder, monkeypatch):
    answers = {"maps.zarr/zarr.json": b"{", "maps.zarr/score/zarr.json": StorageError("no answer")}
    monkeypatch.setattr(Storage, "read_many", lambda storage, keys, end: answers)
    with pytest.raises(StorageError, match="no answer"):
        has_figures(folder)
