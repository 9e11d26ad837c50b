from pathlib import Path

import pytest

from tasks.address import AddressError, lies_in
from tasks.storage import Storage


def test_a_url_is_told_from_a_path(tmp_path):
    assert Storage(str(tmp_path)).address == str(tmp_path)
    assert Storage(f"file://{tmp_path}").address == str(tmp_path)
    assert Storage("s3://bucket/prefix/").address == "s3://bucket/prefix"
    assert Storage("relative").address == str(Path("relative").absolute())


def test_an_unknown_protocol_is_refused_by_name():
    with pytest.raises(AddressError, match="gopher"):
        Storage("gopher://hole")


@pytest.mark.parametrize("url", ["", " "])
def test_an_empty_address_is_refused_rather_than_taken_for_the_working_directory(url):
    with pytest.raises(AddressError, match="empty"):
        Storage(url)


@pytest.mark.parametrize("secret", ["hush", "hu/sh"])
def test_credentials_in_an_address_are_refused_and_not_repeated(secret):
    with pytest.raises(AddressError, match="AWS_PROFILE") as refused:
        Storage(f"s3://AKIAKEY:{secret}@nights/line-1")
    assert "hu" not in str(refused.value)


def test_an_access_point_is_a_bucket():
    name = "arn:aws:s3:eu-west-1:123456789012:accesspoint/nights"
    assert Storage(f"s3://{name}").root == name


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://", "names no bucket"),
        ("s3:///", "names no bucket"),
        ("s3:///night", r"names no bucket.*is a variable in it empty\?"),
        ("/nights/Pr\udcfcf", "no UTF-8"),
    ],
)
def test_an_address_that_nothing_can_lie_under_is_refused(url, reason):
    with pytest.raises(AddressError, match=reason):
        Storage(url)


@pytest.mark.parametrize("url", ["s3:/bucket/prefix", "s3:bucket", "file:/nights"])
def test_an_address_that_lacks_a_slash_is_no_folder_of_that_name(url):
    with pytest.raises(AddressError, match=f"'{url}' lacks a slash: give s3://bucket/prefix"):
        Storage(url)
    assert Storage(f"./{url}").address == str(Path.cwd() / url)


def test_a_file_address_whose_first_folder_is_in_the_place_of_a_machine_is_no_folder_here():
    with pytest.raises(AddressError, match=r"'file://data/night' lacks a slash: give file:///data/night, or \./data/"):
        Storage("file://data/night")


@pytest.mark.parametrize("url", ["~nosuchuser/x", "./~nosuchuser/x", "file://~nosuchuser/x"])
def test_the_home_of_nobody_is_refused_and_a_folder_of_such_a_name_is_not(url):
    with pytest.raises(AddressError, match=f"'{url}': there is no home of such an account here"):
        Storage(url)
    assert Storage("/nights/~nosuchuser/x").address == "/nights/~nosuchuser/x"
    assert Storage("~/x").address == str(Path.home() / "x")


@pytest.mark.parametrize(
    ("address", "folder", "inside"),
    [
        ("/data/night", "/data/night", True),
        ("/data/night", "/data", True),
        ("/data/night", "/", True),
        ("/data/night-1", "/data/night", False),
        ("/data", "/data/night", False),
        ("s3://bucket/night", "s3://bucket", True),
        ("s3://bucket-1", "s3://bucket", False),
        ("s3://bucket/night", "/bucket", False),
    ],
)
def test_an_address_lies_in_itself_and_in_what_is_above_it(address, folder, inside):
    assert lies_in(address, folder) == inside


def test_an_address_lies_in_a_folder_through_a_link(tmp_path):
    (tmp_path / "night").mkdir()
    (tmp_path / "link").symlink_to("night")
    assert lies_in(str(tmp_path / "night"), str(tmp_path / "link"))
    assert lies_in(str(tmp_path / "link" / "camera"), str(tmp_path / "night"))
