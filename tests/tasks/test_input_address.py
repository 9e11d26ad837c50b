import os

import fsspec
import pytest

from tasks.input_address import split_input
from tasks.storage import Storage
from tasks.storage_answers import StorageError
from tests.tasks.small_images import write_image
from tests.tasks.test_discovery import keys


def test_a_glob_and_a_single_file_are_inputs_too(tmp_path):
    for name in ("a1.png", "a2.png", "b1.png", "deep/a3.png"):
        write_image(tmp_path / name)
    assert keys(*split_input(f"{tmp_path}/a*.png")) == ["a1.png", "a2.png"]
    assert keys(*split_input(f"{tmp_path}/**/a*.png")) == ["a1.png", "a2.png", "deep/a3.png"]
    assert keys(*split_input(f"{tmp_path}/b1.png")) == ["b1.png"]


def test_a_folder_whose_name_looks_like_a_glob_is_a_folder(tmp_path):
    write_image(tmp_path / "night [1]" / "a.png")
    assert keys(*split_input(f"{tmp_path}/night [1]")) == ["a.png"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    for name in ("img[1].png", "img1.png"):
        write_image(tmp_path / "set [v2]" / name)
    assert keys(*split_input(f"{tmp_path}/set [v2]/img[1].png")) == ["img[1].png"]


def test_a_glob_below_a_folder_whose_name_looks_like_one_matches_there_only(tmp_path):
    for name in ("set [v2]/a1.png", "set [v2]/b1.png", "set v/a1.png"):
        write_image(tmp_path / name)
    assert keys(*split_input(f"{tmp_path}/set [v2]/a*.png")) == ["a1.png"]


def test_a_glob_on_s3_keeps_its_bucket():
    source, pattern = split_input("s3://bucket/2026/*.png")
    assert (source.address, pattern) == ("s3://bucket/2026", "*.png")


@pytest.fixture
def s3_bucket(s3_server):
    fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True).mkdir("single")
    return Storage("s3://single")


@pytest.mark.slow
def test_a_single_image_of_a_bucket_is_an_input_and_a_folder_of_its_name_another(s3_bucket):
    for key in ("night/000.png", "night/0000.png", "night/folder.png/1.jpg"):
        s3_bucket.write(key, b"x")
    found = {name: split_input(f"{s3_bucket.address}/night/{name}") for name in ("000.png", "folder.png", "001.png")}
    night = f"{s3_bucket.address}/night"
    assert {name: (source.address, pattern) for name, (source, pattern) in found.items()} == {
        "000.png": (night, "000.png"),
        "folder.png": (f"{night}/folder.png", ""),
        "001.png": (f"{night}/001.png", ""),
    }
    assert keys(*found["000.png"]) == ["000.png"]
    assert keys(*found["folder.png"]) == ["1.jpg"]
    with pytest.raises(StorageError, match=r"cannot list .*/001\.png: there is no such"):
        keys(*found["001.png"])


def test_what_is_neither_a_file_nor_a_folder_is_no_input(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match=rf"cannot read {tmp_path}/pipe: it is neither a file nor a folder"):
        split_input(str(tmp_path / "pipe"))


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + "/*.png", "[" + "x" * 300 + "]/a.png", "around"])
def test_an_input_that_cannot_be_looked_at_is_named_with_the_reason(tmp_path, name):
    # A folder without permission answers likewise, but not to root.
    (tmp_path / "around").symlink_to("around")
    with pytest.raises(StorageError, match=rf"cannot look for {tmp_path}/\[?[xa].*: .*(too long|leads back to itself)"):
        split_input(f"{tmp_path}/{name}")
