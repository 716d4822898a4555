"""What anyone can send who reaches the port: bodies, keys, floods, hosts, paths; and what of it the log may hold."""

from __future__ import annotations

import gzip
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from bigupload.core.checksums import Algorithm
from bigupload.service.access.keys import KeyFile
from bigupload.service.http.endpoints import ENDPOINTS
from bigupload.stores.local_store import LocalStore
from tests.service.direct_url.test_private_addresses import HOSTS
from tests.service.test_attacks import PHOTO, refusal
from tests.service.test_handles import with_handle
from tests.service.test_multipart import PART, create, described, film
from tests.tools.cases import each_case
from tests.tools.declared import log_lines, what_is_wrong
from tests.tools.directories import session_directory
from tests.tools.http_stub import HttpStub, Response
from tests.tools.media import sample
from tests.tools.service import Service, serving
from tests.tools.waiting import until

# -- bodies


def send_body(service: Service, body: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.call("POST", "/v1/media/presign", content=body, headers={"Content-Type": "application/json"} | named)


of_our_server = pytest.mark.parametrize("service", ["aiohttp"], indirect=True)
"""Under ASGI, the server in front decides this."""


@each_case(
    ("body", "expected"),
    [
        (b"", (400, "invalid_json")),
        (b"null", (400, "invalid_json")),
        (b"[]", (400, "invalid_json")),
        (b'"x"', (400, "invalid_json")),
        (b"{", (400, "invalid_json")),
        (b"{}{}", (400, "invalid_json")),
        (b"\xff\xfe", (400, "invalid_json")),
        (b"\xef\xbb\xbf", (400, "invalid_json")),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", (400, "invalid_json")),
        (b"\0" * 100, (400, "invalid_json")),
        (b"[" * 60_000, (400, "invalid_json")),
        (b'{"a":' * 10_000, (400, "invalid_json")),
        (b'{"filename": "\\ud800.jpg", "contentType": "image/jpeg"}', (400, "invalid_json")),
        (b'{"filename": "\xed\xa0\x80.jpg", "contentType": "image/jpeg"}', (400, "invalid_json")),
        (b'{"filename": "a.jpg", "contentType": "image/jpeg", "size": 1' + b"0" * 5000 + b"}", (400, "invalid_json")),
        (b'{"filename": "a.jpg", "contentType": "image/jpeg", "size": NaN}', (422, "invalid_field")),
        (b'{"filename": "a.jpg", "contentType": "image/jpeg", "size": Infinity}', (422, "invalid_field")),
        (b'{"filename": "a.jpg", "contentType": "image/jpeg", "size": 1e400}', (422, "invalid_field")),
        (b'{"filename": "a.jpg", "content_type": "image/jpeg"}', (422, "invalid_field")),
        (b'{"filename": ["a.jpg"], "contentType": "image/jpeg"}', (422, "invalid_field")),
        (b'{"filename": null, "contentType": null}', (422, "invalid_field")),
        (b'{"filename": "", "contentType": ""}', (422, "invalid_field")),
    ],
)
def test_bodies(service: Service, body: bytes, expected: tuple[int, str]) -> None:
    assert refusal(send_body(service, body)) == expected


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json"]
)
def test_another_content_type_of_the_body(service: Service, kind: str) -> None:
    assert refusal(send_body(service, b"{}", Content_Type=kind)) == (415, "unsupported_content_type")


def test_a_byte_order_mark_before_the_json_is_ignored(service: Service) -> None:
    """Editors and PowerShell write one."""
    assert send_body(service, b"\xef\xbb\xbf" + json.dumps(PHOTO).encode()).status_code == 200


@pytest.mark.exhaustive
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "x"])
def test_a_compressed_body_is_not_unpacked(service: Service, coding: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    assert refusal(send_body(service, bomb, Content_Encoding=coding)) == (415, "unsupported_content_type")


@of_our_server
def test_a_megabyte_of_json(service: Service) -> None:
    body = json.dumps(PHOTO | {"x": "x" * 1024 * 1024}).encode()
    response = send_body(service, body)
    assert refusal(response) == (413, "body_too_large")
    assert response.headers["Connection"] == "close"
    assert send_body(service, json.dumps(PHOTO | {"x": "x" * 60_000}).encode()).status_code == 200


def test_what_is_too_long_is_not_waited_for(service: Service) -> None:
    """The rest of it never comes, and the connection is closed all the same."""
    head = _head(service, "POST /v1/media/presign")
    announced = _connect(service, head + b"Content-Length: 1000000\r\n\r\n" + bytes(70_000))
    chunked = _connect(service, head + b"Transfer-Encoding: chunked\r\n\r\n11170\r\n" + bytes(70_000))
    unannounced = _connect(service, b"POST /v1/media/presign HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    for connection, status in ((announced, 413), (chunked, 413), (unannounced, 401)):
        assert _rest(connection).startswith(f"HTTP/1.1 {status} ".encode())


async def test_a_body_that_breaks_off(service: Service) -> None:
    """Nobody is left to get a response; the log calls it the client's fault, and no bug."""

    def cut_off() -> int:
        return sum(line.get("code") == "invalid_json" for line in log_lines(service.log()))

    before = cut_off()
    connection = _connect(service, _head(service, "POST /v1/media/presign") + b"Content-Length: 100\r\n\r\n{")
    connection.shutdown(socket.SHUT_WR)
    _rest(connection)
    await until(lambda: cut_off() > before)
    assert cut_off() == before + 1


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer sk_{key}\0",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: -1",
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked, x",
        "X: {key}\r\n\x01Y: y",
        "Authorization : Bearer {key}",
        "X: " + "x" * 100_000,
    ],
)
def test_what_is_no_http_is_a_bad_request_and_no_secret_of_it_is_logged(service: Service, line: str) -> None:
    head = f"POST /v1/media/presign?key={service.key} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.key}\r\n"
    whole = f"{head}{line.replace('{key}', service.key)}\r\n\r\n".encode()
    assert _rest(_connect(service, whole)).split()[1] == b"400"
    assert what_is_wrong(service.log()) == []


def _head(service: Service, request: str) -> bytes:
    headers = f"Host: x\r\nAuthorization: Bearer {service.key}\r\nContent-Type: application/json\r\n"
    return f"{request} HTTP/1.1\r\n{headers}".encode()


def _connect(service: Service, data: bytes) -> socket.socket:
    to = urlsplit(service.url)
    connection = socket.create_connection((to.hostname, to.port or 0), timeout=30)
    connection.sendall(data)
    return connection


def _rest(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    received = b""
    with connection:
        try:
            while more := connection.recv(65536):
                received += more
        except ConnectionResetError:
            pass
    return received


# -- versions


@of_our_server
@each_case("version", ["HTTP/0.9", "HTTP/2.0", "HTTP/1.2", "HTTP/3.0", ""])
def test_other_versions_of_http_are_refused(service: Service, version: str) -> None:
    line = f"GET /healthz {version}".strip()
    answer = _rest(_connect(service, f"{line}\r\nHost: x\r\n\r\n".encode()))  # the connection ends
    assert answer.split()[1] == b"400"
    assert b"malformed_request" in answer


@each_case(
    "request_head",
    [
        "GET /healthz HTTP/1.0",
        "GET /v1/me HTTP/1.0",
        "GET /nothing HTTP/1.0",
        "PUT /healthz HTTP/1.0",
        "GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: y",
        "GET /healthz HTTP/0.9",
        "GET /healthz HTTP/1.1",
        "GET /healthz HTTP/1.1\r\nHost : x",
        "\x01",
    ],
)
def test_no_response_names_the_versions_of_the_server(service: Service, request_head: str) -> None:
    answer = _rest(_connect(service, f"{request_head}\r\n\r\n".encode()))
    assert answer.startswith(b"HTTP/")
    assert not re.search(rb"aiohttp|python", answer, re.IGNORECASE)


# -- keys


@each_case(
    ("header", "code"),
    [
        (None, "missing_key"),
        ("", "missing_key"),
        ("Bearer", "missing_key"),
        ("Basic {key}", "missing_key"),
        ("{key}", "missing_key"),
        ("Bearer: {key}", "missing_key"),
        ("Bearer sk_", "invalid_key"),
        ("Bearer {key}x", "invalid_key"),
        ("Bearer {key} {key}", "invalid_key"),
        ("Bearer {less}", "invalid_key"),
        ("Bearer *", "invalid_key"),
        ("Bearer \xe9\xff", "invalid_key"),
        ("Bearer " + "x" * 7000, "invalid_key"),
    ],
)
def test_no_key_or_none_of_ours(service: Service, header: str | None, code: str) -> None:
    headers = [] if header is None else [(b"Authorization", header.format(key=service.key, less=service.key[:-1]))]
    encoded = [(name, value.encode("latin-1")) for name, value in headers]
    for endpoint in (each for each in ENDPOINTS if not each.public):
        response = httpx.request(endpoint.method, service.url + _asked(endpoint.path), headers=encoded, trust_env=False)
        assert refusal(response) == (401, code)
        assert response.headers["WWW-Authenticate"] == "Bearer"


def test_two_keys_are_none(service: Service) -> None:
    """A proxy and the service could each believe another one of them."""
    good, bad = f"Bearer {service.key}", "Bearer sk_x"
    for both in ((good, bad), (bad, good), (good, good)):
        headers = [("Authorization", each) for each in both]
        response = httpx.get(f"{service.url}/v1/me", headers=headers, trust_env=False)
        assert refusal(response) == (401, "invalid_key")


def _asked(path: str) -> str:
    """A path of a request for an endpoint's."""
    return path.replace("{key}", "media/local/a.jpg")


def test_a_key_elsewhere_than_in_the_header(service: Service) -> None:
    response = httpx.post(
        f"{service.url}/v1/media/presign",
        params={"key": service.key, "api_key": service.key, "access_token": service.key},
        headers={"X-Api-Key": service.key, "Cookie": f"key={service.key}"},
        json=PHOTO | {"apiKey": service.key},
        trust_env=False,
    )
    assert refusal(response) == (401, "missing_key")
    assert what_is_wrong(service.log()) == []


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_the_scheme_in_any_case(service: Service, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {service.key}"}
    assert httpx.post(f"{service.url}/v1/media/presign", json=PHOTO, headers=headers, trust_env=False).is_success


def test_a_revoked_key_is_refused_at_once(service: Service) -> None:
    key = service.new_key("leaver")
    made = create(service, PART, key=key)
    assert made.status_code == 200
    service.revoke(key)
    assert refusal(create(service, PART, key=key)) == (401, "invalid_key")
    responses = list(with_handle(service, made.json()["upload"], key=key))
    assert [refusal(response) for response in responses] == [(401, "invalid_key")] * 5
    again = service.new_key("leaver")  # the upload is the owner's, not the key's
    status = service.call("GET", "/v1/media/multipart", key=again, params={"upload": made.json()["upload"]})
    assert status.json()["status"] == "open"


# -- limits


@pytest.fixture(scope="module")
def strict(weed: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One request in ten seconds, one upload at once."""
    with (
        session_directory(tmp_path_factory, "strict") as home,
        serving(weed, home, "--requests", "0.1", "--open-uploads", "1", "--sweep-every", "0") as running,
    ):
        yield running
        assert what_is_wrong(running.log()) == []


def another_key(service: Service, owner: str) -> str:
    return KeyFile(Path(service.home, "keys.json")).create(owner)[1]


def test_too_many_requests_of_one_key(strict: Service) -> None:
    eager, other = another_key(strict, "eager"), another_key(strict, "eager")
    assert strict.call("POST", "/v1/media/presign", key=eager, json=PHOTO).status_code == 200
    for _ in range(3):
        response = strict.call("POST", "/v1/media/presign", key=eager, json=PHOTO)
        assert refusal(response) == (429, "rate_limited")
        assert 1 <= int(response.headers["Retry-After"]) <= 10
    assert strict.call("POST", "/v1/media/presign", key=other, json=PHOTO).status_code == 200


def test_too_many_uploads_of_one_owner(strict: Service) -> None:
    first, *others = [another_key(strict, "hoarder") for _ in range(4)]
    handle = create(strict, PART, key=first).json()["upload"]
    refused = create(strict, PART, key=others[0])
    assert refusal(refused) == (429, "too_many_uploads")
    assert int(refused.headers["Retry-After"]) > 0
    assert create(strict, PART, key=another_key(strict, "hoarder2")).status_code == 200
    assert strict.call("DELETE", "/v1/media/multipart", key=others[1], params={"upload": handle}).status_code == 204
    assert create(strict, PART, key=others[2]).status_code == 200


# -- the service as somebody's way in


# Only a resolver knows that `kubernetes.default` is private, and this service has the machine's own.
@each_case(
    "host",
    [
        *(host for host in HOSTS if host != "kubernetes.default"),
        "127.0.0.2",
        "user@127.0.0.1",
        "example.com@127.0.0.1",
    ],
)
def test_private_addresses_are_not_fetched(service: Service, posts_api: HttpStub, host: str) -> None:
    posts_api.responses["/a.jpg"] = Response(headers={"Content-Type": "image/jpeg"}, body=sample("jpg"))
    url = f"http://{host}:{urlsplit(posts_api.url).port}/a.jpg"
    response = service.call("POST", "/v1/media/check", json={"url": url})
    assert (response.status_code, response.json()["usable"]) == (200, False)
    assert response.json()["error"]["code"] in ("not_public", "not_a_url")
    assert posts_api.received == []


@each_case(
    "url",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_x",
        "http://a\r\nHost: b/",
        "http://127.0.0.1\\@example.com/",
    ],
)
def test_other_ways_in(service: Service, url: str) -> None:
    response = service.call("POST", "/v1/media/check", json={"url": url})
    assert response.json()["error"]["code"] in ("not_public", "not_a_url")


# -- methods and paths


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "PROPFIND"])
def test_other_methods(service: Service, method: str) -> None:
    for path in {endpoint.path for endpoint in ENDPOINTS}:
        asked = _asked(path)
        response = service.call(method, asked)
        # A key may have any slashes: what is asked of `{key}/url` may be meant for a key.
        patterns = [(each.method, re.escape(each.path).replace(r"\{key\}", "media/.+")) for each in ENDPOINTS]
        allowed = {method for method, pattern in patterns if re.fullmatch(pattern, asked)}
        assert (response.status_code, set(response.headers["Allow"].split(","))) == (405, allowed)
        assert method == "HEAD" or refusal(response) == (405, "method_not_allowed")


@each_case(
    "path",
    [
        "/page/../app.py",
        "/client/../app.py",
        "/v1/client/..%2fpage%2fapp.js",
        "/page/..%2fapp.py",
        "/page/%2e%2e/app.py",
        "/page/..%5capp.py",
        "/page//etc/passwd",
        "/page/%2fetc%2fpasswd",
        "/page/index.html%00.js",
        "/page/.",
        "/page/",
        "/page",
        "//etc/passwd",
        "/v1",
        "/v1/media/presign/",
        "/v1/media/",
        "/V1/MEDIA/PRESIGN",
        "/.git/config",
        "/%",
        "/%ff",
        "/" + "x" * 4000,
    ],
)
def test_no_such_path(service: Service, path: str) -> None:
    received = _rest(_connect(service, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()))
    head, _, body = received.partition(b"\r\n\r\n")
    assert (head.split()[1], json.loads(body)["error"]["code"]) == (b"404", "not_found")
    assert b"\r\nx-content-type-options: nosniff" in head.lower()


@of_our_server
@each_case("host", [b"", b"a b", b"[", b"x:99999", b"\xff", b"</script>", b"x" * 5000, b"x, y"])
@each_case("path", [b"/", b"/openapi.json", b"/healthz", b"/metrics", b"http://evil/openapi.json"])
def test_whatever_host_is_asked_for(service: Service, host: bytes, path: bytes) -> None:
    request = b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
    response = _rest(_connect(service, request))
    assert response.split()[1] == b"200"
    assert b"evil" not in response


def test_nothing_secret_is_logged(service: Service) -> None:
    """Wherever a client puts its key, a signed URL or a handle. (What else is tested is looked at when it ends.)"""
    made = create(service, PART, firstParts=described([film(PART)], Algorithm.CRC64NVME)).json()
    secrets = [service.key, made["upload"], made["signed"][0]["url"]]
    for secret in secrets:
        service.call("GET", f"/{secret.rpartition('/')[2]}", params={secret[:50]: secret, "upload": secret})
        service.call(
            "GET", "/v1/media/multipart", params={"upload": secret}, headers={"X-Request-Id": "x", "A": secret}
        )
        service.call("POST", "/v1/media/presign", json={"filename": f"{secret}.jpg", "contentType": secret[:99]})
        service.call("POST", "/v1/media/check", json={"url": secret})
        service.call("POST", "/v1/media/presign", key=secret, content=secret, headers={"User-Agent": secret})
    log = service.log()
    assert len(list(log_lines(log))) > 15
    assert not any(secret in log or secret[20:60] in log for secret in secrets)
    assert what_is_wrong(log) == []
