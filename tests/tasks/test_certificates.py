import re

import dask
import pytest

from tasks.certificates import CertificateError, check_certificates
from tests.made_certificates import make_certificates

SCHEDULER = "tls://host:8786"


@pytest.fixture
def certificates(tmp_path):
    make_certificates(tmp_path)
    settings = {
        "distributed.comm.tls.ca-file": str(tmp_path / "ca.crt"),
        "distributed.comm.tls.client.cert": str(tmp_path / "client.crt"),
        "distributed.comm.tls.client.key": str(tmp_path / "client.key"),
    }
    with dask.config.set(settings):
        yield settings


def test_certificates_that_are_there_are_accepted(certificates):
    check_certificates(SCHEDULER)


@pytest.mark.parametrize("setting", ["ca-file", "client.cert"])
def test_a_missing_setting_is_named_as_the_environment_has_it(certificates, setting):
    with (
        dask.config.set({f"distributed.comm.tls.{setting}": None}),
        pytest.raises(
            CertificateError,
            match="DASK_DISTRIBUTED__COMM__TLS__" + setting.upper().replace(".", "__").replace("-", "_"),
        ),
    ):
        check_certificates(SCHEDULER)


def test_a_key_may_stand_in_the_certificate_s_file(certificates):
    with dask.config.set({"distributed.comm.tls.client.key": None}):
        check_certificates(SCHEDULER)


def test_a_missing_file_is_named(certificates, tmp_path):
    (tmp_path / "client.key").unlink()
    with pytest.raises(CertificateError, match=r"CLIENT__KEY: there is no file .*client\.key"):
        check_certificates(SCHEDULER)


def test_a_certificate_may_be_its_own_text(certificates, tmp_path):
    texts = {
        "distributed.comm.tls.ca-file": (tmp_path / "ca.crt").read_text(),
        "distributed.comm.tls.client.cert": (tmp_path / "client.crt").read_text(),
    }
    with dask.config.set(texts):
        check_certificates(SCHEDULER)


def test_an_expired_certificate_is_told_with_its_date_and_how_to_renew_it(certificates, tmp_path):
    make_certificates(tmp_path, days=0)
    crt = re.escape(str(tmp_path / "client.crt"))
    said = rf"CLIENT__CERT: {crt} expired on \d{{4}}-\d\d-\d\d at \d\d:\d\d UTC: renew it with .*make_certificates"
    with pytest.raises(CertificateError, match=said):
        check_certificates(SCHEDULER)
    make_certificates(tmp_path)
    check_certificates(SCHEDULER)


def test_what_is_no_certificate_is_told_by_its_setting(certificates, tmp_path):
    (tmp_path / "client.crt").write_text("any")
    with pytest.raises(CertificateError, match=r"CLIENT__CERT holds no certificate that can be read"):
        check_certificates(SCHEDULER)


def test_an_open_scheduler_needs_none_unless_encryption_is_required():
    check_certificates("tcp://host:8786")
    with (
        dask.config.set({"distributed.comm.require-encryption": True}),
        pytest.raises(CertificateError, match="REQUIRE_ENCRYPTION wants it: give tls://"),
    ):
        check_certificates("tcp://host:8786")
