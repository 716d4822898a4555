"""Which certificates are trusted."""

from __future__ import annotations

import functools
import os
import ssl
from pathlib import Path
from typing import Literal, TypeAlias

from bigupload import errors
from bigupload.support.files import OUT_OF_DESCRIPTORS, is_out_of_descriptors

CaBundle: TypeAlias = Path | Literal[False] | None
"""Which certificates to trust: those of a file, those of the system (None), or any at all (False)."""


def system_context() -> ssl.SSLContext:
    """Return the TLS context that trusts the system's certificates. They are read once, which takes 10 ms.

    Raises:
        OSError: Too many files are open.
    """
    return _system_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@functools.lru_cache(maxsize=1)
def _system_context(*_where: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    file = ssl.get_default_verify_paths().cafile or ""  # None, if there is no such file
    if file and not context.cert_store_stats()["x509"]:  # OpenSSL does not say that it can't open the file
        try:
            context.load_verify_locations(cafile=file)
        except OSError as e:
            if is_out_of_descriptors(e):
                raise
    return context


def context_of(ca_bundle: CaBundle, *, with_system: bool = False) -> ssl.SSLContext:
    """Return the TLS context that trusts these certificates.

    Args:
        ca_bundle: The certificates.
        with_system: Whether to trust the system's, too, if there is a file of others.

    Raises:
        OSError: Too many files are open to read the system's.
        UsageError: The file can't be read, or holds no certificate.
        StoreUnreachable: Too many files are open to read it.
    """
    if ca_bundle is None:
        return system_context()
    if not ca_bundle:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    try:
        if not with_system:
            return ssl.create_default_context(cafile=ca_bundle)
        context = ssl.create_default_context()
        context.load_verify_locations(cafile=ca_bundle)
        return context
    except OSError as e:
        if is_out_of_descriptors(e):
            raise errors.StoreUnreachable(OUT_OF_DESCRIPTORS) from e
        raise errors.UsageError(f"can't use the CA bundle {ca_bundle}: {e.strerror or e}") from e
