"""A store that never responds."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bigupload.testing.certificates import make_certificates


class DeafStore:
    """Shakes hands, reads the first bytes of the request, and then neither reads nor writes nor closes."""

    def __init__(self, directory: Path) -> None:
        self.certificates = make_certificates(directory)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.heard = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates.cert, self.certificates.key)
        accepted, _ = self._listener.accept()
        with context.wrap_socket(accepted, server_side=True) as connection:
            with suppress(ConnectionError):  # who leaves may reset
                connection.recv(1)
            self.heard.set()
            self._over.wait(60)

    @contextmanager
    def running(self) -> Iterator[DeafStore]:
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join()
            self._listener.close()
