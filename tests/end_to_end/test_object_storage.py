"""The same command against an S3 server in a process of its own."""

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray
from PIL import Image

from ssdnet_core.synthetic import sample
from tasks.discovery import discover, list_images
from tasks.nights import Night, count_images, days_on_storage
from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError, StorageError
from tests.conftest import QUICK

pytestmark = pytest.mark.slow

ONE_WORKER = [*QUICK, "--workers", "1"]


@pytest.fixture(scope="module")
def bucket(s3_server):
    filesystem = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    filesystem.mkdir("line-1")
    filesystem.mkdir("results")
    return filesystem


@pytest.mark.usefixtures("shared_server")
@pytest.mark.parametrize("group", [1, 2])
def test_s3_in_and_out_gives_the_results_of_the_local_folder(bucket, ssdnet, tmp_path, group):
    night = tmp_path / "night"
    night.mkdir()
    for number in range(4):
        made = sample("tile", "hole" if number % 2 else "none", size=(96, 96), seed=number)
        Image.fromarray(made.pixels).save(night / f"{number}.png")
    (night / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    bucket.put(f"{night}/", "line-1/2026-11-22/", recursive=True)

    local = ssdnet("inspect", night, "--results", tmp_path / "results", "--json", *ONE_WORKER, "--group", group)
    results = f"s3://results/lab-{group}"
    command = ["inspect", "s3://line-1/2026-11-22", "--results", results, "--json", *ONE_WORKER, "--group", group]
    remote = ssdnet(*command)

    assert remote.returncode == local.returncode == 3, remote.stderr
    here, there = json.loads(local.stdout), json.loads(remote.stdout)
    assert there["batch"] == "line-1-2026-11-22"
    assert there["digest"] == here["digest"]
    with (
        xarray.open_zarr(Path(here["folder"]) / "maps.zarr") as local_store,
        xarray.open_zarr(f"{results}/line-1-2026-11-22/maps.zarr") as remote_store,
    ):
        np.testing.assert_array_equal(local_store.anomaly_map.values, remote_store.anomaly_map.values)
        assert list(local_store.image.values) == list(remote_store.image.values)
    assert bucket.exists(f"{results}/line-1-2026-11-22/report/index.html")


def test_of_many_writers_of_one_object_one_creates_it(bucket):
    code = (
        "import sys; from tasks.storage import Storage; "
        "print(Storage('s3://results').create('seal', sys.argv[1].encode()))"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    answers = [writer.communicate()[0].strip() for writer in writers]
    assert sorted(answers) == ["False", "False", "False", "True"]
    assert Storage("s3://results").read("seal") == str(answers.index("True")).encode()


@pytest.mark.parametrize("end", [None, 4096])
def test_an_empty_object_reads_as_empty_among_others(bucket, end):
    results = Storage("s3://results/parts")
    results.write("empty", b"")
    results.write("full", b"full")
    contents = results.read_many(["empty", "full", "missing"], end=end)
    assert (contents["empty"], contents["full"]) == (b"", b"full")
    assert isinstance(contents["missing"], StorageError)


def test_an_empty_image_is_called_empty_as_in_a_folder(bucket, tmp_path):
    problems = []
    for night in (Storage(str(tmp_path)), Storage("s3://line-1/empty")):
        night.write("0.png", b"")
        [entry] = discover(night, list_images(night))
        problems.append(entry.problem)
    assert problems == ["empty file (0 bytes): transfer or write the file again"] * 2


def test_an_object_that_marks_a_folder_is_none_of_its_files(bucket):
    for key in ("markers/2026-11-22/", "markers/2026-11-23/", "markers/2026-11-23/a.png", "markers/2026-11-23/b/"):
        bucket.call_s3("put_object", Bucket="line-1", Key=key, Body=b"")
    days = days_on_storage("s3://line-1", "markers")
    counts = [count_images("s3://line-1", Night("markers", date(2026, 11, day)), days=days) for day in (22, 23)]
    assert counts == [0, 1]
    night = Storage("s3://line-1/markers/2026-11-23")
    [image] = night.list()
    assert (image.key, night.read_with_etag("a.png")) == ("a.png", (b"", image.etag))
    with pytest.raises(MissingObjectError):
        Storage("s3://line-1/markers").read_with_etag("2026-11-23")


def test_a_glob_matches_in_a_bucket_what_it_does_in_a_folder(bucket, tmp_path):
    for night in (Storage(str(tmp_path)), Storage("s3://line-1/globs")):
        for key in ("a1.png", "b1.png", "deep/a2.png", "deep/er/a3.png"):
            night.write(key, b"x")
        found = {pattern: [entry.key for entry in night.list(pattern)] for pattern in ("a*", "*/*.png", "**/a*.png")}
        assert found == {
            "a*": ["a1.png"],
            "*/*.png": ["deep/a2.png"],
            "**/a*.png": ["a1.png", "deep/a2.png", "deep/er/a3.png"],
        }


def test_a_bucket_that_is_not_there_is_named(bucket):
    with pytest.raises(StorageError, match="s3://nowhere/at-all"):
        list_images(Storage("s3://nowhere/at-all"))


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "check AWS_ENDPOINT_URL"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "no credentials: set AWS_ACCESS_KEY_ID"),
    ],
    ids=["server", "credentials"],
)
def test_what_is_missing_is_named(s3_server, changes, advice):
    elsewhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    environment = {**os.environ, **elsewhere, **changes}
    finished = subprocess.run(
        [sys.executable, "-c", "from tasks.storage import Storage; Storage('s3://line-1/night').list()"],
        env={name: value for name, value in environment.items() if value is not None},
        capture_output=True,
        text=True,
    )
    message = finished.stderr.splitlines()[-1]
    assert message.startswith("tasks.storage_answers.NoAnswerError: cannot list s3://line-1/night: ")
    assert advice in message
