"""Dask's settings for encrypted connections, checked before a connection is tried.

Dask finds faults late, and does not name the setting: it tries a missing file again until its timeout, raises a
TypeError at one that was never set, and says of an expired certificate that it "does not match".
"""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import dask
from cryptography import x509

from ssdnet_core.errors import SsdnetError
from tasks.local_workers import dask_variable

REQUIRED = "distributed.comm.require-encryption"
RENEW = "renew it with infra/tls/make_certificates.sh, and start the processes that use it again"
EXPIRED = 10
"""OpenSSL's number for what is wrong with a certificate, X509_V_ERR_CERT_HAS_EXPIRED."""

CERTIFICATE = "distributed.comm.tls.client.cert"
FILES = ("distributed.comm.tls.ca-file", CERTIFICATE, "distributed.comm.tls.client.key")


class CertificateError(SsdnetError, OSError):
    """Dask's settings for encrypted connections do not fit the address, or a certificate cannot be used."""


def check_certificates(scheduler: str) -> None:
    """Check that Dask has what it needs to connect to a scheduler as a client.

    Parameters
    ----------
    scheduler
        Address as ``tls://host:8786`` or ``tcp://host:8786``.

    Raises
    ------
    CertificateError
        If a file that ``tls://`` needs is not set or not there, the client's certificate cannot be read or has expired,
        or encryption is required and the scheduler's address is not ``tls://``.
    """
    if not scheduler.startswith("tls://"):
        if dask.config.get(REQUIRED, default=False):
            raise CertificateError(
                f"{scheduler} is not encrypted, and {dask_variable(REQUIRED)} wants it: give tls://host:8786"
            )
        return
    for setting in FILES:
        path = dask.config.get(setting, default=None)
        # A key may stand in the certificate's file.
        if path is None and not setting.endswith(".key"):
            raise CertificateError(f"{scheduler} wants a certificate: set {dask_variable(setting)} to its file")
        if path is not None and "BEGIN" not in path and not Path(path).is_file():
            raise CertificateError(f"{dask_variable(setting)}: there is no file {path}")
    _check_date(dask.config.get(CERTIFICATE))


def has_expired(error: BaseException) -> bool:
    """Whether a connection failed because the other side's certificate has expired."""
    return isinstance(error.__cause__, ssl.SSLCertVerificationError) and error.__cause__.verify_code == EXPIRED


def _check_date(certificate: str) -> None:
    variable = dask_variable(CERTIFICATE)
    is_text = "BEGIN" in certificate
    try:
        content = certificate.encode() if is_text else Path(certificate).read_bytes()
        ends = x509.load_pem_x509_certificate(content).not_valid_after_utc
    except (OSError, ValueError) as error:
        raise CertificateError(f"{variable} holds no certificate that can be read: {error}") from error
    if ends <= datetime.now(UTC):
        where = "the certificate" if is_text else certificate
        raise CertificateError(f"{variable}: {where} expired on {ends:%Y-%m-%d at %H:%M} UTC: {RENEW}")
