"""The system's certificates: read once, and never by halves."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload.http import origins
from bigupload.support.files import is_out_of_descriptors
from bigupload.testing.strict_s3 import StrictS3


@pytest.fixture
def certificates(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with StrictS3(tls=True) as server:
        assert server.ca_bundle is not None
        monkeypatch.setenv("SSL_CERT_FILE", str(server.ca_bundle))
        origins._system_context.cache_clear()
        yield server.ca_bundle
    origins._system_context.cache_clear()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of descriptors")
@pytest.mark.usefixtures("certificates")
def test_too_few_descriptors_to_read_them_are_not_kept_as_no_trust() -> None:
    """OpenSSL is silent about a file that it can't open. All later connections would be refused as untrusted."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Descriptors are the lowest free numbers: none is left below this limit.
    with socket.socket() as lowest_free:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free.fileno(), hard))
    try:
        with pytest.raises(OSError, match="open files") as caught:
            origins.system_context()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert is_out_of_descriptors(caught.value)
    assert origins.system_context().cert_store_stats()["x509"]


def test_a_file_without_certificates_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(empty))
    assert not origins.system_context().cert_store_stats()["x509"]
    origins._system_context.cache_clear()
