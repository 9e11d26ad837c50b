"""A night on a Dask cluster whose workers come and go."""

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray

from tasks.sample_night import write_line_night
from tasks.storage import Storage
from tests.conftest import QUICK, wait_for
from tests.dask_processes import dask_processes

pytestmark = pytest.mark.slow

IMAGES = 12


def test_a_worker_killed_and_another_added_in_mid_night_give_the_undisturbed_nights_results(ssdnet, tmp_path):
    night = tmp_path / "night"
    write_line_night(Storage(str(night)), images=IMAGES)
    command = ["inspect", night, "--batch", "n", "--json", *QUICK, "--set", "fit.steps=20"]
    records = tmp_path / "disturbed" / "n" / "records"

    def done() -> int:
        return len(list(records.glob("*.json"))) if records.exists() else 0

    with dask_processes(tmp_path / "dask") as cluster:
        victim = cluster.add_worker("victim")
        running = subprocess.Popen(
            [
                *(sys.executable, "-m", "flows", *map(str, command)),
                *("--results", str(tmp_path / "disturbed"), "--scheduler", cluster.address),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: done() >= 3, what="three records", timeout=180)
        cluster.kill(victim)
        assert done() < IMAGES
        cluster.add_worker("another")
        output, errors = running.communicate(timeout=300)
    assert running.returncode == 0, errors
    disturbed = json.loads(output)

    undisturbed = json.loads(ssdnet(*command, "--results", tmp_path / "undisturbed").stdout)
    assert disturbed["inspected"] == undisturbed["inspected"] == IMAGES
    assert disturbed["digest"] == undisturbed["digest"]
    assert (tmp_path / "disturbed" / "n" / "seal.json").exists()
    with (
        xarray.open_zarr(tmp_path / "disturbed" / "n" / "maps.zarr") as one,
        xarray.open_zarr(tmp_path / "undisturbed" / "n" / "maps.zarr") as other,
    ):
        np.testing.assert_array_equal(one.anomaly_map.values, other.anomaly_map.values)
        assert (one.status.values == 1).all()
