"""When the service starts and ends as an ASGI application, and what it answers meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from multidict import CIMultiDict

from bigupload import errors
from bigupload.service.asgi import AsgiService, ServiceConfig, _send, create_app, mount, path_in_app, scope_of
from bigupload.service.call import Answer, WebCall
from bigupload.service.http.handling import Service
from bigupload.service.uploads.bucket_rules import set_up
from bigupload.stores.local_store import LocalStore
from tests.service.asgi.client import Client, body, declared, settled
from tests.tools.buckets import Meddled, fresh_name, options_for
from tests.tools.cases import each_case

SECRETS = ("0123456789abcdef" * 2,)


def service(weed: LocalStore, bucket: str, lines: list[str] | None = None, **more: Any) -> AsgiService:
    arguments: dict[str, Any] = {"authorize": lambda _: "ada", "secrets": SECRETS} | more
    return create_app(
        ServiceConfig(
            bucket=bucket, s3=options_for(weed), log=[].append if lines is None else lines.append, **arguments
        )
    )


async def get(app: Any, path: str = "/readyz", **more: Any) -> tuple[int, bytes]:
    return await Client(method="GET", path=path, **more).asks(app)


class Lifespan:
    """A server's start-up and shutdown."""

    def __init__(self, app: Any) -> None:
        self.told: asyncio.Queue[str] = asyncio.Queue()
        self.said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.app = app

    async def __aenter__(self) -> dict[str, Any]:
        async def receive() -> dict[str, Any]:
            return {"type": await self.told.get()}

        self.task = asyncio.create_task(self.app({"type": "lifespan", "asgi": {}}, receive, self.said.put))
        await self.told.put("lifespan.startup")
        return await self.said.get()

    async def __aexit__(self, *_: object) -> None:
        await self.told.put("lifespan.shutdown")
        await self.task


def events(lines: list[str]) -> list[str]:
    return [json.loads(line)["event"] for line in lines]


async def test_a_server_s_lifespan(weed: LocalStore, ready: str) -> None:
    """It may be started again after its end."""
    app = service(weed, ready)
    for _ in range(2):
        span = Lifespan(app)
        async with span as said:
            assert said == {"type": "lifespan.startup.complete"}
            assert await get(app) == (200, b'{"status": "ok"}')
        assert await span.said.get() == {"type": "lifespan.shutdown.complete"}


async def test_a_start_that_fails_tells_the_server_why(weed: LocalStore) -> None:
    lines: list[str] = []
    span = Lifespan(service(weed, "no-such-bucket", lines))
    async with span as said:
        assert said["type"] == "lifespan.startup.failed"
        assert "no-such-bucket" in said["message"]
    assert events(lines) == ["start"]
    with pytest.raises(errors.BucketNotFound):
        async with service(weed, "no-such-bucket").lifespan():
            pass


async def test_a_start_that_breaks_does_not_look_like_no_lifespan(
    weed: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers go on without a lifespan if an exception is all that they get."""

    def broken(_: object) -> None:
        raise LookupError("secret")

    monkeypatch.setattr(Service, "running", broken)
    span = Lifespan(service(weed, "any"))
    with pytest.raises(LookupError):
        async with span as said:
            assert said == {"type": "lifespan.startup.failed", "message": "the media service failed: LookupError"}


async def test_what_makes_no_sense_is_told_at_once(weed: LocalStore) -> None:
    with pytest.raises(errors.UsageError, match="not an origin"):
        service(weed, "b", cors_origins=("example.com",))


async def test_without_a_lifespan_it_starts_at_the_first_request(weed: LocalStore) -> None:
    """Once for all that come at that moment; and if it can't, it tries again at the next request."""
    lines: list[str] = []
    bucket = Meddled(fresh_name(weed), options_for(weed))
    app = service(weed, bucket.name, lines)
    found = await asyncio.gather(*(get(app) for _ in range(5)))
    assert {status for status, _ in found} == {503}
    assert json.loads(found[0][1])["error"]["code"] == "store_unavailable"
    assert events(lines) == ["start"]
    assert bucket.name not in str(found)
    await set_up(bucket)
    await bucket.aclose()
    assert {status for status, _ in await asyncio.gather(*(get(app) for _ in range(5)))} == {200}
    async with app.lifespan():  # which ends it, who ever began it
        pass


def test_another_event_loop_after_the_first_has_ended(weed: LocalStore) -> None:
    """As the test clients of frameworks have it."""
    bucket = fresh_name(weed)

    async def made() -> None:
        meddled = Meddled(bucket, options_for(weed))
        await set_up(meddled)
        await meddled.aclose()

    async def within() -> int:
        async with app.lifespan():
            return (await get(app))[0]

    asyncio.run(made())
    app = service(weed, bucket)
    assert [asyncio.run(within()) for _ in range(2)] == [200, 200]


def test_each_event_loop_starts_it_anew_and_two_at_once_are_refused(weed: LocalStore) -> None:
    app = service(weed, "no-such-bucket")
    assert [asyncio.run(get(app))[0] for _ in range(2)] == [503, 503]

    async def another() -> None:
        await get(app)
        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, get(app))

    asyncio.run(another())


async def test_the_prefix_without_a_slash_leads_to_the_page(weed: LocalStore) -> None:
    client = Client(method="GET", path="/p é", root_path="/p é")
    assert (await client.asks(service(weed, "b")))[0] == 308
    assert (b"location", b"/p%20%C3%A9/") in client.sent[0]["headers"]


async def test_what_was_begun_goes_on_when_the_client_leaves_and_the_end_waits_for_it(
    weed: LocalStore, ready: str
) -> None:
    """A server may cancel what it serves then."""
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(_: WebCall) -> str:
        begun.set()
        await goes_on.wait()
        return "ada"

    lines: list[str] = []
    app = service(weed, ready, lines, authorize=slow)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(app.lifespan())
        client = Client(method="GET", path="/v1/media")
        asking = asyncio.create_task(app(client.scope, client.receive, client.send))
        await begun.wait()
        asking.cancel()
        await asyncio.wait({asking})
        closing = asyncio.create_task(stack.pop_all().aclose())
        await settled()
        assert not closing.done()
        goes_on.set()
        await closing
    assert client.sent == []
    assert json.loads(lines[-1])["status"] == 200


JSON_TYPE = (b"content-type", b"application/json")
PRESIGN = b'{"filename": "a.jpg", "contentType": "image/jpeg"}'


@each_case("pieces", [[PRESIGN], [PRESIGN[:9], b"", PRESIGN[9:], b""]])
@each_case("has_length", [True, False])
async def test_a_body_in_any_pieces(weed: LocalStore, ready: str, pieces: list[bytes], has_length: bool) -> None:
    app = service(weed, ready)
    async with app.lifespan():
        headers = [JSON_TYPE, *(declared(len(PRESIGN)) if has_length else [])]
        status, answer = await Client(body(*pieces), path="/v1/media/presign", headers=headers).asks(app)
        assert (status, json.loads(answer)["key"].startswith("media/ada/")) == (200, True)


@each_case("length", [None, 10_000_000, b"1" * 5000])
async def test_a_body_that_is_too_long_is_received_no_further(weed: LocalStore, ready: str, length: Any) -> None:
    app = service(weed, ready)
    async with app.lifespan():
        told = [] if length is None else [(b"content-length", b"%d" % length if isinstance(length, int) else length)]
        client = Client(body(*[bytes(65_536)] * 100), path="/v1/media/presign", headers=[JSON_TYPE, *told])
        status, answer = await client.asks(app)
        assert (status, json.loads(answer)["error"]["code"]) == (413, "body_too_large")
        assert client.received <= (0 if told else 2)


async def test_a_client_that_leaves_in_its_body_is_no_bug(weed: LocalStore, ready: str) -> None:
    lines: list[str] = []
    app = service(weed, ready, lines)
    async with app.lifespan():
        client = Client(body(b"{", b"}")[:1], path="/v1/media/presign", headers=[*declared(2), JSON_TYPE])
        client.leaves.set()
        await client.asks(app)
    line = json.loads(lines[-1])
    assert (line["status"], line["code"]) == (400, "invalid_json")


async def test_a_host_that_fails_while_the_body_is_received(weed: LocalStore, ready: str) -> None:
    async def failing() -> dict[str, Any]:
        raise LookupError("a bug of the host")

    app = service(weed, ready)
    async with app.lifespan():
        client = Client(path="/v1/media/presign", headers=[JSON_TYPE])
        await app(client.scope, failing, client.send)
        assert client.sent[0]["status"] == 500


async def test_headers_of_any_bytes(weed: LocalStore, ready: str) -> None:
    """As aiohttp takes and gives them: a posts API's type of a body, say, comes back as it was."""
    app = service(weed, ready)
    async with app.lifespan():
        assert (await get(app, "/healthz", headers=[(b"x", b"\xff\xe9"), (b"y", "é".encode())]))[0] == 200
    client = Client()
    odd = b"text/plain; x=\xff".decode(errors="surrogateescape")
    await _send(Answer(headers=CIMultiDict({"Content-Type": odd})), client.send)
    assert client.sent[0]["headers"][0] == (b"content-type", b"text/plain; x=\xff")


async def test_head(weed: LocalStore, ready: str) -> None:
    app = service(weed, ready)
    async with app.lifespan():
        client = Client(method="HEAD", path="/healthz")
        assert await client.asks(app) == (200, b"")
        assert dict(client.sent[0]["headers"])[b"content-length"] == b"16"


async def test_what_authorize_and_the_log_know_of_the_client(weed: LocalStore, ready: str) -> None:
    asked: list[WebCall] = []
    lines: list[str] = []
    app = service(weed, ready, lines, authorize=lambda call: asked.append(call) or "ada")
    async with app.lifespan():
        headers = [
            (b"host", b"media.example.com"),
            (b"cookie", b'a=1; sessionid="x=y"'),
            (b"x-a", b"b"),
            (b"X-A", b"c"),
        ]
        more = {"client": ["192.0.2.1", 5], "session": {"user": "ada"}}
        assert (await get(app, "/p/v1/media", root_path="/p", headers=headers, **more))[0] == 200
    [call] = asked
    assert scope_of(call)["session"] == {"user": "ada"}
    assert (call.method, call.path, call.prefix, call.host) == ("GET", "/v1/media", "/p", "media.example.com")
    assert call.cookies == {"a": "1", "sessionid": "x=y"}
    assert call.headers.getall("x-a") == ["b", "c"]
    line = json.loads(lines[-1])
    assert (line["remote"], line["route"]) == ("192.0.2.1", "/p/v1/media")
    with pytest.raises(LookupError, match="by ASGI"):
        scope_of(object())


@each_case("path", ["*", "", "http://evil.example/"])
async def test_a_path_that_is_none(weed: LocalStore, ready: str, path: str) -> None:
    app = service(weed, ready)
    async with app.lifespan():
        status, answer = await get(app, path or "x")
        assert (status, json.loads(answer)["error"]["code"]) == (400, "malformed_request")


@each_case(
    ("of", "there"),
    [
        ({"path": "/v1/x"}, "/v1/x"),
        ({"path": "/m/v1/x", "root_path": "/m"}, "/v1/x"),
        ({"path": "/m/v1/x", "root_path": "/m/"}, "/v1/x"),
        ({"path": "/v1/x", "root_path": "/m"}, "/v1/x"),  # a proxy took the prefix away
        ({"path": "/media/x", "root_path": "/m"}, "/media/x"),
        ({"path": "/m", "root_path": "/m"}, ""),
        ({"path": "/m/", "root_path": "/m"}, "/"),
    ],
)
def test_the_path_below_the_prefix(of: dict[str, str], there: str) -> None:
    assert path_in_app(of) == there


async def test_two_in_one_process_and_a_host_beside_them(weed: LocalStore, ready: str) -> None:
    async def host(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    def user(request: WebCall) -> str | None:
        return scope_of(request).get("user")

    one, two = service(weed, ready, authorize=user), service(weed, ready)
    app = mount(mount(host, one, at="/one"), two, at="/x/two/")
    async with one.lifespan(), Lifespan(app) as said:
        assert said == {"type": "lifespan.startup.complete"}
        for path, status in (
            ("/one/readyz", 200), ("/x/two/readyz", 200), ("/one", 308), ("/x/two", 308), ("/", 418), ("/onely", 418),
            ("/x/readyz", 418), ("/one/nothing", 404), ("/one/v1/media", 401), ("/x/two/v1/media", 200),
        ):  # fmt: skip
            assert (await get(app, path))[0] == status, path
        assert (await get(app, "/one/v1/media", user="bob"))[0] == 200
        documents = [json.loads((await get(app, f"{at}/openapi.json"))[1]) for at in ("/one", "/x/two")]
        assert [document["servers"] for document in documents] == [[{"url": "/one"}], [{"url": "/x/two"}]]
        below = json.loads((await get(app, "/p/one/openapi.json", root_path="/p"))[1])
        assert below["servers"] == [{"url": "/p/one"}]


@pytest.mark.parametrize("prefix", ["", "uploads", "https://x"])
def test_what_is_no_prefix(weed: LocalStore, prefix: str) -> None:
    with pytest.raises(errors.UsageError, match="not a prefix"):
        mount(service(weed, "b"), service(weed, "b"), at=prefix)


async def test_scopes_that_are_no_requests(weed: LocalStore) -> None:
    app = service(weed, "b")
    client = Client([{"type": "websocket.connect"}], type="websocket")
    await app(client.scope, client.receive, client.send)
    assert client.sent == [{"type": "websocket.close"}]
    with pytest.raises(ValueError, match="pigeon"):
        await app({"type": "pigeon"}, client.receive, client.send)


async def test_a_query_that_no_endpoint_knows(weed: LocalStore, ready: str) -> None:
    app = service(weed, ready)
    async with app.lifespan():
        for query, says in ((b"usr=x", b'"field": "usr"'), (b"user=%ff", b"UTF-8"), (b"user=\xff", b"UTF-8")):
            status, answer = await get(app, "/v1/media", query_string=query)
            assert (status, says in answer) == (400, True)
            assert b"invalid_query" in answer
        client = Client(method="GET", path="/v1/media", query_string=b"user=ada")
        assert (await client.asks(app))[0] == 200
        assert b"server" not in dict(client.sent[0]["headers"])
