"""Which addresses of a Prefect API are refused, and where they may come from."""

import os
import re

import pytest

from flows.api_address import WrongApiAddressError, check_api_address, check_named_address

WRONG = [
    ("localhost:4200", "does not begin with http://"),
    ("ftp://host/api", "does not begin with http://"),
    ("http:///api", "names no host"),
    ("http://host:port/api", "is no address .*port"),
    ("http://host:99999/api", "is no address .*range"),
    ("http://host:0/api", "port nothing listens on"),
    ("http://[::1/api", "is no address .*IPv6"),
    ("http://local host:4200/api", "blank"),
    ("http://host:4200/api ", "blank"),
    ("http://host\n/api", "blank or another character"),
    ("http://plant..example/api", "host can be no name"),
    (f"http://{64 * 'a'}.example/api", "host can be no name"),
    ("http://host/api?page=1", "does not end with the API's path"),
    ("", "does not begin with http://"),
]


@pytest.mark.parametrize(("address", "reason"), WRONG)
def test_what_is_no_address_is_refused_with_its_reason(monkeypatch, address, reason):
    monkeypatch.setenv("PREFECT_API_URL", address)
    with pytest.raises(WrongApiAddressError, match=f"{reason}.*: give it as http://host:4200/api, or unset") as refused:
        check_api_address(address)
    assert str(refused.value).startswith(f"PREFECT_API_URL is {address!r}, ")


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:4200/api", "https://plant.example/prefect/api/", "HTTP://[::1]:4200/api", "http://hö/api"],
)
def test_an_address_is_taken(monkeypatch, address):
    monkeypatch.setenv("PREFECT_API_URL", address)
    check_named_address()


def test_without_an_address_there_is_nothing_to_refuse(monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    check_named_address()


@pytest.mark.parametrize("address", ["http://plant:hush@host:4200/api", "http://plant:hu/sh@host:4200/api"])
def test_credentials_in_an_address_are_refused_and_not_repeated(address):
    with pytest.raises(WrongApiAddressError) as refused:
        check_api_address(address)
    assert "hu" not in str(refused.value)


@pytest.mark.parametrize("command", [["inspect", "IMAGES", "--results", "RESULTS"], ["backfill", "--last", "1"]])
def test_a_command_refuses_an_address_at_which_prefect_could_not_be_imported(ssdnet, monkeypatch, command):
    monkeypatch.setenv("PREFECT_API_URL", "http://[::1/api")
    finished = ssdnet(*command)
    assert finished.returncode == 2
    assert finished.stderr.startswith("ssdnet: PREFECT_API_URL is 'http://[::1/api', which is no address")
    assert finished.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("profiles", "told"),
    [
        ('active = "plant"\n[profiles.plant]\nPREFECT_API_URL = "plant:4200"', "'plant:4200' in Prefect's profile,"),
        ('active = "plant"\n[profiles.plant]\nPREFECT_API_URL = "http://[::1/api"', "IPv6 URL. Correct "),
        ('active = "plant"\n[profiles.plant]\nPREFECT_CLIENT_MAX_RETRIES = "six"', "max_retries: .* integer"),
        ('active = "plant', r"settings: .*\(at .*profiles\.toml"),
    ],
)
def test_a_backfill_refuses_what_a_profile_has_wrong(ssdnet, monkeypatch, tmp_path, profiles, told):
    (tmp_path / "profiles.toml").write_text(profiles)
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    finished = ssdnet("backfill", "--last", "1")
    assert finished.returncode == 2, finished.stderr
    assert re.match(f"ssdnet: P.*{told}", finished.stderr)
    assert finished.stderr.count("\n") == 1
