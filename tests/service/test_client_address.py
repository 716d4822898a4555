"""Whose address the log names, behind load balancers that are trusted and behind others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from bigupload.errors import UsageError
from bigupload.service.call import TrustedProxies
from bigupload.stores.local_store import LocalStore
from tests.tools.cases import each_case
from tests.tools.service import serving

NETWORKS = ("10.0.0.0/8", "192.0.2.7", "2001:db8::/32")
LIST = "X-Forwarded-For"


def client(peer: str | None, *headers: tuple[str, str], networks: tuple[str, ...] = NETWORKS) -> str | None:
    return TrustedProxies(networks).client(peer, CIMultiDictProxy(CIMultiDict(headers)))


@each_case(
    ("peer", "headers", "expected"),
    [
        ("10.1.2.3", [(LIST, "203.0.113.9")], "203.0.113.9"),
        ("192.0.2.7", [(LIST, "203.0.113.9")], "203.0.113.9"),
        ("::ffff:10.1.2.3", [(LIST, "203.0.113.9")], "203.0.113.9"),  # an IPv4 client of a socket for both
        ("2001:db8::1", [(LIST, "2001:DB9::2")], "2001:db9::2"),
        ("10.1.2.3", [(LIST, "203.0.113.9:4711")], "203.0.113.9"),
        ("10.1.2.3", [(LIST, "[2001:db9::2]:4711")], "2001:db9::2"),
        # Proxies add at the right; what a client wrote itself does not count.
        ("10.1.2.3", [(LIST, "1.1.1.1, 203.0.113.9, 10.9.9.9")], "203.0.113.9"),
        ("10.1.2.3", [(LIST, "1.1.1.1"), (LIST, "203.0.113.9")], "203.0.113.9"),
        ("10.1.2.3", [(LIST, "<script>, 203.0.113.9")], "203.0.113.9"),
        ("10.1.2.3", [(LIST, "203.0.113.9, unknown")], "10.1.2.3"),
        ("10.1.2.3", [(LIST, "203.0.113.9, <script>, 10.9.9.9")], "10.9.9.9"),
        ("10.1.2.3", [(LIST, "10.7.7.7, 10.8.8.8")], "10.7.7.7"),  # all are proxies: a service behind them asks
        ("10.1.2.3", [(LIST, ", ".join(["10.0.0.1"] * 60))], "10.0.0.1"),
        ("10.1.2.3", [("Forwarded", 'for=1.1.1.1, for="203.0.113.9:80";proto=https, for=10.2.2.2')], "203.0.113.9"),
        ("10.1.2.3", [("Forwarded", 'for="[2001:db9::2]:4711"')], "2001:db9::2"),
        ("10.1.2.3", [("Forwarded", "for=_hidden")], "10.1.2.3"),
        ("10.1.2.3", [("Forwarded", "proto=https")], "10.1.2.3"),
        ("10.1.2.3", [("Forwarded", "for=1.1.1.1"), (LIST, "203.0.113.9")], "203.0.113.9"),
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", [(LIST, " ")], "10.1.2.3"),
        ("203.0.113.5", [(LIST, "1.1.1.1")], "203.0.113.5"),  # not trusted
        ("203.0.113.5", [("Forwarded", "for=1.1.1.1")], "203.0.113.5"),
    ],
)
def test_whose_request_it_is(peer: str, headers: list[tuple[str, str]], expected: str) -> None:
    assert client(peer, *headers) == expected
    assert client(peer, *headers, networks=()) == peer


def test_a_connection_that_is_gone_has_no_address() -> None:
    assert client(None, (LIST, "1.1.1.1")) is None


@each_case("network", ["", "10.0.0.0/33", "example.com", "10.0.0.0-10.0.0.9"])
def test_what_is_no_network(network: str) -> None:
    with pytest.raises(UsageError, match=r"not a network: .*write it like 10\.0\.0\.0/8"):
        TrustedProxies([network])


@pytest.mark.slow
def test_the_log_names_the_client_of_a_trusted_proxy(weed: LocalStore, tmp_path: Path) -> None:
    with serving(weed, tmp_path, "--trusted-proxy", "127.0.0.0/8", "--sweep-every", "0") as service:
        service.call("GET", "/healthz", headers={LIST: "1.1.1.1, 203.0.113.9"})
        service.stop()
        lines = [json.loads(line) for line in service.log().splitlines()]
    assert [line["remote"] for line in lines if line["event"] == "request"] == ["203.0.113.9"]
