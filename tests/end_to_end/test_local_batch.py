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
def own_server(shared_server, monkeypatch):
    """Have the commands of a test start a Prefect server themselves."""
    monkeypatch.delenv("PREFECT_API_URL")


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


def test_other_settings_do_not_overwrite_earlier_results(undisturbed, ssdnet, tmp_path):
    folder, summary = undisturbed
    shutil.copytree(folder / "results", tmp_path / "results")
    other = ssdnet(
        "inspect", folder / "night", "--results", tmp_path / "results", "--batch", "n", "--json", *QUICK,
        "--set", "seed=1",
    )  # fmt: skip
    assert other.returncode == 0, other.stderr
    assert summary_of(other)["folder"] != str(tmp_path / "results" / "n")
    assert summary_of(other)["fitted"] == 24
    assert seal_of(tmp_path / "results" / "n")["digest"] == summary["digest"]


def test_a_grown_folder_costs_only_its_new_images(undisturbed, ssdnet, tmp_path):
    folder, _ = undisturbed
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "results")
    night = tmp_path / "copy" / "night"
    late = [night / "003.png", night / "010.png"]
    for path in late:
        path.rename(path.with_suffix(".later"))
    command = ["inspect", night, "--results", tmp_path / "results", "--json", *QUICK]
    assert summary_of(ssdnet(*command))["fitted"] == 22
    for path in late:
        path.with_suffix(".later").rename(path)
    grown = summary_of(ssdnet(*command))
    assert (grown["fitted"], grown["images"]) == (2, 24)
    with xarray.open_zarr(Path(grown["folder"]) / "maps.zarr") as store:
        assert list(store.image.values[-2:]) == ["003.png", "010.png"]
        assert np.isfinite(store.anomaly_map.values).all()


@pytest.mark.parametrize(
    ("damaged", "fitted"),
    [(["maps.zarr"], 24), (["seal.json", "maps.zarr/anomaly_map/c/3"], 1), (["report", "regions.parquet"], 0)],
)
def test_what_is_gone_from_a_finished_batch_is_made_again_and_equal(undisturbed, ssdnet, tmp_path, damaged, fitted):
    folder, summary = undisturbed
    shutil.copytree(folder / "results", tmp_path / "results")
    batch = tmp_path / "results" / "n"
    for name in damaged:
        shutil.rmtree(batch / name) if (batch / name).is_dir() else (batch / name).unlink()
    again = summary_of(
        ssdnet("inspect", folder / "night", "--results", tmp_path / "results", "--batch", "n", "--json", *QUICK)
    )
    assert (again["fitted"], again["digest"]) == (fitted, summary["digest"])
    assert again == {
        **summary,
        "fitted": fitted,
        "folder": str(batch),
        "report": again["report"],
        "fit_seconds": again["fit_seconds"],
    }
    assert Path(again["report"]).exists()
    assert len(parquet.read_table(batch / "regions.parquet")) == summary["regions"]
    with xarray.open_zarr(batch / "maps.zarr") as store, xarray.open_zarr(folder / "results/n/maps.zarr") as first:
        np.testing.assert_array_equal(store.anomaly_map.values, first.anomaly_map.values)


def test_a_run_killed_half_way_goes_on_where_it_stopped_and_ends_equal(undisturbed, ssdnet, tmp_path, own_server):
    folder, summary = undisturbed
    command = ["inspect", folder / "night", "--results", tmp_path, "--batch", "n", "--json", *QUICK]
    records = tmp_path / "n" / "records"
    killed = subprocess.Popen(
        [sys.executable, "-m", "flows", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: records.exists() and len(list(records.glob("*.json"))) >= 5, what="five records", timeout=120)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    wait_for(lambda: not processes_of(killed.pid), what="the killed run's processes to be gone", timeout=30)
    assert not (tmp_path / "n" / "seal.json").exists()
    done = len(list(records.glob("*.json")))
    resumed = ssdnet(*command)
    assert resumed.returncode == 0, resumed.stderr
    assert summary_of(resumed)["fitted"] == 24 - done
    assert summary_of(resumed)["digest"] == summary["digest"]
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


def processes_of(session: int) -> list[int]:
    """Processes of a session, and those that its run moved to sessions of their own."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                environment = (process / "environ").read_bytes()
                fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(process.name))
            del environment
    return found


def test_ctrl_c_stops_the_run_cleanly_and_says_how_to_go_on(undisturbed, tmp_path, own_server):
    folder, _ = undisturbed
    records = tmp_path / "n" / "records"
    running = subprocess.Popen(
        [sys.executable, "-m", "flows", "inspect", folder / "night", "--results", tmp_path, "--batch", "n", *SLOW],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: records.exists() and any(records.glob("*.json")), what="the first record", timeout=120)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "run the same command again to go on" in errors
    assert "Traceback" not in errors
    assert not processes_of(running.pid)


def test_two_runs_of_one_batch_do_not_mix(undisturbed, tmp_path):
    folder, summary = undisturbed
    command = [
        sys.executable,
        "-m",
        "flows",
        "inspect",
        folder / "night",
        "--results",
        tmp_path,
        "--batch",
        "n",
        *QUICK,
    ]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (tmp_path / "n" / "leases").exists(), what="the first run's lease", timeout=120)
    second = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert second.returncode == 1
    assert f"process {first.pid}" in second.stderr
    _, errors = first.communicate(timeout=200)
    assert first.returncode == 0, errors
    assert seal_of(tmp_path / "n")["digest"] == summary["digest"]


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
    return folder


def test_every_image_of_a_mixed_folder_is_accounted_for(mixed_night, ssdnet, tmp_path):
    finished = ssdnet("inspect", mixed_night, "--results", tmp_path, "--json", *FEW)
    assert finished.returncode == 3, finished.stderr
    summary = summary_of(finished)
    assert set(summary["failures"]) == {"truncated.png", "text.png", "empty.png", "one-pixel.png"}
    assert "truncated" in summary["failures"]["truncated.png"]
    assert "this is" in summary["failures"]["text.png"]
    assert "empty" in summary["failures"]["empty.png"]
    assert "1 x 1" in summary["failures"]["one-pixel.png"]
    assert (summary["images"], summary["inspected"], summary["failed"]) == (9, 5, 4)
    page = (Path(summary["folder"]) / "report" / "index.html").read_text()
    assert "<b>&'" not in page
    assert "&lt;b&gt;" in page
    assert page.count("<figure id=") == 5
    again = ssdnet("inspect", mixed_night, "--results", tmp_path, "--json", *FEW)
    assert (again.returncode, summary_of(again)["fitted"]) == (3, 0)


def test_a_batch_with_a_file_name_that_is_not_utf8_and_a_broken_link_is_sealed_once_and_names_them(ssdnet, tmp_path):
    write_night(tmp_path / "night", images=2)
    (tmp_path / "night" / "link.png").symlink_to("gone.png")
    (tmp_path / "night" / "000.png").rename(tmp_path / "night" / os.fsdecode("Prüfung.png".encode("latin-1")))
    command = ["inspect", tmp_path / "night", "--results", tmp_path / "results", "--json", *FEW]
    finished = ssdnet(*command)
    assert finished.returncode == 3, finished.stderr
    summary = summary_of(finished)
    assert summary["failures"].keys() == {r"Pr\xfcfung.png", "link.png"}
    assert summary["failures"][r"Pr\xfcfung.png"].endswith("its name is not UTF-8: rename it")
    assert summary["failures"]["link.png"].endswith("there is no such file, folder or bucket")
    seal = seal_of(Path(summary["folder"]))
    assert (seal["inspected"], seal["passing"]) == (1, 0)
    assert summary_of(ssdnet(*command))["fitted"] == 0


def test_the_terminal_shows_the_summary_of_strange_file_names_unharmed(mixed_night, ssdnet, tmp_path):
    finished = ssdnet("inspect", mixed_night / "<b>*", "--results", tmp_path, *FEW)
    assert finished.returncode == 0, finished.stderr
    assert "[red].png" in finished.stdout


def test_evaluate_measures_a_made_night(ssdnet, tmp_path):
    assert ssdnet("sample", tmp_path / "night", "--images", "6").returncode == 0
    options = ["--workers", "1", "--set", "fit.steps=30"]
    finished = ssdnet("evaluate", tmp_path / "night", "--results", tmp_path / "results", "--json", *options)
    assert finished.returncode == 0, finished.stderr
    mean = summary_of(finished)["evaluation"]["mean"]
    assert (mean["defective"], mean["good"]) == (4, 2)
    assert mean["auroc"] > 0.9
    batch = Path(summary_of(finished)["folder"])
    assert len(json.loads((batch / "evaluation.json").read_text())["images"]) == 6


def test_an_evaluation_stands_until_the_truth_changes(ssdnet, tmp_path):
    night = tmp_path / "night"
    assert ssdnet("sample", night, "--images", "2").returncode == 0
    command = ["evaluate", night, "--results", tmp_path / "results", "--json", *FEW]
    first = summary_of(ssdnet(*command))
    written = Path(first["folder"]) / "evaluation.json"
    before = written.stat().st_mtime_ns
    again = summary_of(ssdnet(*command))
    assert again["evaluation"] == first["evaluation"]
    assert written.stat().st_mtime_ns == before
    for mask in night.rglob("*_mask.png"):
        mask.unlink()
    changed = summary_of(ssdnet(*command))["evaluation"]
    assert (changed["mean"]["defective"], changed["mean"]["unmeasured"]) == (0, 1)
    assert written.stat().st_mtime_ns > before


def test_an_alpha_channel_leaves_pixels_out(ssdnet, tmp_path):
    (tmp_path / "night").mkdir()
    made = sample("leather", "none", size=(96, 96), seed=1).pixels
    spoilt = made.copy()
    spoilt[20:50, 20:50] = 255
    alpha = np.full((96, 96, 1), 255, dtype=np.uint8)
    alpha[16:54, 16:54] = 0
    for name, pixels in (("clean", made), ("spoilt", spoilt)):
        Image.fromarray(np.concatenate([pixels, alpha], axis=2)).save(tmp_path / "night" / f"{name}.png")
    finished = ssdnet("inspect", tmp_path / "night", "--results", tmp_path / "results", "--json", *FEW)
    assert finished.returncode == 0, finished.stderr
    records = Path(summary_of(finished)["folder"]) / "records"
    digests = {json.loads(path.read_text())["map_digest"] for path in records.glob("*.json")}
    assert len(digests) == 1


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
