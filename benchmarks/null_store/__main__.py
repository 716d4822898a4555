"""The store as a process: serves until standard input closes."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import ssl
import sys
import threading
from pathlib import Path

from bigupload.units import parse_rate

from . import __doc__ as description
from .knobs import Knobs
from .server import NullStore


def server_context(directory: Path, host: str = "127.0.0.1") -> ssl.SSLContext:
    """Python's defaults, with a certificate for `host` made in `directory` (`ca.pem` is what a client is to trust)."""
    from bigupload.testing.certificates import make_certificates

    directory.mkdir(parents=True, exist_ok=True)
    made = make_certificates(directory, host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    return context


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.null_store",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tls", type=Path, metavar="DIR", help="https, with a certificate made in DIR (DIR/ca.pem)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    for field in dataclasses.fields(Knobs):
        kind = parse_rate if field.name.endswith("rate") else type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    given = vars(parser.parse_args())
    tls, host = given.pop("tls"), given.pop("host")
    store = NullStore(Knobs(**given), server_context(tls, host) if tls else None, host)
    threading.Thread(target=store.serve, daemon=True).start()
    print(json.dumps({"url": store.url}), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.read()
    print(json.dumps(store.counts.report()), flush=True)
    store.close()


if __name__ == "__main__":
    main()
