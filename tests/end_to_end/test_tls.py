"""Dask over TLS, with the certificates of infra/tls/make_certificates.sh and a process for each role."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from ssdnet_core.synthetic import sample
from tests.conftest import QUICK
from tests.end_to_end.clusters import dask_cluster
from tests.made_certificates import make_certificates

pytestmark = pytest.mark.slow

HOST = "127.0.0.2"


def connect(scheduler, environment):
    code = (
        "import sys; from tasks.cluster import dask_client\n"
        "with dask_client(sys.argv[1], timeout=3) as client: print(client)"
    )
    command = [sys.executable, "-c", code, scheduler]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)


def tls_environment(certificates):
    roles = {
        f"DASK_DISTRIBUTED__COMM__TLS__{role.upper()}__{kind}": str(certificates / f"{role}.{suffix}")
        for role in ("scheduler", "worker", "client")
        for kind, suffix in (("CERT", "crt"), ("KEY", "key"))
    }
    return {
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(certificates / "ca.crt"),
        **roles,
    }


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    environment = tls_environment(make_certificates(folder / "certificates", HOST))
    with dask_cluster(folder, host=f"tls://{HOST}", environment=environment) as cluster:
        cluster.start_worker("127.0.0.3")
        yield cluster


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls-night") / "night"
    folder.mkdir()
    for number in range(2):
        Image.fromarray(sample("weave", "none", size=(96, 96), seed=number).pixels).save(folder / f"{number}.png")
    return folder


def inspect(night, results, scheduler, environment):
    command = [sys.executable, "-m", "flows", "inspect", night, "--results", results, "--scheduler", scheduler]
    return subprocess.run(
        [*map(str, command), "--json", *QUICK], env={**os.environ, **environment}, capture_output=True, text=True
    )


@pytest.mark.usefixtures("shared_server")
def test_a_batch_is_inspected_over_tls(encrypted, night, tmp_path):
    assert encrypted.address.startswith(f"tls://{HOST}:")
    finished = inspect(night, tmp_path, encrypted.address, encrypted.environment)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["inspected"] == 2


@pytest.mark.usefixtures("shared_server")
def test_without_certificates_the_command_names_the_setting(encrypted, night, tmp_path):
    refused = inspect(night, tmp_path, encrypted.address, {})
    assert refused.returncode == 1
    assert f"{encrypted.address} wants a certificate: set DASK_DISTRIBUTED__COMM__TLS__CA_FILE" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_another_authority_s_certificate_is_refused(encrypted, tmp_path):
    stranger = tls_environment(make_certificates(tmp_path / "other", HOST))
    refused = connect(encrypted.address, stranger)
    assert refused.returncode == 1
    assert f"no Dask scheduler answers at {encrypted.address}" in refused.stderr
    assert "TLS certificate does not match" in refused.stderr


def test_a_scheduler_whose_certificate_has_expired_is_told_so(tmp_path):
    expired, renewed = tmp_path / "expired", tmp_path / "renewed"
    make_certificates(expired, HOST, days=0)
    shutil.copytree(expired, renewed)
    make_certificates(renewed, HOST)
    with dask_cluster(tmp_path, host=f"tls://{HOST}", environment=tls_environment(expired)) as cluster:
        refused = connect(cluster.address, tls_environment(renewed))
        assert f"the certificate of the Dask scheduler at {cluster.address} has expired: renew it" in refused.stderr
        refused = connect(cluster.address, tls_environment(expired))
        assert f"{expired / 'client.crt'} expired on" in refused.stderr


def test_certificates_are_renewed_by_the_same_authority(tmp_path):
    make_certificates(tmp_path, HOST)
    before = {name: (tmp_path / name).read_bytes() for name in ("ca.crt", "worker.crt")}
    make_certificates(tmp_path, HOST)
    assert (tmp_path / "ca.crt").read_bytes() == before["ca.crt"]
    assert (tmp_path / "worker.crt").read_bytes() != before["worker.crt"]
    for role in ("scheduler", "worker", "client"):
        verify = ["openssl", "verify", "-CAfile", tmp_path / "ca.crt", tmp_path / f"{role}.crt"]
        assert subprocess.run(verify, capture_output=True).returncode == 0
        assert (tmp_path / f"{role}.key").stat().st_mode & 0o077 == 0
