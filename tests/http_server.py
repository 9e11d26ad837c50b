"""A server of a test's own answers, over real HTTP and HTTPS connections."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


@contextmanager
def served_by(handler: type[BaseHTTPRequestHandler], *, certificate: Path | None = None) -> Iterator[str]:
    """Answer requests by a handler, which says nothing of them on the terminal; gives the address.

    With a certificate, whose key lies beside it as ``.key``, over TLS.
    """
    quiet = type(handler.__name__, (handler,), {"log_message": lambda *_: None})
    with HTTPServer(("127.0.0.1", 0), quiet) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
