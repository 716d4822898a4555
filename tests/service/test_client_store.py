"""The client's half of the API against a service that says whatever a test wants: every refusal, and every kind of junk
that a wrong or hostile server could answer with."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bigupload import errors
from bigupload.checksums import Algorithm, ChecksumType
from bigupload.manifest import PartRecord, Target
from bigupload.planning import MIB, Plan
from bigupload.ports import PartToSign, StoredPart
from bigupload.proof import ObjectFacts, PartProof
from bigupload.retry import Fault, FaultKind
from bigupload.service.problems import Problem
from bigupload.stores import _service_http
from bigupload.stores.service import COMPLETE_WITHIN, ServiceStore
from tests.integration.support import whole_text
from tests.tools.certs import make_certificates

KEY = "sk_the-key-that-nobody-may-see"
HANDLE = "WzEsIm93bmVyIl0.signed"
CRC = "mDmyBmPrBjU="
MD5 = "CY9rzUYh03PK3k6DJie09g=="
PLAN = Plan(12 * MIB, 5 * MIB)
PUBLIC = "https://cdn.example/media/o/k.mp4"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class Fake:
    """Answers each request with the next of `answers`, the last for ever."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: list[Handler] = []

    def says(self, body: Any = None, status: int = 200, **headers: str) -> None:
        """JSON, or as it is where it is text."""
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        data = text.encode() if isinstance(text, str) else text
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=data, status=status, headers=named)

        self.answers.append(answer)

    def refuses(self, code: str, status: int = 422, message: str = "the words of the service", **headers: str) -> None:
        self.says({"error": {"code": code, "message": message}}, status, **headers)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        body = json.loads(data) if data else None
        self.asked.append(Asked(request.method, request.path, dict(request.query), dict(request.headers), body))
        return await (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])(request)


@asynccontextmanager
async def listening(fake: Fake, **arguments: Any) -> AsyncIterator[str]:
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{path:.*}", fake.handle)
    server = TestServer(app, scheme="https" if arguments else "http")
    await server.start_server(**arguments)
    async with server:
        yield str(server.make_url("")).rstrip("/")


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def now() -> list[float]:
    """The clock: its one element."""
    return [1000.0]


@pytest.fixture
async def store(fake: Fake, now: list[float]) -> AsyncIterator[ServiceStore]:
    async with listening(fake) as url:
        store = ServiceStore(
            url=url, api_key=KEY, filename="movie.mp4", content_type="video/mp4", head=b"head", clock=lambda: now[0]
        )
        yield store
        await store.aclose()


def part(number: int, checksum: str = CRC) -> PartToSign:
    return PartToSign(number, PLAN.part(number).size, {Algorithm.CRC64NVME.header: checksum})


def row(part: PartToSign, **more: Any) -> dict[str, Any]:
    url = f"https://store.example/{part.number}?X-Amz-Signature=secret"
    return {"partNumber": part.number, "url": url, "headers": dict(part.headers)} | more


def begun(first: list[PartToSign] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "upload": HANDLE,
        "key": "media/o/k.mp4",
        "publicUrl": PUBLIC,
        "partSize": PLAN.part_size,
        "parts": PLAN.count,
        "checksumAlgorithm": "crc64nvme",
        "signed": [row(part) for part in first or ()],
        "expiresIn": 3600,
    } | more


def made(**more: Any) -> dict[str, Any]:
    return {
        "publicUrl": PUBLIC,
        "key": "media/o/k.mp4",
        "size": PLAN.size,
        "checksum": CRC,
        "checksumAlgorithm": "crc64nvme",
        "checksumType": "FULL_OBJECT",
        "etag": '"e-3"',
        "token": "t" * 32,
    } | more


FACTS = ObjectFacts(
    etag='"e-3"', size=PLAN.size, algorithm=Algorithm.CRC64NVME, checksum=CRC, checksum_type=ChecksumType.FULL_OBJECT,
    token="t" * 32,
)  # fmt: skip
PARTS = [
    PartRecord(number=p.number, size=p.size, etag=f'"{p.number}"', checksum=CRC, proof=PartProof.CHECKSUM) for p in PLAN
]


async def create(store: ServiceStore, first: list[PartToSign] | None = None) -> Any:
    return await store.create(PLAN, Algorithm.CRC64NVME, declare=True, token="t" * 32, first=first or [])


async def complete(store: ServiceStore) -> ObjectFacts:
    return await store.complete(HANDLE, PARTS, size=PLAN.size, algorithm=Algorithm.CRC64NVME, checksum="whole")


CALLS: dict[str, Callable[[ServiceStore], Awaitable[Any]]] = {
    "create": create,
    "sign": lambda store: store.sign(HANDLE, [part(1), part(3)]),
    "list": lambda store: store.list_parts(HANDLE, Algorithm.CRC64NVME),
    "stat": lambda store: store.stat(HANDLE, Algorithm.CRC64NVME),
    "complete": complete,
    "abort": lambda store: store.abort(HANDLE),
}
ANSWERED = {name: call for name, call in CALLS.items() if name != "abort"}
"""Those whose answer says something."""


async def refusal_of(awaitable: Awaitable[Any]) -> Exception:
    """What a call raised, and nothing secret in it."""
    with pytest.raises((Fault, errors.BigUploadError)) as caught:
        await awaitable
    text = whole_text(caught.value)
    assert KEY not in text
    assert "Signature" not in text
    assert "\n" not in str(caught.value)
    return caught.value


# -- what is asked, and what the answer makes


async def test_create(fake: Fake, store: ServiceStore) -> None:
    assert store.target == Target(service=store.url(), key="")
    first = [part(1), part(2)]
    fake.says(begun(first))
    created = await create(store, first)
    assert (created.upload_id, created.checksum_type) == (HANDLE, ChecksumType.FULL_OBJECT)
    assert store.target.key == "media/o/k.mp4"
    assert store.url() == PUBLIC
    (asked,) = fake.asked
    assert (asked.method, asked.path, asked.headers["Authorization"]) == (
        "POST",
        "/v1/media/multipart",
        f"Bearer {KEY}",
    )
    assert asked.body == {
        "filename": "movie.mp4",
        "contentType": "video/mp4",
        "size": 12 * MIB,
        "checksumAlgorithm": "crc64nvme",
        "partSize": 5 * MIB,
        "firstParts": [{"partNumber": n, "size": 5 * MIB, "checksum": CRC} for n in (1, 2)],
        "token": "t" * 32,
        "head": base64.b64encode(b"head").decode(),
    }


@pytest.mark.parametrize(
    ("algorithm", "declare", "asked_for"),
    [
        (Algorithm.CRC64NVME, False, "md5"), (Algorithm.SHA256, False, "md5"), (Algorithm.SHA256, True, "sha256"),
        (Algorithm.MD5, True, "md5"), (Algorithm.NONE, True, "none"),
    ],
)  # fmt: skip
async def test_what_is_declared(
    fake: Fake, store: ServiceStore, algorithm: Algorithm, declare: bool, asked_for: str
) -> None:
    fake.says(begun(checksumAlgorithm=asked_for))
    created = await store.create(PLAN, algorithm, declare=declare, token="t" * 32)
    assert fake.asked[0].body["checksumAlgorithm"] == asked_for
    assert created.checksum_type is (ChecksumType.COMPOSITE if asked_for == "sha256" else None)


async def test_parts_that_were_signed_at_create_are_not_asked_for(
    fake: Fake, store: ServiceStore, now: list[float]
) -> None:
    first = [part(1), part(2)]
    fake.says(begun(first))
    await create(store, first)
    now[0] += 600
    one, two = await store.sign(HANDLE, first)
    assert len(fake.asked) == 1
    assert one.url == row(part(1))["url"]
    assert two.headers == {"x-amz-checksum-crc64nvme": CRC}
    assert one.expires_in == 3000


async def test_a_request_is_used_once(fake: Fake, store: ServiceStore) -> None:
    """Whoever asks again was refused with it."""
    fake.says(begun([part(1), part(2)]))
    fake.says({"signed": [row(part(1)), row(part(3))], "expiresIn": 60})
    await create(store, [part(1), part(2)])
    await store.sign(HANDLE, [part(1)])
    requests = await store.sign(HANDLE, [part(1), part(2), part(3)])
    assert [p["partNumber"] for p in fake.asked[1].body["parts"]] == [1, 3]
    assert [r.url for r in requests] == [row(part(n))["url"] for n in (1, 2, 3)]
    assert [r.expires_in for r in requests] == [60, 3600, 60]


@pytest.mark.parametrize("why", ["another checksum", "another upload", "expired", "another size"])
async def test_a_request_for_something_else_is_not_used(
    fake: Fake, store: ServiceStore, now: list[float], why: str
) -> None:
    fake.says(begun([part(1)]))
    await create(store, [part(1)])
    upload, wanted = HANDLE, part(1)
    if why == "another checksum":
        wanted = part(1, "AAAAAAAAAAA=")
    elif why == "another size":
        wanted = dataclasses.replace(wanted, size=1)
    elif why == "another upload":
        upload = "another"
    else:
        now[0] += 3600
    fake.answers.clear()
    fake.says({"signed": [row(wanted)], "expiresIn": 60})
    await store.sign(upload, [wanted])
    assert fake.asked[1].body["upload"] == upload


async def test_content_md5(fake: Fake, store: ServiceStore) -> None:
    """Beside a checksum it is an extra, alone it is the upload's checksum."""
    both = PartToSign(1, 5, {"x-amz-checksum-crc64nvme": CRC, "content-md5": MD5})
    alone = PartToSign(2, 5, {"content-md5": MD5})
    none = PartToSign(3, 5, {})
    headers = {"Content-MD5": MD5, "Content-Length": "5"}
    fake.says({"signed": [row(both), row(alone, headers=headers), row(none)], "expiresIn": 60})
    signed = await store.sign(HANDLE, [both, alone, none])
    assert fake.asked[0].body["parts"] == [
        {"partNumber": 1, "size": 5, "checksum": CRC, "md5": MD5},
        {"partNumber": 2, "size": 5, "checksum": MD5, "md5": MD5},
        {"partNumber": 3, "size": 5},
    ]
    assert signed[1].headers == {"content-md5": MD5}  # as the engine looks for it; the length is the transport's


async def test_list_parts(fake: Fake, store: ServiceStore) -> None:
    fake.says({"parts": [{"partNumber": 1, "size": 5, "etag": '"e"', "checksum": CRC},
                         {"partNumber": 1, "size": 6, "etag": '"f"'}]})  # fmt: skip
    rows = await store.list_parts(HANDLE, Algorithm.CRC64NVME)
    assert rows == [StoredPart(1, 5, '"e"', CRC), StoredPart(1, 6, '"f"', None)]
    assert (fake.asked[0].method, fake.asked[0].path) == ("GET", "/v1/media/multipart/parts")
    assert fake.asked[0].query == {"upload": HANDLE}


async def test_ten_thousand_parts(fake: Fake, store: ServiceStore) -> None:
    row = {"size": 5 * MIB, "etag": f'"{"e" * 32}"', "checksum": "c" * 44}
    fake.says({"parts": [row | {"partNumber": n} for n in range(1, 10_001)]})
    assert len(await store.list_parts(HANDLE, Algorithm.SHA256)) == 10_000


async def test_complete(fake: Fake, store: ServiceStore) -> None:
    fake.says(made())
    assert await complete(store) == FACTS
    assert store.url() == PUBLIC
    assert store.target.key == "media/o/k.mp4"
    assert fake.asked[0].path == "/v1/media/multipart/complete"
    rows = [{"partNumber": n, "etag": f'"{n}"', "checksum": CRC} for n in (1, 2, 3)]
    assert fake.asked[0].body == {"upload": HANDLE, "parts": rows, "checksum": "whole"}


async def test_complete_without_a_declared_checksum(fake: Fake, store: ServiceStore) -> None:
    fake.says(made(checksum=None, checksumAlgorithm=None, checksumType=None))
    facts = await store.complete(HANDLE, PARTS[:1], size=5, algorithm=Algorithm.MD5, checksum=None)
    assert (facts.checksum, facts.algorithm, facts.checksum_type) == (None, None, None)
    assert fake.asked[0].body == {"upload": HANDLE, "parts": [{"partNumber": 1, "etag": '"1"'}]}


async def test_stat(fake: Fake, store: ServiceStore) -> None:
    fake.says({"status": "completed", "completed": made()})
    fake.says({"status": "open", "completed": None, "error": None})
    fake.says({"status": "gone"})
    fake.refuses("upload_gone", 404)
    fake.says({"status": "gone", "error": {"code": "not_media", "message": "it is a program"}})
    assert await CALLS["stat"](store) == FACTS
    for _ in range(3):
        assert await CALLS["stat"](store) is None
    refused = await refusal_of(CALLS["stat"](store))
    assert isinstance(refused, errors.MediaRefused)
    assert str(refused) == "it is a program"
    assert refused.exit_code == errors.EXIT_FAILED


@pytest.mark.parametrize("status", [204, 200])
async def test_abort(fake: Fake, store: ServiceStore, status: int) -> None:
    fake.says({} if status == 200 else b"", status)
    await store.abort(HANDLE)
    assert (fake.asked[0].method, fake.asked[0].query) == ("DELETE", {"upload": HANDLE})


@pytest.mark.parametrize("code", ["upload_gone", "upload_expired"])
async def test_abort_of_what_is_gone(fake: Fake, store: ServiceStore, code: str) -> None:
    fake.refuses(code, 410)
    await store.abort(HANDLE)
    assert [asked.method for asked in fake.asked] == ["DELETE"]  # and not again


async def test_another_object_than_the_uploads(fake: Fake, store: ServiceStore) -> None:
    fake.says(begun())
    fake.says(made(key="media/other/k.mp4"))
    await create(store)
    assert isinstance(await refusal_of(complete(store)), errors.StoreRefused)


@pytest.mark.parametrize(
    "change", [{"partSize": 6 * MIB}, {"parts": 2}, {"checksumAlgorithm": "sha256"}], ids=lambda c: next(iter(c))
)
async def test_another_plan_than_was_asked_for(fake: Fake, store: ServiceStore, change: dict[str, Any]) -> None:
    fake.says(begun(**change))
    refused = await refusal_of(create(store))
    assert isinstance(refused, errors.StoreRefused)
    assert "cut the file" in str(refused)


# -- refusals

KINDS = {
    Problem.RATE_LIMITED: FaultKind.BUSY, Problem.TOO_MANY_UPLOADS: FaultKind.BUSY,
    Problem.STORE_UNAVAILABLE: FaultKind.BUSY, Problem.CREDENTIALS_EXPIRING: FaultKind.BUSY,
    Problem.INTERNAL: FaultKind.SERVER, Problem.UPLOAD_GONE: FaultKind.GONE, Problem.UPLOAD_EXPIRED: FaultKind.GONE,
    Problem.PART_NOT_STORED: FaultKind.INVALID_PART, Problem.CHECKSUM_MISMATCH: FaultKind.CORRUPTED,
    Problem.UNSUPPORTED_CHECKSUM: FaultKind.UNSUPPORTED,
}  # fmt: skip
ERRORS: dict[Problem, type[errors.BigUploadError]] = {
    Problem.MISSING_KEY: errors.CredentialsError, Problem.INVALID_KEY: errors.CredentialsError,
    Problem.NOT_YOUR_UPLOAD: errors.AccessDenied, Problem.NOT_MEDIA: errors.MediaRefused,
    Problem.UNSUPPORTED_MEDIA: errors.MediaRefused, Problem.FILE_TOO_LARGE: errors.MediaRefused,
    Problem.SIZE_MISMATCH: errors.MediaRefused, Problem.UNSUPPORTED_PART_SIZE: errors.MediaRefused,
    Problem.WRONG_PART: errors.MediaRefused, Problem.INVALID_FIELD: errors.MediaRefused,
    Problem.STORE_REFUSED: errors.StoreUnavailable,
}  # fmt: skip
ELSEWHERE = {Problem.POSTS_NOT_CONFIGURED, Problem.POSTS_UNREACHABLE, Problem.MEDIA_NOT_FOUND, Problem.MEDIA_UNUSABLE}
"""Of endpoints that no upload asks."""


@pytest.mark.parametrize("problem", [p for p in Problem if p not in ELSEWHERE], ids=lambda p: p.code)
async def test_every_problem(fake: Fake, store: ServiceStore, problem: Problem) -> None:
    fake.refuses(problem.code, problem.status, Retry_After="7")
    refused = await refusal_of(store.list_parts(HANDLE, Algorithm.NONE))
    if problem in KINDS:
        assert isinstance(refused, Fault)
        assert (refused.kind, refused.retry_after) == (KINDS[problem], 7)
        assert "the words of the service" in str(refused)
    else:
        assert type(refused) is ERRORS.get(problem, errors.StoreRefused)
    assert len(fake.asked) == 1  # whoever called decides about another try


STRAY: list[tuple[Any, int, dict[str, str]]] = [
    ("<html>log in</html>", 200, {}), ("<html>not here</html>", 404, {}), ("blocked", 403, {}),
    ("", 302, {"Location": "https://portal.example/login"}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "headers"), STRAY)
async def test_what_answers_in_a_known_service_s_place_passes(
    fake: Fake, store: ServiceStore, body: str, status: int, headers: dict[str, str]
) -> None:
    """A portal, a balancer: a stranger at first sight, and no end of an upload that is under way."""
    fake.says(body, status, **headers)
    assert isinstance(await refusal_of(store.list_parts(HANDLE, Algorithm.NONE)), errors.StoreRefused)
    fake.answers.clear()
    fake.says({"parts": []})
    assert await store.list_parts(HANDLE, Algorithm.NONE) == []
    fake.answers.clear()
    fake.says(body, status, **headers)
    passing = await refusal_of(store.list_parts(HANDLE, Algorithm.NONE))
    assert isinstance(passing, Fault)
    assert passing.kind is FaultKind.SERVER


async def test_a_field_that_is_meant_is_named_and_a_key_in_a_code_is_not_shown(fake: Fake, store: ServiceStore) -> None:
    fake.says({"error": {"code": "invalid_field", "message": "is too long", "field": "filename"}}, 422)
    assert "filename: is too long" in str(await refusal_of(store.list_parts(HANDLE, Algorithm.NONE)))
    fake.answers.clear()
    fake.refuses(f"X{KEY}", 422)
    assert KEY not in str(await refusal_of(store.list_parts(HANDLE, Algorithm.NONE)))


async def test_an_empty_file_is_refused_in_words(fake: Fake, store: ServiceStore) -> None:
    with pytest.raises(errors.MediaRefused, match="empty"):
        await store.create(Plan(0, PLAN.part_size), Algorithm.CRC64NVME, declare=True, token="0" * 32)
    assert fake.asked == []


@pytest.mark.parametrize("name", [n for n in CALLS if n != "abort"])
async def test_a_revoked_key_says_what_to_do(fake: Fake, store: ServiceStore, name: str) -> None:
    fake.refuses("invalid_key", 401)
    refused = await refusal_of(CALLS[name](store))
    assert isinstance(refused, errors.CredentialsError)
    assert refused.resumable
    assert "set BIGUPLOAD_API_KEY" in str(refused)
    assert "run the same command again" in str(refused)


async def test_an_expired_handle(fake: Fake, store: ServiceStore) -> None:
    """While parts are sent, the same command starts anew; once it was to complete, only --no-resume does."""
    fake.refuses("upload_expired", 410)
    signing = await refusal_of(CALLS["sign"](store))
    assert isinstance(signing, errors.UploadExpired)
    assert signing.resumable
    assert "run the same command again to start anew" in str(signing)
    for name in ("complete", "stat"):
        ended = await refusal_of(CALLS[name](store))
        assert isinstance(ended, errors.UploadGone)
        assert "--no-resume" in str(ended)


async def test_no_refusal_looks_like_a_store_that_knows_no_checksums(fake: Fake, store: ServiceStore) -> None:
    """The engine tries without them after a FINAL 400: the service says so in other words."""
    for problem in Problem:
        fake.answers.clear()
        fake.refuses(problem.code, 400)
        refused = await refusal_of(create(store))
        assert not (isinstance(refused, Fault) and refused.kind is FaultKind.FINAL)


async def test_what_a_later_service_refuses(fake: Fake, store: ServiceStore) -> None:
    fake.refuses("not_invented_yet", 422)
    fake.refuses("not_invented_yet", 503)
    assert isinstance(await refusal_of(create(store)), errors.StoreRefused)
    later = await refusal_of(create(store))
    assert isinstance(later, Fault)
    assert later.kind is FaultKind.SERVER


async def test_the_services_words_are_shown_as_one_line(fake: Fake, store: ServiceStore) -> None:
    fake.refuses("not_media", message=f"no\x1b[2Jt\nmedia, {KEY}, " + "long " * 1000)
    refused = await refusal_of(create(store))
    assert str(refused).startswith("no [2Jt media, sk_…, long")
    assert len(str(refused)) <= 200


@pytest.mark.parametrize(
    ("status", "kind"),
    [(408, FaultKind.SERVER), (429, FaultKind.BUSY), (500, FaultKind.SERVER), (501, FaultKind.SERVER),
     (502, FaultKind.SERVER), (503, FaultKind.BUSY), (504, FaultKind.SERVER), (520, FaultKind.SERVER)],
)  # fmt: skip
async def test_a_balancer_that_fails(fake: Fake, store: ServiceStore, status: int, kind: FaultKind) -> None:
    fake.says("<html>Bad gateway</html>", status, Retry_After="3")
    fault = await refusal_of(complete(store))
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.status, fault.retry_after) == (kind, status, 3)


# -- what is no media service

HTML = "<!doctype html><title>Welcome to nginx!</title>"
JUNK = [HTML, "", "[]", '"text"', "null", "{", "[" * 100_000, b"\xff\xfe", "1" * 5000, "{}"]


def stranger(e: Exception) -> bool:
    return isinstance(e, errors.StoreRefused) and "is not a bigupload media service" in str(e)


@pytest.mark.parametrize("name", ANSWERED)
async def test_junk(fake: Fake, store: ServiceStore, name: str) -> None:
    for junk in JUNK:
        fake.answers.clear()
        fake.says(junk)
        assert stranger(await refusal_of(CALLS[name](store))), junk


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422])
async def test_refusals_that_are_none_of_the_services(fake: Fake, store: ServiceStore, status: int) -> None:
    for body in (HTML, {"detail": "Not Found"}, {"error": "no"}, {"error": {"code": 1, "message": "no"}}):
        fake.answers.clear()
        fake.says(body, status)
        assert stranger(await refusal_of(create(store)))


GOOD: dict[str, dict[str, Any]] = {
    "create": begun([part(1)]),
    "sign": {"signed": [row(part(1)), row(part(3))], "expiresIn": 60},
    "list": {"parts": [{"partNumber": 1, "size": 5, "etag": '"e"', "checksum": CRC}]},
    "stat": {"status": "completed", "completed": made()},
    "complete": made(),
}
MAY_LACK: dict[str, set[str]] = {name: set() for name in GOOD} | {
    "list": {"checksum"},
    "stat": {"checksum", "checksumAlgorithm", "checksumType", "token"},
    "complete": {"checksum", "checksumAlgorithm", "checksumType", "token"},
}
ANY_NUMBER: dict[str, set[str]] = {name: {"size"} for name in GOOD} | {"list": {"size", "partNumber"}}
"""What makes no sense there is compared with the plan, or with the file's size, by whoever asked."""
WRONG: list[Any] = [None, True, 1.5, [], {}, [1], {"a": 1}, "", "a\r\nb", -1, [[]], "x" * 20_000]


def places(value: Any, *path: Any) -> list[tuple[Any, ...]]:
    """The paths to all that is inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in inside for found in ((*path, key), *places(item, *path, key))]


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return copy


@pytest.mark.parametrize("name", GOOD)
async def test_wrong_shapes(fake: Fake, store: ServiceStore, name: str) -> None:
    """Each field of each answer, made each kind of wrong: refused as a stranger's, or read; never another exception."""
    call = CALLS[name] if name != "create" else lambda store: create(store, [part(1)])
    fake.says(GOOD[name])
    await call(store)
    for path in places(GOOD[name]):
        for wrong in WRONG:
            fake.answers.clear()
            fake.says(changed(GOOD[name], path, wrong))
            if (
                (wrong is None and path[-1] in MAY_LACK[name])
                or (wrong == -1 and path[-1] in ANY_NUMBER[name])
                or (wrong == [] and path == ("parts",) and name == "list")
            ):
                await call(store)
            else:
                assert stranger(await refusal_of(call(store))), (path, wrong)


async def test_an_answer_without_end(fake: Fake, store: ServiceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_service_http, "MOST_BYTES", 1 << 16)
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 1 << 30:
            await response.write(b" " * (1 << 16))
            sent += 1 << 16
        return response

    fake.answers.append(endless)
    assert stranger(await refusal_of(CALLS["list"](store)))
    assert sent < 1 << 28


HOSTILE_HEADERS: list[dict[str, Any]] = [
    {"x-amz-meta": "a\r\nX-Evil: 1"}, {"x-amz-\r\nx": "a"}, {"Authorization": "x"}, {"Host": "evil.example"},
    {"Transfer-Encoding": "chunked"}, {"Content-Length": "7"}, {"Cookie": "a=b"}, {"x-amz-meta": "é"}, {"x-amz-": ""},
    {"x-amz-meta": 1}, {"x-amz-meta": "x" * 2000}, {"Range": "bytes=0-1"}, {"Expect": "100-continue"}, {"": ""},
]  # fmt: skip
HOSTILE_URLS = [
    "file:///etc/passwd", "ftp://store.example/1", "//store.example/1", "javascript:alert(1)", "https://", "1",
    "https://user:pass@store.example/", "https://store.example/\r\nX: 1", "https://store.example/ 1", "http://[::1",
    "https://store.example:99999999/",
]  # fmt: skip


@pytest.mark.parametrize("headers", HOSTILE_HEADERS, ids=repr)
async def test_headers_that_no_part_has(fake: Fake, store: ServiceStore, headers: dict[str, Any]) -> None:
    fake.says({"signed": [row(part(1), headers={**part(1).headers, **headers})], "expiresIn": 60})
    assert stranger(await refusal_of(store.sign(HANDLE, [part(1)])))


@pytest.mark.parametrize("url", HOSTILE_URLS)
async def test_urls_that_no_part_has(fake: Fake, store: ServiceStore, url: str) -> None:
    fake.says({"signed": [row(part(1), url=url)], "expiresIn": 60})
    assert stranger(await refusal_of(store.sign(HANDLE, [part(1)])))


@pytest.mark.parametrize(
    "change",
    [
        {"signed": []}, {"signed": [row(part(1))] * 2}, {"signed": [row(part(2))]}, {"expiresIn": 0},
        {"expiresIn": -1}, {"expiresIn": 10**400}, {"signed": [row(part(1), headers={})]},
        {"signed": [row(part(1, "AAAAAAAAAAA="))]},
    ],
)  # fmt: skip
async def test_other_parts_than_were_asked_for(fake: Fake, store: ServiceStore, change: dict[str, Any]) -> None:
    fake.says({"signed": [row(part(1))], "expiresIn": 60} | change)
    assert stranger(await refusal_of(store.sign(HANDLE, [part(1)])))


@asynccontextmanager
async def over_tls(fake: Fake, tmp_path: Path) -> AsyncIterator[ServiceStore]:
    certificates = make_certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.cert, certificates.key)
    async with listening(fake, ssl=context) as url:
        store = ServiceStore(url=url, api_key=KEY, filename="a", content_type="a/b", ca_bundle=certificates.ca)
        yield store
        await store.aclose()


@pytest.mark.parametrize("call", ["create", "sign"])
@pytest.mark.parametrize("url", ["http://store.example/1", "HTTP://store.example/1"])
async def test_a_service_with_tls_that_would_have_parts_sent_without(
    fake: Fake, tmp_path: Path, call: str, url: str
) -> None:
    """Nothing of the file has left by then."""
    signed = [row(part(1), url=url)]
    fake.says(begun([part(1)], signed=signed) if call == "create" else {"signed": signed, "expiresIn": 60})
    async with over_tls(fake, tmp_path) as store:
        refused = await refusal_of(create(store, [part(1)]) if call == "create" else store.sign(HANDLE, [part(1)]))
    assert isinstance(refused, errors.StoreRefused)
    assert "to store.example in the clear" in str(refused)


async def test_a_service_with_tls_and_a_store_with_tls(fake: Fake, tmp_path: Path) -> None:
    fake.says({"signed": [row(part(1), url="https://store.example/1")], "expiresIn": 60})
    async with over_tls(fake, tmp_path) as store:
        (request,) = await store.sign(HANDLE, [part(1)])
    assert request.url == "https://store.example/1"


@pytest.mark.parametrize("other", ["http://evil.example/2", "http://store.example:81/2", "https://store.example/2"])
async def test_one_upload_goes_to_one_place(fake: Fake, store: ServiceStore, other: str) -> None:
    fake.says({"signed": [row(part(1), url="http://store.example/1")], "expiresIn": 60})
    fake.says({"signed": [row(part(2), url=other)], "expiresIn": 60})
    await store.sign(HANDLE, [part(1)])
    refused = await refusal_of(store.sign(HANDLE, [part(2)]))
    assert stranger(refused)
    fake.answers.clear()
    fake.says(begun())
    fake.says({"signed": [row(part(2), url=other)], "expiresIn": 60})
    await create(store)  # another upload may be another store's
    await store.sign(HANDLE, [part(2)])


# -- redirects, lost and late answers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_key_does_not_follow_a_redirect(fake: Fake, store: ServiceStore, status: int) -> None:
    other = Fake()
    other.says(begun())
    async with listening(other) as elsewhere:
        fake.says("", status, Location=f"{elsewhere}/base/v1/media/multipart?token=hush#hush")
        refused = await refusal_of(create(store))
    assert isinstance(refused, errors.StoreRefused)
    assert f"redirects to {elsewhere}/base: " in str(refused)
    assert "hush" not in str(refused)
    assert other.asked == []


@pytest.mark.parametrize(
    ("location", "shown"),
    [("https://u:p@new.example/v1/media/multipart", "https://new.example:"), ("/login?next=hush", "/login:"),
     ("", "redirects to http://"), ("http://[", "elsewhere"), ("x" * 5000, "…")],
)  # fmt: skip
async def test_where_a_redirect_leads(fake: Fake, store: ServiceStore, location: str, shown: str) -> None:
    fake.says("", 302, Location=location)
    refused = await refusal_of(create(store))
    assert shown in str(refused)
    assert not {"u:p", "hush"} & set(str(refused).split("/"))


@pytest.mark.parametrize("name", ["create", "sign", "complete"])
async def test_a_lost_answer(fake: Fake, store: ServiceStore, name: str) -> None:
    async def lose(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    fake.answers.append(lose)
    fault = await refusal_of(CALLS[name](store))
    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.BROKEN
    assert len(fake.asked) == 1  # a POST is never sent again unasked


async def test_half_an_answer(fake: Fake, store: ServiceStore) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b'{"parts": [')
        assert request.transport is not None
        request.transport.abort()
        return response

    fake.answers.append(half)
    fault = await refusal_of(complete(store))
    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.BROKEN


async def test_nobody_listens() -> None:
    async with listening(Fake()) as url:
        pass
    store = ServiceStore(url=url, api_key=KEY, filename="a.png", content_type="image/png")
    fault = await refusal_of(CALLS["list"](store))
    await store.aclose()
    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.UNREACHABLE


@pytest.mark.parametrize(
    ("name", "within"), [("list", _service_http.ANSWER_WITHIN), ("complete", COMPLETE_WITHIN)], ids=["list", "complete"]
)
async def test_a_late_answer(
    fake: Fake, store: ServiceStore, monkeypatch: pytest.MonkeyPatch, name: str, within: float
) -> None:
    """On a clock that jumps: nothing happens a second before, and the end a second after."""
    loop = asyncio.get_running_loop()
    real, ahead = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real() + ahead)
    arrived, end = asyncio.Event(), asyncio.Event()

    async def silent(_: web.Request) -> web.StreamResponse:
        arrived.set()
        await end.wait()
        return web.Response()

    fake.answers.append(silent)
    call = asyncio.ensure_future(CALLS[name](store))
    try:
        await arrived.wait()
        ahead += within - 5
        for _ in range(100):
            await asyncio.sleep(0)
        assert not call.done()
        ahead += 10
        fault = await refusal_of(call)
    finally:
        end.set()
    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.STALLED


async def test_a_service_with_a_certificate_of_ones_own(fake: Fake, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.cert, certificates.key)
    fake.says(made())
    async with listening(fake, ssl=context) as url:
        for ca_bundle in (certificates.ca, None):
            store = ServiceStore(url=url, api_key=KEY, filename="a", content_type="a/b", ca_bundle=ca_bundle)
            try:
                if ca_bundle is not None:
                    await complete(store)
                    continue
                fault = await refusal_of(complete(store))
                assert isinstance(fault, Fault)
                assert fault.kind is FaultKind.FINAL
                assert "--ca-bundle" in str(fault)
            finally:
                await store.aclose()
    assert len(fake.asked) == 1


# -- keys, URLs, options


@pytest.mark.parametrize("key", [None, "", "sk_a\r\nX: 1", "sk_ a", "sk_é", "x" * 1000])
async def test_without_a_key_nothing_is_asked(fake: Fake, key: str | None) -> None:
    async with listening(fake) as url:
        store = ServiceStore(url=url, api_key=key, filename="a.png", content_type="image/png")
        for call in (store.precheck, lambda: create(store)):
            with pytest.raises(errors.CredentialsError, match="BIGUPLOAD_API_KEY") as caught:
                await call()
            assert not key or key not in str(caught.value)
        await store.aclose()
    assert fake.asked == []


@pytest.mark.parametrize(
    "url",
    ["", "media.example", "ftp://media.example", "https://", "https://u@media.example", "https://u:p@media.example",
     "https://media.example?a", "https://media.example/#a", "https://media.example/?", "https://media.example:x",
     "https://media.example:0", "https://media .example", "https://xn--/", "https://media.example/\n", "s3://bucket/key"],
)  # fmt: skip
def test_what_is_no_service(url: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        ServiceStore(url=url, api_key=KEY, filename="a.png", content_type="image/png")
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "target"),
    [("https://Media.Example/", "https://media.example"), ("http://h:8080/Base//", "http://h:8080/Base"),
     ("HTTPS://h", "https://h"), ("http://[::1]:8080", "http://[::1]:8080")],
)  # fmt: skip
def test_one_spelling(url: str, target: str) -> None:
    assert ServiceStore(url=url, api_key=KEY, filename="a", content_type="a/b").target.service == target


async def test_a_service_below_a_path(fake: Fake) -> None:
    fake.says(begun())
    async with listening(fake) as url:
        store = ServiceStore(url=url + "/base/", api_key=KEY, filename="a.png", content_type="image/png")
        await create(store)
        await store.aclose()
    assert fake.asked[0].path == "/base/v1/media/multipart"
    assert "head" not in fake.asked[0].body


async def test_options_hold_no_secret(fake: Fake, store: ServiceStore) -> None:
    fake.says(begun([part(1)]))
    await create(store, [part(1)])
    assert store.options() == {"filename": "movie.mp4", "content_type": "video/mp4"}
    assert KEY not in repr(vars(store))
    other = ServiceStore(url="http://h", api_key=KEY, filename="a", content_type="a/b", ca_bundle=Path("/ca.pem"))
    assert other.options() == {"filename": "a", "content_type": "a/b", "ca_bundle": "/ca.pem"}


async def test_an_upload_goes_on_with_the_type_that_it_began_with(store: ServiceStore) -> None:
    assert store.go_on_with({"content_type": "video/quicktime"}) == ["content-type"]
    assert store.go_on_with({"content_type": "video/quicktime"}) == []
    assert store.go_on_with({}) == []
    assert store.options()["content_type"] == "video/quicktime"


async def test_adopting_needs_the_stores_own_credentials(store: ServiceStore) -> None:
    with pytest.raises(errors.UsageError, match="credentials"):
        await store.find_open()
