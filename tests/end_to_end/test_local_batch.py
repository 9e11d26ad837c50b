"""The command line on local folders, with its real processes: Prefect server, Dask workers.

The first batch, and the commands that are stopped, start a Prefect server of their own; the others share one.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray
from PIL import Image
from pyarrow import parquet

from infra.local.processes import MARK, end_all, marked
from ssdnet_core.synthetic import sample
from tests.conftest import QUICK, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_server")]

FEW = [*QUICK, "--workers", "1"]
"""For a handful of images: most of such a command is the start of its workers."""
SLOW = ["--set", "fit.steps=300", "--set", "working_size=64", "--set", "fit.crop=64"]


def write_night(folder: Path, *, images: int, size: int = 96) -> None:
    folder.mkdir(parents=True)
    for number in range(images):
        made = sample("weave", "hole" if number % 2 else "none", size=(size, size), seed=number)
        Image.fromarray(made.pixels).save(folder / f"{number:03d}.png")


def seal_of(batch: Path) -> dict:
    return json.loads((batch / "seal.json").read_text())


def summary_of(finished: subprocess.CompletedProcess[str]) -> dict:
    assert finished.stdout, finished.stderr
    return json.loads(finished.stdout)


@pytest.fixture
def start_alone(shared_server, tmp_path):
    """Start a command with a Prefect server of its own, and mark it, that server and its workers with the folder."""
    environment = {**os.environ, MARK: str(tmp_path)}
    del environment["PREFECT_API_URL"]

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "flows", *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    yield start
    end_all(marked(tmp_path))


@pytest.fixture(scope="module")
def undisturbed(ssdnet, tmp_path_factory):
    """A night, inspected in one go."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_night(folder / "night", images=24)
    finished = ssdnet("inspect", folder / "night", "--results", folder / "results", "--batch", "n", "--json", *QUICK)
    assert finished.returncode == 0, finished.stderr
    return folder, summary_of(finished)


def test_a_folder_becomes_a_sealed_batch_with_maps_figures_regions_and_a_gallery(undisturbed):
    folder, summary = undisturbed
    batch = folder / "results" / "n"
    assert summary["images"] == summary["inspected"] == summary["fitted"] == 24
    assert seal_of(batch)["digest"] == summary["digest"]
    with xarray.open_zarr(batch / "maps.zarr") as store:
        assert store.anomaly_map.dims == ("image", "y", "x")
        assert store.anomaly_map.shape == (24, 64, 64)
        assert list(store.image.values[:2]) == ["000.png", "001.png"]
        assert np.isfinite(store.anomaly_map.values).all()
        assert int(store.defective.sum()) == summary["defective"]
        assert (store.status.values == 1).all()
    assert len(parquet.read_table(batch / "regions.parquet")) == summary["regions"]
    assert "005.png" in (batch / "report" / "index.html").read_text()


def test_the_same_command_again_fits_nothing_and_changes_nothing(undisturbed, ssdnet):
    folder, summary = undisturbed
    before = {path: path.stat().st_mtime_ns for path in (folder / "results" / "n" / "maps.zarr").rglob("*")}
    again = ssdnet("inspect", folder / "night", "--results", folder / "results", "--batch", "n", "--json", *QUICK)
    assert again.returncode == 0, again.stderr
    assert summary_of(again)["fitted"] == 0
    assert summary_of(again)["digest"] == summary["digest"]
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "results" / "n" / "maps.zarr").rglob("*")}


def test_a_grown_folder_costs_only_its_new_images(undisturbed, ssdnet, tmp_path):
    folder, _ = undisturbed
    shutil.copytree(folder / "results", tmp_path / "results")
    late = [folder / "night" / "003-later.png", folder / "night" / "010-later.png"]
    for path in late:
        shutil.copy(folder / "night" / "001.png", path)
    try:
        finished = ssdnet(
            "inspect", folder / "night", "--results", tmp_path / "results", "--batch", "n", "--json", *FEW
        )
    finally:
        for path in late:
            path.unlink()
    grown = summary_of(finished)
    assert (grown["fitted"], grown["images"]) == (2, 26)
    with xarray.open_zarr(Path(grown["folder"]) / "maps.zarr") as store:
        assert list(store.image.values[-2:]) == ["003-later.png", "010-later.png"]
        assert np.isfinite(store.anomaly_map.values).all()


def test_a_run_admits_no_other_beside_it_and_killed_half_way_goes_on_where_it_stopped_and_ends_equal(
    undisturbed, ssdnet, tmp_path, start_alone
):
    folder, summary = undisturbed
    command = ["inspect", folder / "night", "--results", tmp_path, "--batch", "n", "--json", *QUICK]
    records = tmp_path / "n" / "records"
    killed = start_alone(*command)
    try:
        wait_for(lambda: len(list(records.glob("*.json"))) >= 5, what="five records", timeout=600)
        killed.send_signal(signal.SIGSTOP)  # Or it may have finished before another asks for the batch.
        refused = ssdnet(*command)
    finally:
        killed.kill()
        killed.communicate()
    assert refused.returncode == 1
    assert f"process {killed.pid}" in refused.stderr
    wait_for(lambda: not marked(tmp_path), what="the killed run's server and workers to be gone", timeout=60)
    assert not (tmp_path / "n" / "seal.json").exists()
    done = len(list(records.glob("*.json")))
    resumed = ssdnet(*command)
    assert resumed.returncode == 0, resumed.stderr
    told = summary_of(resumed)
    assert (told["fitted"], told["digest"]) == (24 - done, summary["digest"])
    with (
        xarray.open_zarr(tmp_path / "n" / "maps.zarr") as resumed_store,
        xarray.open_zarr(folder / "results" / "n" / "maps.zarr") as undisturbed_store,
    ):
        np.testing.assert_array_equal(resumed_store.anomaly_map.values, undisturbed_store.anomaly_map.values)


def test_a_batch_that_was_interrupted_within_a_group_goes_on_in_groups_with_what_is_missing(
    undisturbed, ssdnet, tmp_path
):
    folder, summary = undisturbed
    shutil.copytree(folder / "results", tmp_path / "results")
    batch = tmp_path / "results" / "n"
    (batch / "seal.json").unlink()
    missing = [2, 3, 5, 7, 11, 13, 17]
    for index in missing:
        (batch / "records" / f"{index:07d}.json").unlink()
    resumed = ssdnet(
        "inspect", folder / "night", "--results", tmp_path / "results", "--batch", "n", "--json", *QUICK,
        "--group", "3", "--workers", "1",
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    told = summary_of(resumed)
    assert (told["folder"], told["fitted"], told["inspected"]) == (str(batch), len(missing), 24)
    assert told["defective"] == summary["defective"]
    with (
        xarray.open_zarr(batch / "maps.zarr") as resumed_store,
        xarray.open_zarr(folder / "results" / "n" / "maps.zarr") as undisturbed_store,
    ):
        maps, before = resumed_store.anomaly_map.values, undisturbed_store.anomaly_map.values
        kept = np.delete(np.arange(24), missing)
        np.testing.assert_array_equal(maps[kept], before[kept])
        # Grouped kernels add up in another order, in bfloat16 where the processor has it.
        assert all(np.corrcoef(maps[index].ravel(), before[index].ravel())[0, 1] > 0.9 for index in missing)


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(lambda running: os.killpg(running.pid, signal.SIGINT), id="ctrl-c"),
        pytest.param(lambda running: running.terminate(), id="sigterm"),
        pytest.param(lambda running: running.send_signal(signal.SIGHUP), id="sighup"),
    ],
)
def test_a_signal_to_end_stops_the_run_cleanly_and_says_how_to_go_on(undisturbed, tmp_path, start_alone, stop):
    folder, _ = undisturbed
    records = tmp_path / "n" / "records"
    running = start_alone("inspect", folder / "night", "--results", tmp_path, "--batch", "n", *SLOW)
    wait_for(lambda: any(records.glob("*.json")), what="the first record", timeout=600)
    stop(running)
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 1
    assert "run the same command again to go on" in errors
    assert "Traceback" not in errors
    wait_for(lambda: not marked(tmp_path), what="its server and workers to be gone", timeout=60)


@pytest.fixture(scope="module")
def mixed_night(tmp_path_factory):
    """Good images beside everything that goes wrong."""
    folder = tmp_path_factory.mktemp("mixed") / "night"
    write_night(folder, images=2)
    png = (folder / "000.png").read_bytes()
    (folder / "truncated.png").write_bytes(png[: len(png) // 2])
    (folder / "text.png").write_text("this is no picture")
    (folder / "empty.png").write_bytes(b"")
    Image.new("L", (1, 1)).save(folder / "one-pixel.png")
    Image.new("RGB", (96, 96), (90, 120, 150)).save(folder / "constant.png")
    grey = sample("leather", "hole", size=(96, 128), seed=3).pixels.mean(axis=2)
    Image.fromarray((grey * 257).astype(np.uint16)).save(folder / "sixteen.tiff")
    Image.fromarray(sample("wood", "none", size=(96, 96)).pixels).save(folder / "<b>&'\"[red].png")
    (folder / "notes.txt").write_text("no image, and not listed as one")
    (folder / os.fsdecode("Prüfung.png".encode("latin-1"))).write_bytes(png)
    (folder / "link.png").symlink_to("gone.png")
    return folder


def test_every_image_of_a_mixed_folder_is_accounted_for(mixed_night, ssdnet, tmp_path):
    finished = ssdnet("inspect", mixed_night, "--results", tmp_path, "--json", *FEW)
    assert finished.returncode == 3, finished.stderr
    summary = summary_of(finished)
    broken = {"truncated.png", "text.png", "empty.png", "one-pixel.png"}
    assert set(summary["failures"]) == {*broken, r"Pr\xfcfung.png", "link.png"}
    assert "truncated" in summary["failures"]["truncated.png"]
    assert "this is" in summary["failures"]["text.png"]
    assert "empty" in summary["failures"]["empty.png"]
    assert "1 x 1" in summary["failures"]["one-pixel.png"]
    assert summary["failures"][r"Pr\xfcfung.png"].endswith("its name is not UTF-8: rename it")
    assert summary["failures"]["link.png"].endswith("there is no such file, folder or bucket")
    assert (summary["images"], summary["inspected"], summary["failed"]) == (11, 5, 6)
    assert seal_of(Path(summary["folder"]))["passing"] == 0, "none of them is tried again"
    page = (Path(summary["folder"]) / "report" / "index.html").read_text()
    assert "<b>&'" not in page
    assert "&lt;b&gt;" in page
    assert page.count("<figure id=") == 5
    records = {path: path.stat().st_mtime_ns for path in (Path(summary["folder"]) / "records").iterdir()}
    again = ssdnet("inspect", mixed_night, "--results", tmp_path, *FEW)
    assert again.returncode == 3, again.stderr
    assert "[red].png" in again.stdout, "on the terminal a strange name stands unharmed"
    assert records == {path: path.stat().st_mtime_ns for path in (Path(summary["folder"]) / "records").iterdir()}


def test_an_input_without_images_is_wrong_usage(ssdnet, tmp_path):
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "x.txt").write_text("")
    finished = ssdnet("inspect", tmp_path / "night", "--results", tmp_path / "out")
    assert finished.returncode == 2
    assert "1 other file (1 .txt)" in finished.stderr
    assert not (tmp_path / "out").exists()


def test_an_evaluation_of_a_made_night_stands_until_the_truth_changes(ssdnet, tmp_path):
    night = tmp_path / "night"
    assert ssdnet("sample", night, "--images", "6").returncode == 0
    options = ["--workers", "1", "--set", "fit.steps=30"]
    command = ["evaluate", night, "--results", tmp_path / "results", "--json", *options]
    first = summary_of(ssdnet(*command))
    mean = first["evaluation"]["mean"]
    assert (mean["defective"], mean["good"]) == (4, 2)
    assert mean["auroc"] > 0.9
    written = Path(first["folder"]) / "evaluation.json"
    assert len(json.loads(written.read_text())["images"]) == 6
    before = written.stat().st_mtime_ns
    again = summary_of(ssdnet(*command))
    assert again["evaluation"] == first["evaluation"]
    assert written.stat().st_mtime_ns == before
    for mask in night.rglob("*_mask.png"):
        mask.unlink()
    unmeasured = ssdnet(*command)
    assert unmeasured.returncode == 3
    changed = summary_of(unmeasured)["evaluation"]
    assert (changed["mean"]["defective"], changed["mean"]["unmeasured"]) == (0, 4)
    assert written.stat().st_mtime_ns > before


def test_the_gallery_is_drawn_again_on_demand(undisturbed, ssdnet, tmp_path):
    folder, _ = undisturbed
    shutil.copytree(folder / "results" / "n", tmp_path / "n")
    shutil.rmtree(tmp_path / "n" / "report")
    finished = ssdnet("report", tmp_path / "n", "--pictures", "3")
    assert finished.returncode == 0, finished.stderr
    page = (tmp_path / "n" / "report" / "index.html").read_text()
    assert page.count("<figure id=") == 3
    with Image.open(io.BytesIO(next((tmp_path / "n" / "report" / "images").glob("*.jpg")).read_bytes())) as picture:
        assert picture.size == (96, 96)
