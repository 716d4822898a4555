"""The upload handle: of one owner, for seven days, and worthless once a byte of it is altered."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer

from bigupload.core.checksums import Algorithm
from bigupload.service.access.handles import Handle, Handles
from bigupload.service.media.policy import LONGEST_UPLOAD
from bigupload.service.problems import Problem, Refused
from tests.service.test_attacks import refusal
from tests.service.test_multipart import PART, create, film, upload
from tests.tools.service import Service

SECRETS = ["0123456789abcdef" * 2]
HANDLE = Handle(
    owner="local",
    key="media/local/0123456789abcdef0123456789abcdef.mp4",
    upload_id="8b0c2b5e",
    size=2 * PART + 17,
    part_size=PART,
    content_type="video/mp4",
    algorithm=Algorithm.CRC64NVME,
    token="0" * 32,
    expires=1_700_000_000,
)


def with_handle(service: Service, handle: str, *, key: str | None = None) -> Iterator[httpx.Response]:
    """Every call that names an upload."""
    for method, path in (("GET", "/multipart"), ("GET", "/multipart/parts"), ("DELETE", "/multipart")):
        yield service.call(method, f"/v1/media{path}", key=key, params={"upload": handle})
    part = {"partNumber": 1, "size": PART, "checksum": "AAAAAAAAAAA="}
    named = {"upload": handle, "parts": [part | {"etag": '"x"'}]}
    for path in ("/multipart/parts", "/multipart/complete"):
        yield service.call("POST", f"/v1/media{path}", key=key, json=named)


def test_another_owner_s_handle(service: Service) -> None:
    handle, body = upload(service, film(100))
    eve = service.new_key("eve")
    responses = list(with_handle(service, handle, key=eve))
    assert [refusal(response) for response in responses] == [(403, "not_your_upload")] * 5
    assert service.call("GET", "/v1/media/multipart", params={"upload": handle}).json()["status"] == "open"
    assert service.call("POST", "/v1/media/multipart/complete", json=body).status_code == 200


def test_forged_handles(service: Service) -> None:
    handle = create(service, PART).json()["upload"]
    payload, _, signature = handle.rpartition(".")
    other = Handles(["another secret " * 3], clock=lambda: 0).encode(HANDLE)
    mine = base64.urlsafe_b64encode(json.dumps([1, "local", "media/eve/x.mp4"]).encode()).decode().rstrip("=")
    for forged in (other, payload, f"{payload}.", f"{mine}.{signature}", handle[:-1], handle[1:], "x", ".", "é", "\0"):
        assert [refusal(response) for response in with_handle(service, forged)] == [(400, "invalid_upload")] * 5, forged


def test_an_expired_handle(service: Service) -> None:
    secrets = (service.home / "secret").read_text().split()
    expired = Handles(secrets, clock=lambda: 0).encode(HANDLE)
    assert [refusal(response) for response in with_handle(service, expired)] == [(410, "upload_expired")] * 5


@pytest.mark.parametrize(
    "query", ["upload=a&upload=b", "upload=", "", "upload=" + "x" * 4097, "upload=" + "ก" * 4096 + "x"]
)
def test_a_query_that_names_no_upload_or_several(service: Service, query: str) -> None:
    for method, path in (("GET", "/multipart"), ("GET", "/multipart/parts"), ("DELETE", "/multipart")):
        assert refusal(service.call(method, f"/v1/media{path}?{query}")) == (422, "invalid_field")


def test_a_handle_lives_seven_days_and_no_longer() -> None:
    now = 1_700_000_000.5
    handles = Handles(SECRETS, clock=lambda: now)
    assert handles.expiry() == 1_700_000_000 + LONGEST_UPLOAD
    encoded = handles.encode(HANDLE)
    now = HANDLE.expires - 0.001
    assert handles.decode(encoded, owner="local") == HANDLE
    now = HANDLE.expires
    with pytest.raises(Refused) as caught:
        handles.decode(encoded, owner="local")
    assert caught.value.problem is Problem.UPLOAD_EXPIRED


def test_of_another_owner_not_even_the_expiry_is_told() -> None:
    with pytest.raises(Refused) as caught:
        Handles(SECRETS, clock=lambda: HANDLE.expires).decode(
            Handles(SECRETS, clock=lambda: 0).encode(HANDLE), owner="eve"
        )
    assert caught.value.problem is Problem.NOT_YOUR_UPLOAD


def test_secrets_can_be_changed() -> None:
    old, new = SECRETS[0], "f" * 32
    encoded = Handles([old], clock=lambda: 0).encode(HANDLE)
    assert Handles([old, new], clock=lambda: 0).decode(encoded, owner="local") == HANDLE
    assert Handles([old], clock=lambda: 0).encode(HANDLE) != Handles([old, new], clock=lambda: 0).encode(HANDLE)
    assert _problem_of(Handles([new], clock=lambda: 0), encoded) is Problem.INVALID_UPLOAD


def test_handles_are_signed_with_sha256_and_those_signed_with_sha1_are_accepted() -> None:
    handles = Handles(SECRETS, clock=lambda: 0)
    signature = handles.encode(HANDLE).rpartition(".")[2]
    assert len(base64.urlsafe_b64decode(signature + "=")) == 32
    with_sha1 = URLSafeSerializer(SECRETS, salt="bigupload.upload").dumps(
        handles._serializer.loads(handles.encode(HANDLE))
    )
    assert len(base64.urlsafe_b64decode(with_sha1.rpartition(".")[2] + "=")) == 20
    assert handles.decode(with_sha1, owner="local") == HANDLE


def test_a_handle_of_another_version() -> None:
    handles = Handles(SECRETS, clock=lambda: 0)
    for other in ([2], [1], [], {}, "x", 1, None):
        assert _problem_of(handles, handles._serializer.dumps(other)) is Problem.INVALID_UPLOAD


def test_no_altered_byte_goes_through() -> None:
    handles = Handles(SECRETS, clock=lambda: 0)
    encoded = handles.encode(HANDLE)
    for at in range(len(encoded)):
        for bit in range(7):
            altered = encoded[:at] + chr(ord(encoded[at]) ^ 1 << bit) + encoded[at + 1 :]
            _check_worthless(handles, altered)
        _check_worthless(handles, encoded[:at])
        _check_worthless(handles, encoded[:at] + encoded[at + 1 :])


@given(st.text(), st.integers(0, 400), st.integers(0, 400))
def test_no_altered_handle_goes_through(text: str, start: int, end: int) -> None:
    handles = Handles(SECRETS, clock=lambda: 0)
    encoded = handles.encode(HANDLE)
    _check_worthless(handles, encoded[:start] + text + encoded[end:])


def _check_worthless(handles: Handles, text: str) -> None:
    """The last character of a signature has two bits that mean nothing; then it is the same handle, not another."""
    try:
        assert handles.decode(text, owner="local") == HANDLE
    except Refused as refused:
        assert refused.problem is Problem.INVALID_UPLOAD  # noqa: PT017 - either way is fine


def _problem_of(handles: Handles, text: str) -> Problem:
    with pytest.raises(Refused) as caught:
        handles.decode(text, owner="local")
    return caught.value.problem
