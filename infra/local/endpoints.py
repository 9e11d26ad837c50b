"""Where the parts of the local stack listen."""

import errno
import socket
from dataclasses import dataclass, fields, replace

from infra.local.errors import EndpointError, LocalStackError

LOOPBACK = "127.0.0.1"
MAX_PORT = 65535
OF_THE_PORT = (errno.EADDRINUSE, errno.EACCES)
"""What another port may cure: it is taken, or only the system's own services may have it."""


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """Ports of the stack, and the address they are on; port 0 is a free one.

    Attributes
    ----------
    host
        Name or IPv4 address to listen on.
    prefect, scheduler, dashboard, s3, gallery
        Ports of Prefect's API and UI, of the Dask scheduler and its dashboard, of the S3 server and of the galleries.
    """

    host: str = LOOPBACK
    prefect: int = 4200
    scheduler: int = 8786
    dashboard: int = 8787
    s3: int = 9000
    gallery: int = 8790

    @property
    def name(self) -> str:
        """The host as others reach it."""
        return socket.getfqdn() if self.host == "0.0.0.0" else self.host

    @property
    def prefect_url(self) -> str:
        """Prefect's UI; its API is below it."""
        return f"http://{self.name}:{self.prefect}"

    @property
    def prefect_origins(self) -> tuple[str, ...]:
        """The addresses at which Prefect's UI may be opened."""
        names = dict.fromkeys((self.name, LOOPBACK, "localhost"))
        return tuple(f"http://{name}:{self.prefect}" for name in names)

    @property
    def scheduler_url(self) -> str:
        """The Dask scheduler."""
        return f"tcp://{self.name}:{self.scheduler}"

    @property
    def dashboard_url(self) -> str:
        """Dask's UI."""
        return f"http://{self.name}:{self.dashboard}"

    @property
    def s3_url(self) -> str:
        """The S3 server."""
        return f"http://{self.name}:{self.s3}"

    @property
    def gallery_url(self) -> str:
        """The galleries."""
        return f"http://{self.name}:{self.gallery}"

    def resolved(self, *, trial_storage: bool = True) -> "Endpoints":
        """Return the endpoints with free ports for those that are 0; without the S3 server its port plays no part.

        Raises
        ------
        EndpointError
            If a port is out of its range, or the host is no name or IPv4 address.
        LocalStackError
            If a port is taken or the host is none of this machine's, naming the option that chooses another.
        """
        unused = {"host"} if trial_storage else {"host", "s3"}
        names = [field.name for field in fields(self) if field.name not in unused]
        probes: list[socket.socket] = []
        try:
            # All are held until all are found, so that no free one is found twice.
            probes.extend(_bound(self.host, getattr(self, name), option=f"--{name}-port") for name in names)
            ports = {name: probe.getsockname()[1] for name, probe in zip(names, probes, strict=True)}
        finally:
            for probe in probes:
                probe.close()
        return replace(self, **ports)


def _bound(host: str, port: int, *, option: str) -> socket.socket:
    if not 0 <= port <= MAX_PORT:
        raise EndpointError(f"{option} {port}: ports go up to {MAX_PORT}, 0 takes a free one")
    if not host or ":" in host:
        raise EndpointError(f"--host {host!r}: give a name or an IPv4 address; the parts do not listen on IPv6")
    try:
        return socket.create_server((host, port))
    except OSError as error:
        remedy = (
            f"choose another port with {option}, 0 takes a free one"
            if error.errno in OF_THE_PORT
            else "give an address or name of this machine with --host"
        )
        raise LocalStackError(f"cannot listen on {host}:{port} ({error.strerror}): {remedy}") from error
