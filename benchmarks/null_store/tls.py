"""TLS 1.3 whose bodies are not decrypted, because nobody looks at them.

A store that decrypts costs more CPU than a thrifty contestant that encrypts, and on a small machine takes that from
it. So OpenSSL shakes hands and encrypts the answers, as ever and with its defaults; but of what comes in, only the
records that hold heads, or the bounds of chunks, are decrypted here. Of all others the length in the record's header
is looked at, and the rest dropped. The contestant cannot tell.

The client's traffic secret comes from OpenSSL's key log (https://www.rfc-editor.org/rfc/rfc9850), which is a file in
memory here; how keys follow from it and what a record is: https://www.rfc-editor.org/rfc/rfc8446#section-5 and 7.
Of a record's length 17 bytes are not content (its real type and its tag). None are padding: no contestant pads.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

_HEADER = 5
_OVERHEAD = 17
_MOST_CONTENT = 1 << 14
_SURELY_CONTENT = 64
"""Alerts and key updates are shorter than this: what is shorter is always decrypted."""
_BUFFER = 256 * 1024
_ALERT, _HANDSHAKE, _DATA = 21, 22, 23
_KEY_UPDATE = 24


class _Cipher(Protocol):
    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes: ...


class TlsServer:
    """What its connections share. `context` must not be used for anything else."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._log = os.memfd_create("keylog")
        self._lock = threading.Lock()
        self._read = 0
        self._secrets: dict[str, str] = {}
        context.keylog_filename = f"/proc/self/fd/{self._log}"

    def close(self) -> None:
        os.close(self._log)

    def client_secret(self, client_random: bytes) -> bytes:
        """Of a connection whose handshake is done; once."""
        with self._lock:
            logged = os.pread(self._log, os.fstat(self._log).st_size - self._read, self._read)
            logged = logged[: logged.rfind(b"\n") + 1]  # a line may be half written, by another thread
            self._read += len(logged)
            for label, whose, secret in (line.split() for line in logged.decode().splitlines() if line[0] != "#"):
                if label == "CLIENT_TRAFFIC_SECRET_0":
                    self._secrets[whose] = secret
            return bytes.fromhex(self._secrets.pop(client_random.hex()))


class _Keys:
    """Opens records, in order: each that was skipped must be counted."""

    def __init__(self, cipher: str, secret: bytes) -> None:
        self._name = cipher
        self._hash = hashes.SHA384() if cipher.endswith("SHA384") else hashes.SHA256()
        self._use(secret)

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        length = 16 if "128" in self._name else 32
        key = self._expand("key", length)
        self._cipher: _Cipher = ChaCha20Poly1305(key) if "CHACHA20" in self._name else AESGCM(key)
        self._iv = int.from_bytes(self._expand("iv", 12))
        self.sequence = 0

    def update(self) -> None:
        self._use(self._expand("traffic upd", self._hash.digest_size))

    def _expand(self, label: str, length: int) -> bytes:
        name = b"tls13 " + label.encode()
        info = length.to_bytes(2) + bytes([len(name)]) + name + b"\0"
        return HKDFExpand(self._hash, length, info).derive(self._secret)

    def open(self, header: bytes, data: bytes) -> tuple[int, bytes]:
        """The record's type and content. Raises cryptography.exceptions.InvalidTag."""
        nonce = (self._iv ^ self.sequence).to_bytes(12)
        self.sequence += 1
        content = self._cipher.decrypt(nonce, data, header).rstrip(b"\0")
        return content[-1], content[:-1]


class TlsChannel:
    """One accepted connection; the handshake is done in here. Raises OSError (ssl.SSLError is one)."""

    def __init__(self, server: TlsServer, connection: socket.socket) -> None:
        self._connection = connection
        self._raw = memoryview(bytearray(_BUFFER))
        self._at = self._end = 0  # what is read and not used; where `_at` is beyond `_end`, that much is to be skipped
        self._plain = b""
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = server.context.wrap_bio(self._in, self._out, server_side=True)
        client_random = self._handshake()
        cipher = self._tls.cipher()
        assert cipher is not None
        self._keys = _Keys(cipher[0], server.client_secret(client_random))

    def _handshake(self) -> bytes:
        """OpenSSL gets a record at a time, so that it never takes one that is not the handshake's."""
        client_random = b""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if not (size := self._record()):
                    raise ConnectionResetError from None
                record = bytes(self._raw[self._at : self._at + _HEADER + size])
                self._at += len(record)
                client_random = client_random or record[11:43]
                self._in.write(record)
            except ssl.SSLError:
                self._flush()  # the alert that says why
                raise
            else:
                self._flush()
                return client_random

    def sendall(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def finish(self) -> None:
        """Nothing more will be sent."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            self._flush()  # it is not waited for the other side
        self._connection.shutdown(socket.SHUT_WR)

    def recv(self, most: int) -> bytes:
        """Nothing where the other side has ended."""
        if not self._plain:
            self._open()
        taken, self._plain = self._plain[:most], self._plain[most:]
        return taken

    def drop(self, most: int) -> int:
        """At least one byte, where it is not the end, and at most `most`, which must be still to come."""
        if self._plain:
            return len(self.recv(most))
        while self._end - self._at < _HEADER:
            if not self._fill(_on_the_wire(most), socket.MSG_WAITALL):
                return 0
        dropped = self._skip(most)
        if dropped == most:
            self._settle()
        return dropped or len(self.recv(most))

    def _skip(self, most: int) -> int:
        """Over the records that begin in what was read, and end in what is to be dropped."""
        raw, at, last = self._raw, self._at, self._end - _HEADER
        skipped = dropped = 0
        while at <= last:
            size = raw[at + 3] << 8 | raw[at + 4]
            if size < _SURELY_CONTENT or dropped + size - _OVERHEAD > most:
                break
            at += _HEADER + size
            dropped += size - _OVERHEAD
            skipped += 1
        self._at = at
        self._keys.sequence += skipped
        return dropped

    def _settle(self) -> None:
        """Wait for what was skipped before it came: it may never come."""
        while self._at > self._end:
            if not (got := self._connection.recv_into(self._raw, self._at - self._end, socket.MSG_WAITALL)):
                raise ConnectionResetError
            self._end += got

    def _open(self) -> None:
        """The next record's content, of those that have any."""
        while not self._plain and (size := self._record()):
            header = bytes(self._raw[self._at : self._at + _HEADER])
            data = bytes(self._raw[self._at + _HEADER : self._at + _HEADER + size])
            self._at += _HEADER + size
            kind, content = self._keys.open(header, data)
            if kind == _DATA:
                self._plain = content
            elif kind == _ALERT:
                return
            elif kind == _HANDSHAKE and content[0] == _KEY_UPDATE:
                self._keys.update()

    def _record(self) -> int:
        """Have a whole record at hand; gives its size without the header, 0 at the end."""
        while True:
            there = self._end - self._at
            size = int.from_bytes(self._raw[self._at + 3 : self._at + 5]) if there >= _HEADER else 0
            if there >= _HEADER + size and size:
                return size
            if not self._fill(_BUFFER):
                return 0

    def _fill(self, most: int, flags: int = 0) -> bool:
        """Read on. `most` counts from `_at`."""
        kept = max(0, self._end - self._at)
        self._raw[:kept] = self._raw[self._end - kept : self._end]
        most = min(most + self._at - self._end, _BUFFER - kept)
        got = self._connection.recv_into(self._raw[kept:], most, flags)
        self._at = max(0, self._at - self._end)
        self._end = kept + got
        return bool(got)

    def _flush(self) -> None:
        if self._out.pending:
            self._connection.sendall(self._out.read())


def _on_the_wire(content: int) -> int:
    """The least that this much content takes."""
    return content + -(-content // _MOST_CONTENT) * (_HEADER + _OVERHEAD)
