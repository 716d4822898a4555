"""Upload tokens at the running service, two replicas in turns: where they are accepted, and every limit of them."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jwt
import pytest

from bigupload.core.checksums import Algorithm
from bigupload.service.access.keys import token_signing_key
from bigupload.service.http.endpoints import ENDPOINTS
from bigupload.stores.local_store import LocalStore
from tests.service.test_attacks import PHOTO, refusal
from tests.service.test_multipart import PART, create, cut, described, film, send
from tests.tools.media import sample
from tests.tools.service import Service, serving

PRESIGN = ("POST", "/v1/media/presign")
MARK = "0123456789abcdef" * 2
_OPTIONS = ("--requests", "10000", "--sweep-every", "0")


class Replicas:
    """Two services of the same files, asked in turns."""

    def __init__(self, one: Service, two: Service) -> None:
        self.both = (one, two)
        self._turns = itertools.cycle(self.both)

    def call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return next(self._turns).call(method, path, **arguments)

    def token(self, **limits: Any) -> str:
        made = self.call("POST", "/v1/media/tokens", json={"singlePut": True} | limits)
        assert made.status_code == 200, made.text
        assert made.json()["expiresIn"] == limits.get("expiresIn", 3600)
        return str(made.json()["token"])

    def signed(self, **claims: Any) -> str:
        """A token of a backend's own, with any claims."""
        plain = {
            "aud": "bigupload",
            "sub": "local",
            "singlePut": True,
            "iat": NOW,
            "exp": NOW + 3600,
            "jti": secrets.token_hex(8),
        }
        secret = (self.both[0].home / "secret").read_text().splitlines()[-1].strip()
        return jwt.encode(plain | claims, token_signing_key(secret, "local"), algorithm="HS256")

    def presign(self, token: str, **more: Any) -> httpx.Response:
        return self.call("POST", "/v1/media/presign", key=token, json=PHOTO | more)

    def create(self, token: str, size: int = PART, /, **more: Any) -> httpx.Response:
        return create(next(self._turns), size, key=token, **more)


@pytest.fixture(scope="module")
def replicas(weed: LocalStore, service: Service) -> Iterator[Replicas]:
    with serving(weed, service.home, *_OPTIONS) as two:
        yield Replicas(service, two)


def test_an_upload_with_a_token_alone(replicas: Replicas) -> None:
    token = replicas.token(maxSize=3 * PART, contentTypes=["video/mp4"], uploads=1, metadata={"user": "u-17"})
    data = film(2 * PART + 17)
    pieces, parts = cut(data), described(cut(data), Algorithm.CRC64NVME)
    made = replicas.create(token, len(data), firstParts=parts[:1]).json()
    assert made["key"].startswith("media/local/")
    etags = send(made["signed"], pieces[:1])
    rest = {"upload": made["upload"], "parts": parts[1:]}
    etags += send(replicas.call("POST", "/v1/media/multipart/parts", key=token, json=rest).json()["signed"], pieces[1:])
    asked = {"key": token, "params": {"upload": made["upload"]}}
    assert len(replicas.call("GET", "/v1/media/multipart/parts", **asked).json()["parts"]) == 3
    assert replicas.call("GET", "/v1/media/multipart", **asked).json()["status"] == "open"
    rows = [p | {"etag": e} for p, e in zip(parts, etags, strict=True)]
    body = {"upload": made["upload"], "parts": rows}
    done = replicas.call("POST", "/v1/media/multipart/complete", key=token, json=body)
    assert done.status_code == 200, done.text
    got = httpx.get(done.json()["publicUrl"], trust_env=False)
    assert (got.content == data, got.headers["x-amz-meta-user"]) == (True, "u-17")
    assert replicas.call("DELETE", "/v1/media/multipart", **asked).status_code == 204
    checked = replicas.call("POST", "/v1/media/check", key=token, json={"url": "http://127.0.0.1/x.jpg"})
    assert checked.json()["usable"] is False


def test_one_put_with_a_token(replicas: Replicas) -> None:
    token = replicas.token(maxSize=len(sample("jpg")), metadata={"user": "u 1"}, uploads=1)
    made = replicas.presign(token, size=len(sample("jpg"))).json()
    assert made["headers"] == {"Content-Type": "image/jpeg", "x-amz-meta-user": "u 1"}
    plain = {"Content-Type": "image/jpeg"}
    assert httpx.put(made["uploadUrl"], headers=plain, content=sample("jpg"), trust_env=False).status_code == 403
    sent = httpx.put(made["uploadUrl"], headers=made["headers"], content=sample("jpg"), trust_env=False)
    assert sent.status_code == 200
    assert httpx.get(made["publicUrl"], trust_env=False).headers["x-amz-meta-user"] == "u 1"
    assert list(replicas.presign(replicas.token()).json()) == ["uploadUrl", "publicUrl", "key", "expiresIn"]


def test_a_token_allows_no_single_put_unless_it_says_so(replicas: Replicas) -> None:
    """What one PUT wrote can be written again for an hour, also after it was judged."""
    for limits in ({"singlePut": False}, {"singlePut": None}):
        assert refusal(replicas.presign(replicas.token(**limits))) == (403, "token_put_refused")
        assert replicas.create(replicas.token(**limits)).status_code == 200


def test_where_a_token_is_not_accepted(replicas: Replicas) -> None:
    token = replicas.token()
    refused = {
        (endpoint.method, endpoint.path) for endpoint in ENDPOINTS if not endpoint.tokens and not endpoint.public
    }
    assert {("POST", "/v1/media/tokens"), ("POST", "/v1/posts")} <= refused
    for method, path in refused:
        response = replicas.call(method, path.replace("{key}", "media/local/a.jpg"), key=token, json={})
        assert refusal(response) == (403, "token_not_allowed"), path


FILM = {"filename": "a.mp4", "contentType": "video/mp4"}
NOW = int(time.time())
DAY = 86_400
LIMITS: list[tuple[str, dict[str, Any], dict[str, Any], tuple[int, str] | None]] = [
    ("as large as may be", {"maxSize": 1000}, PHOTO | {"size": 1000}, None),
    ("too large", {"maxSize": 1000}, PHOTO | {"size": 1001}, (403, "token_size_exceeded")),
    ("of any size", {"maxSize": 1000}, PHOTO, (422, "invalid_field")),
    ("of a family", {"contentTypes": ["image/*"]}, PHOTO, None),
    ("of another family", {"contentTypes": ["image/*"]}, FILM, (403, "token_type_refused")),
    ("of another type", {"contentTypes": ["image/png", "video/webm"]}, PHOTO, (403, "token_type_refused")),
    ("of a type that the service has not", {"contentTypes": ["image/heic"]}, PHOTO, (403, "token_type_refused")),
    ("valid for a day", {"exp": NOW + DAY}, PHOTO, None),
    ("valid for longer", {"exp": NOW + DAY + 1}, PHOTO, (401, "invalid_token")),
    ("ended", {"iat": NOW - 60, "exp": NOW - 1}, PHOTO, (401, "token_expired")),
    ("not begun", {"nbf": NOW + 3600, "exp": NOW + 7200}, PHOTO, (401, "invalid_token")),
    ("for others", {"aud": "another service"}, PHOTO, (401, "invalid_token")),
    ("of another owner's key", {"sub": "eve"}, PHOTO, (401, "invalid_token")),
    ("with a limit that is misspelled", {"maxsize": 1}, PHOTO, (401, "invalid_token")),
    ("with more metadata than the store takes", {"metadata": {f"m{n}": "x" * 256 for n in range(8)}}, PHOTO,
     (401, "invalid_token")),
]  # fmt: skip


@pytest.mark.parametrize(("claims", "body", "outcome"), [row[1:] for row in LIMITS], ids=[row[0] for row in LIMITS])
def test_every_limit_at_each_replica(
    replicas: Replicas, claims: dict[str, Any], body: dict[str, Any], outcome: tuple[int, str] | None
) -> None:
    """By one PUT and in parts. The token is a backend's own, so that it may say what the service would not."""
    token = replicas.signed(**claims)
    for service in replicas.both * 2:
        response = service.call("POST", "/v1/media/presign", key=token, json=body)
        assert (None if response.status_code == 200 else refusal(response)) == outcome
        if "size" in body or outcome != (422, "invalid_field"):
            response = service.call("POST", "/v1/media/multipart", key=token, json={"size": 1} | body)
            assert (None if response.status_code == 200 else refusal(response)) == outcome


def test_a_number_of_uploads_at_replicas_in_turns(replicas: Replicas) -> None:
    """By one PUT here and in parts there, until both refuse."""
    token = replicas.signed(uploads=4)
    one, two = replicas.both
    for service, way in ((one, "presign"), (two, "create"), (one, "create"), (two, "presign")):
        response = (
            create(service, PART, key=token) if way == "create" else service.call(*PRESIGN, key=token, json=PHOTO)
        )
        assert response.status_code == 200, response.text
    for service in replicas.both * 2:
        assert refusal(service.call(*PRESIGN, key=token, json=PHOTO)) == (403, "token_used_up")
        assert refusal(create(service, PART, key=token)) == (403, "token_used_up")


def test_a_token_that_ends_in_mid_upload(replicas: Replicas) -> None:
    """No call goes on with it at either replica, nothing is lost, and another token of the owner goes on anywhere."""
    limits: dict[str, Any] = {"jti": secrets.token_hex(8), "maxSize": 2 * PART, "uploads": 1}
    token = replicas.signed(**limits)
    late = replicas.signed(**limits, iat=NOW - 60, exp=NOW - 1)  # the same one, after its end
    data = film(2 * PART)
    pieces, parts = cut(data), described(cut(data), Algorithm.CRC64NVME)
    one, two = replicas.both
    made = create(one, len(data), key=token, firstParts=parts[:1]).json()
    etags = send(made["signed"], pieces[:1])
    sign = {"upload": made["upload"], "parts": parts[1:]}
    rows = [part | {"etag": '"x"'} for part in parts]
    asked = {"params": {"upload": made["upload"]}}
    for service in replicas.both:
        for method, path, arguments in (
            ("POST", "/multipart/parts", {"json": sign}), ("GET", "/multipart/parts", asked),
            ("POST", "/multipart/complete", {"json": sign | {"parts": rows}}), ("GET", "/multipart", asked),
            ("DELETE", "/multipart", asked), ("POST", "/multipart", {"json": FILM | {"size": 1}}),
        ):  # fmt: skip
            response = service.call(method, f"/v1/media{path}", key=late, **arguments)
            assert refusal(response) == (401, "token_expired"), (method, path)
    new = replicas.signed(maxSize=2 * PART, uploads=1)
    (stored,) = two.call("GET", "/v1/media/multipart/parts", key=new, **asked).json()["parts"]
    assert stored["etag"] == etags[0]
    etags += send(two.call("POST", "/v1/media/multipart/parts", key=new, json=sign).json()["signed"], pieces[1:])
    rows = [part | {"etag": etag} for part, etag in zip(parts, etags, strict=True)]
    done = one.call("POST", "/v1/media/multipart/complete", key=new, json={"upload": made["upload"], "parts": rows})
    assert httpx.get(done.json()["publicUrl"], trust_env=False).content == data
    assert one.call(*PRESIGN, key=new, json=PHOTO | {"size": 1}).status_code == 200  # going on counted for nothing


def test_a_token_goes_on_with_no_upload_that_it_could_not_begin(replicas: Replicas) -> None:
    handle = replicas.create(replicas.token(), PART).json()["upload"]
    part = {"partNumber": 1, "size": PART, "checksum": "AAAAAAAAAAA="}
    too_small = {"maxSize": PART - 1}, "token_size_exceeded"
    for limits, code in (too_small, ({"contentTypes": ["image/png"]}, "token_type_refused")):
        token = replicas.token(**limits)
        for path in ("/multipart/parts", "/multipart/complete"):
            body = {"upload": handle, "parts": [part | {"etag": '"x"'}]}
            assert refusal(replicas.call("POST", f"/v1/media{path}", key=token, json=body)) == (403, code)


def test_how_many_uploads(replicas: Replicas) -> None:
    token = replicas.token(uploads=3)
    assert [replicas.presign(token).status_code, replicas.create(token).status_code] == [200, 200]
    assert refusal(replicas.create(token, 6_000_000_000)) == (422, "file_too_large")  # which counts for nothing
    assert replicas.presign(token).status_code == 200
    for _ in range(4):
        assert refusal(replicas.presign(token)) == (403, "token_used_up")
        assert refusal(replicas.create(token)) == (403, "token_used_up")
    assert replicas.presign(replicas.token(uploads=1)).status_code == 200


def test_how_many_uploads_if_all_come_at_once(replicas: Replicas) -> None:
    token = replicas.token(uploads=5)
    with ThreadPoolExecutor(16) as threads:
        calls = [threads.submit(service.call, *PRESIGN, key=token, json=PHOTO) for service in replicas.both * 12]
    statuses = [call.result().status_code for call in calls]
    assert (statuses.count(200), statuses.count(403)) == (5, 19)


def test_a_create_that_is_repeated_counts_once(replicas: Replicas) -> None:
    """Its response was lost, so that the client asks again, with the same token of its own."""
    token = replicas.token(uploads=1)
    made = [replicas.create(token, token=MARK).json() for _ in range(3)]
    assert len({each["key"] for each in made}) == 1
    for each in made:
        asked = replicas.call("GET", "/v1/media/multipart", params={"upload": each["upload"]})
        assert asked.json()["status"] == "open"
    assert refusal(replicas.create(token, PART + 1, token=MARK)) == (403, "token_used_up")
    assert refusal(replicas.create(token, token=MARK[::-1])) == (403, "token_used_up")
    other = replicas.token(uploads=1)
    assert replicas.create(other, token=MARK).json()["key"] != made[0]["key"]


def test_what_can_t_be_asked_for(replicas: Replicas) -> None:
    for body, code, field in (
        ({"maxsize": 1}, "invalid_field", "maxsize"),
        ({"uploads": 0}, "invalid_field", "uploads"),
        ({"expiresIn": 0}, "invalid_field", "expiresIn"),
        ({"expiresIn": 86_401}, "invalid_field", "expiresIn"),
        ({"contentTypes": ["image/heic"]}, "unsupported_media", "contentTypes[0]"),
        ({"metadata": {"a": "\n"}}, "invalid_field", "metadata"),
        ({"metadata": {f"a{n}": "x" * 256 for n in range(8)}}, "invalid_field", "metadata"),
    ):
        response = replicas.call("POST", "/v1/media/tokens", json=body)
        assert (*refusal(response), response.json()["error"].get("field")) == (422, code, field), body


def test_a_token_ends_with_its_api_key(replicas: Replicas) -> None:
    one, two = replicas.both
    key = one.new_key("press")
    token = one.call("POST", "/v1/media/tokens", key=key, json={"singlePut": True}).json()["token"]
    assert two.call("POST", "/v1/media/presign", key=token, json=PHOTO).json()["key"].startswith("media/press/")
    one.revoke(key)
    for service in replicas.both:
        assert refusal(service.call("POST", "/v1/media/presign", key=token, json=PHOTO)) == (401, "invalid_token")


def test_a_token_of_another_owner(replicas: Replicas) -> None:
    handle = replicas.create(replicas.token()).json()["upload"]
    eve = replicas.both[0].new_key("eve")
    token = replicas.call("POST", "/v1/media/tokens", key=eve, json={}).json()["token"]
    response = replicas.call("GET", "/v1/media/multipart", key=token, params={"upload": handle})
    assert refusal(response) == (403, "not_your_upload")


def test_no_token_is_logged(replicas: Replicas) -> None:
    token = replicas.token(uploads=1)
    replicas.presign(token)
    replicas.presign(token[:-1])
    replicas.presign(token + "x")
    log = replicas.both[0].log()  # both write there
    assert '"token": "' in log  # its id
    assert not any(piece in log for piece in token.split("."))
