"""What HTTP's headers, and failures to connect, mean. `stores/s3/test_one_answer` has the errors of S3."""

from __future__ import annotations

import asyncio
import email.utils
import errno
import math
import os
import re
import socket
import ssl
import time
from typing import Any

import aiohappyeyeballs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.core.retry_policy import FaultKind
from bigupload.http.http_errors import (
    clock_is,
    fault_of_connecting,
    fault_of_response,
    fault_of_stranger,
    retry_after,
    skew_message,
)
from tests.tools.cases import each_case, examples

NOW = 1_700_000_000.0


@pytest.fixture
def fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


# -- Retry-After


@pytest.mark.usefixtures("fixed_time")
@each_case(
    ("value", "seconds"),
    [
        (None, None), ("0", 0.0), ("120", 120.0), ("0000000000007", 0.0), ("", None), ("-5", None), ("1.5", None),
        ("soon", None), ("²", None), ("٣", None),
        (email.utils.formatdate(NOW + 90, usegmt=True), 90.0), (email.utils.formatdate(NOW - 90, usegmt=True), 0.0),
    ],
)  # fmt: skip
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after(value) == seconds


BEYOND = [
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 2024 999999999999:00:00 GMT",
    "Mon, 01 Jan 2024 00:00:00 +99999999999999999999", "Mon, 01 Jan 2024 00:00:00 +9999",
    "Mon, 99 Jan 2024 00:00:00 GMT",
]  # fmt: skip


@each_case("date", BEYOND)
def test_dates_beyond_all_time(date: str) -> None:
    assert skew_message(date) == "this machine's clock is off: set it, then run again"
    headers = {"Retry-After": date, "Date": date}
    found = fault_of_response(403, headers, b"<Code>RequestTimeTooSkewed</Code>", "part 3")
    assert (found.kind, found.retry_after) == (FaultKind.SKEWED, None)


@settings(deadline=None, max_examples=examples(200))
@given(
    value=st.text(max_size=40)
    | st.from_regex(r"\A(Mon, )?\d{1,30} Jan \d{1,30} \d{1,12}:\d{1,12}(:\d{1,12})? ([+-]\d{1,30}|GMT|-0000)\Z")
)
def test_whatever_the_header_says(value: str) -> None:
    found = retry_after(value)
    assert found is None or (math.isfinite(found) and found >= 0)
    assert skew_message(value).endswith("set it, then run again")


# -- responses


@each_case("digits", [12, 13, 400, 5000])
def test_a_response_that_asks_to_wait_for_ever(digits: int) -> None:
    """int() refuses more than 4,300 digits, and float() makes infinity of more than 308."""
    found = fault_of_response(503, {"Retry-After": "9" * digits}, b"", "part 3")
    assert found.kind is FaultKind.BUSY
    assert found.retry_after is not None
    assert 10**11 <= found.retry_after < math.inf


@each_case(
    ("offset", "text"),
    [
        (42.0, "42 s fast"),
        (59.6, "1 min fast"),
        (-3599.0, "1 h slow"),
        (5700.0, "2 h fast"),
        (-86_399.4, "24 h slow"),
        (172_799.0, "2 d fast"),
        (220_000.0, "3 d fast"),
        (-1e9, "32 years slow"),
        (None, "off"),
    ],
)
def test_by_how_much_a_clock_is_off(offset: float | None, text: str) -> None:
    """A Date has whole seconds, and the response takes time: both must not make an hour of a day."""
    assert clock_is(offset) == f"this machine's clock is {text}"


@pytest.mark.usefixtures("fixed_time")
@each_case("off", [-7200, -601, -599, 0, 599, 601, 7200])
def test_a_refused_url_names_a_clock_that_is_off(off: int) -> None:
    """A store calls such a URL expired, or says nothing at all. It is signed again all the same: a media service's
    signature has nothing to do with this machine's clock."""
    found = fault_of_response(403, {"Date": email.utils.formatdate(NOW - off, usegmt=True)}, b"", "part 3")
    assert found.kind is FaultKind.REFUSED
    assert ("clock is" in str(found.public())) is (abs(off) > 600)


QUOTED = "https://h/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F1&X-Amz-Signature=5ec7e7"


@each_case(
    "text",
    [
        f"no such thing: {QUOTED.replace('&', '&amp;')} at all",
        "no such thing: /b/k?uploadId=5ec7e7 at all",
        "AWS4-HMAC-SHA256 Credential=5ec7e7/20260101/r/s3/aws4_request, SignedHeaders=host, Signature=5ec7e7 at all",
        "Security-Token=5ec7e7 at all",
    ],
)
def test_a_message_that_quotes_the_request_is_shown_without_what_signs_it(text: str) -> None:
    found = fault_of_response(
        400, {}, f"<Error><Code>InvalidRequest</Code><Message>{text}</Message></Error>".encode(), "part 3"
    )
    assert "5ec7e7" not in str(found)
    assert str(found).endswith("… at all)")


def test_a_message_that_asks_is_shown() -> None:
    body = b"<Error><Code>InvalidRequest</Code><Message>Is it = there? Or not?</Message></Error>"
    assert str(fault_of_response(400, {}, body, "part 3")).endswith("(Is it = there? Or not?)")


@pytest.mark.parametrize("body", [b"Header x-amz-checksum-crc64nvme is forbidden", b"<p>No x-amz-checksum-* here</p>"])
def test_a_proxy_names_a_header_in_words_of_its_own(body: bytes) -> None:
    assert fault_of_response(403, {"Content-Type": "text/html"}, body, "part 3").names_checksum
    assert not fault_of_response(403, {"Content-Type": "text/html"}, b"Forbidden", "part 3").names_checksum


def test_a_compressed_response_is_called_so() -> None:
    said = str(fault_of_stranger(200, {"Content-Encoding": "gzip"}, b"\x1f\x8b\x08\x00", "part 3"))
    assert "200 (compressed: gzip). A proxy on the way changes responses" in said
    assert '"no"' in str(fault_of_stranger(200, {"Content-Encoding": "identity"}, b"no", "part 3"))


# -- connections


def no_tls(reason: str) -> ssl.SSLError:
    made = ssl.SSLError(1, f"[SSL: {reason}]")
    made.reason = reason
    return made


def untrusted(words: str) -> ssl.SSLCertVerificationError:
    made = ssl.SSLCertVerificationError(1, "certificate verify failed")
    made.verify_message = words
    return made


@each_case(
    ("reason", "kind", "says"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), FaultKind.UNREACHABLE,
         "h:1 has no address: check its name and the network"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), FaultKind.UNREACHABLE,
         "h:1 refuses the connection: check that it runs"),
        (TimeoutError("timed out"), FaultKind.UNREACHABLE, "h:1 does not answer: check its address and the network"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), FaultKind.UNREACHABLE,
         r"can't connect to h:1 \(Network is unreachable\): check"),
        (OSError(errno.EMFILE, "Too many open files"), FaultKind.BROKEN, "this process has too many files"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), FaultKind.BROKEN,
         "the TLS connection to h:1 was closed"),
        (no_tls("WRONG_VERSION_NUMBER"), FaultKind.FINAL, "h:1 speaks no TLS"),
        (no_tls("UNSUPPORTED_PROTOCOL"), FaultKind.FINAL, r"h:1 speaks no version of TLS that is safe: .* TLS 1\.2"),
        (no_tls("TLSV1_ALERT_PROTOCOL_VERSION"), FaultKind.FINAL, "h:1 speaks no version of TLS that is safe"),
        (no_tls("NO_SHARED_CIPHER"), FaultKind.FINAL, r"no TLS connection to h:1 \(NO_SHARED_CIPHER\)"),
        (untrusted("self-signed certificate"), FaultKind.FINAL,
         r"the certificate of h:1 is not trusted \(self-signed certificate\): its issuer's .* must be in `ca_bundle`"),
        (untrusted("certificate has expired"), FaultKind.FINAL, "the certificate of h:1 has expired: renew it"),
        (untrusted("certificate is not yet valid"), FaultKind.FINAL, "the certificate of h:1 is not yet valid: set"),
        (untrusted("Hostname mismatch, certificate is not valid for 'h'."), FaultKind.FINAL,
         "the certificate of h:1 is for another host"),
        (untrusted("IP address mismatch, certificate is not valid for '::1'."), FaultKind.FINAL,
         "the certificate of h:1 is for another host"),
    ],
)  # fmt: skip
def test_why_nothing_connects(reason: OSError, kind: FaultKind, says: str) -> None:
    fault = fault_of_connecting(reason, "h:1")
    assert fault.kind is kind
    assert re.match(says, str(fault))


def test_several_addresses_that_fail_say_why() -> None:
    """asyncio joins what the addresses said, and happy eyeballs chains it."""
    e = OSError("Multiple exceptions: …")
    e.__cause__ = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    assert "refuses the connection" in str(fault_of_connecting(e, "h:1"))


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ([errno.ENETUNREACH, errno.ECONNREFUSED], "h:1 refuses the connection"),
        ([errno.ECONNREFUSED, errno.EHOSTUNREACH], "h:1 refuses the connection"),
        ([errno.ENETUNREACH, errno.EHOSTUNREACH], r"can't connect to h:1 \(Network is unreachable\)"),
    ],
)
async def test_addresses_that_fail_in_different_ways(
    monkeypatch: pytest.MonkeyPatch, numbers: list[int], says: str
) -> None:
    left = list(numbers)

    async def fail(*_: Any) -> None:
        number = left.pop(0)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", fail)
    rows = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (f"127.0.0.{n}", 1)) for n in (1, 2)]
    with pytest.raises(OSError, match="Multiple exceptions") as caught:
        await aiohappyeyeballs.start_connection(rows, happy_eyeballs_delay=60)
    assert re.match(says, str(fault_of_connecting(caught.value, "h:1")))


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (TimeoutError(), "timed out"),
    ],
)
def test_why_a_proxy_is_not_reached(reason: OSError, says: str) -> None:
    fault = fault_of_connecting(reason, "p:3128", proxy=True)
    assert fault.kind is FaultKind.UNREACHABLE
    assert str(fault) == f"can't connect to the proxy p:3128: {says}: check http(s)_proxy"


@each_case("white", [b" ", b"\n", b"\t ", b"\r\n"])
@each_case("name", [b"Code", b"Message"])
def test_a_hostile_refusal_is_read_in_no_time(white: bytes, name: bytes) -> None:
    """A fuzzer found 10 s for 20 kB, where a regular expression allowed white space. It would hang here."""
    for body in (b"<%s>" % name + white * 30_000, (b"<%s>" % name + white * 20) * 1500):
        found = fault_of_response(500, {}, body, "part 3")
        assert (found.kind, found.code) == (FaultKind.SERVER, None)
