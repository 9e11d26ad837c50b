"""Dask's settings for encrypted connections, checked before a connection is tried.

Dask finds out late, and without naming the setting: a certificate's file that is missing is tried for until the time is
over, and one that was never set is a TypeError.
"""

from pathlib import Path

import dask

from ssdnet_core.errors import SsdnetError

REQUIRED = "distributed.comm.require-encryption"
FILES = ("distributed.comm.tls.ca-file", "distributed.comm.tls.client.cert", "distributed.comm.tls.client.key")


class CertificateError(SsdnetError, OSError):
    """Dask's settings for encrypted connections do not fit the scheduler's address."""


def check_certificates(scheduler: str) -> None:
    """Check that Dask has what it needs to connect to a scheduler as a client.

    Parameters
    ----------
    scheduler
        Address as ``tls://host:8786`` or ``tcp://host:8786``.

    Raises
    ------
    CertificateError
        If a ``tls://`` scheduler lacks a certificate, or another one is given where encryption is required.
    """
    if not scheduler.startswith("tls://"):
        if dask.config.get(REQUIRED, default=False):
            raise CertificateError(
                f"{scheduler} is not encrypted, and {_variable(REQUIRED)} wants it: give tls://host:8786"
            )
        return
    for setting in FILES:
        path = dask.config.get(setting, default=None)
        # A key may stand in the certificate's file.
        if path is None and not setting.endswith(".key"):
            raise CertificateError(f"{scheduler} wants a certificate: set {_variable(setting)} to its file")
        if path is not None and "BEGIN" not in path and not Path(path).is_file():
            raise CertificateError(f"{_variable(setting)}: there is no file {path}")


def _variable(setting: str) -> str:
    return "DASK_" + setting.upper().replace(".", "__").replace("-", "_")
