"""The sockets of a connection pool, whose store may never respond."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bigupload.http import sessions
from bigupload.testing.certificates import make_certificates
from tests.tools.waiting import until


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


async def test_no_socket_waits_for_the_end_of_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose request is cancelled says goodbye, and asyncio would wait 30 s for a store to say it too."""
    made: list[socket.socket] = []

    def new_socket(address: tuple[Any, ...]) -> socket.socket:
        made.append(real(address))
        return made[-1]

    real = sessions.new_socket
    monkeypatch.setattr(sessions, "new_socket", new_socket)
    with DeafStore(tmp_path).running() as store:
        async with sessions.new_session(store.certificates.ca) as session:
            asking = asyncio.create_task(session.get(f"https://127.0.0.1:{store.port}/"))
            await until(store.heard.is_set)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        assert [one.fileno() for one in made] == [-1]
