"""A strict fake of AWS S3's multipart API, for tests.

::

    with StrictS3() as s3:
        s3.create_bucket("bucket")
        s3.script("UploadPart", Status(503, "SlowDown", read_body=False), Ok(), LostResponse())
        ...  # talk to s3.url with s3.access_key and s3.secret_key in s3.region
        assert s3.objects["bucket"]["key"].body == body

It runs in a thread of its own, so blocking and async clients in the test's thread can both talk to it. It verifies what
AWS verifies: signatures, clocks, lengths, checksums, part lists. The knobs make it laxer or stricter, as other stores
are. What it holds is in `contents`, the operations are in `objects` and `multipart`, the rules in `model`, the faults
in `bigupload.testing.faults`.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import functools
import socket
import ssl
import tempfile
import threading
import uuid
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from bigupload.testing.faults import (
    Call,
    ErrorIn200,
    LostResponse,
    Reset,
    Status,
    StoreFault,
    Whitespace,
    WrongEtag,
)

from . import multipart, objects
from .contents import Contents, Knobs
from .exchange import GONE, Dropped, Exchange, Record, StoreResponse, xml
from .sigv4 import IssuedCredentials, verify
from .wire import DECLARATION, Content, S3Error

Operation = Callable[[Contents, Exchange], Awaitable[StoreResponse]]


async def perform(s3: Contents, exchange: Exchange) -> StoreResponse:
    operation = _OPERATIONS.get(exchange.op)
    if operation is None:
        raise S3Error("NotImplemented")
    verified = exchange.verified
    if verified is None:
        raise S3Error("AccessDenied")
    s3.knobs.receive(exchange)
    if exchange.bucket and exchange.op != "CreateBucket":
        region = s3.buckets.get(exchange.bucket)
        if region is None:
            raise S3Error("NoSuchBucket", fields={"BucketName": exchange.bucket})
        if verified.region != region:
            raise _wrong_region(s3, exchange, verified.region, region)
        if exchange.headers.get("x-amz-expected-bucket-owner", s3.knobs.owner) != s3.knobs.owner:
            raise S3Error("AccessDenied")
        if s3.knobs.requester_pays and exchange.headers.get("x-amz-request-payer") != "requester":
            raise S3Error("AccessDenied")
    response = await operation(s3, exchange)
    return replace(response, headers={**common_headers(s3, exchange), **response.headers})


def common_headers(s3: Contents, exchange: Exchange) -> dict[str, str]:
    headers = {"x-amz-request-id": exchange.request_id, "x-amz-id-2": "strict-s3", "Server": "AmazonS3"}
    headers["Date"] = email.utils.formatdate(s3.clock(), usegmt=True)
    if exchange.op == "HeadBucket" and exchange.bucket in s3.buckets:
        headers["x-amz-bucket-region"] = s3.buckets[exchange.bucket]
    return headers


def _wrong_region(s3: Contents, exchange: Exchange, signed: str, region: str) -> S3Error:
    headers = {"x-amz-bucket-region": region}
    if s3.knobs.wrong_region == "redirect":
        endpoint = f"s3.{region}.amazonaws.com"
        return S3Error("PermanentRedirect", fields={"Endpoint": endpoint, "Bucket": exchange.bucket}, headers=headers)
    return S3Error(
        "AuthorizationHeaderMalformed",
        f"The authorization header is malformed; the region '{signed}' is wrong; expecting '{region}'",
        fields={"Region": region},
        headers=headers,
    )


async def list_buckets(s3: Contents, exchange: Exchange) -> StoreResponse:
    rows: list[tuple[str, Content]] = [("Bucket", [("Name", name)]) for name in sorted(s3.buckets)]
    return xml("ListAllMyBucketsResult", [("Owner", [("ID", "strict")]), ("Buckets", rows)])


async def create_bucket(s3: Contents, exchange: Exchange) -> StoreResponse:
    await exchange.read()
    if exchange.bucket in s3.buckets:
        raise S3Error("BucketAlreadyOwnedByYou", fields={"BucketName": exchange.bucket})
    s3.create_bucket(exchange.bucket, region=exchange.verified.region if exchange.verified else None)
    return StoreResponse(200, {"Location": f"/{exchange.bucket}"})


async def head_bucket(s3: Contents, exchange: Exchange) -> StoreResponse:
    return StoreResponse(200, {"Content-Type": "application/xml"})


async def get_bucket_location(s3: Contents, exchange: Exchange) -> StoreResponse:
    region = s3.buckets[exchange.bucket]
    return xml("LocationConstraint", "" if region == "us-east-1" else region)


_OPERATIONS: dict[str, Operation] = {
    "ListBuckets": list_buckets,
    "CreateBucket": create_bucket,
    "HeadBucket": head_bucket,
    "GetBucketLocation": get_bucket_location,
    "ListObjectsV2": objects.list_objects_v2,
    "CreateMultipartUpload": multipart.create_multipart_upload,
    "UploadPart": multipart.upload_part,
    "UploadPartCopy": multipart.upload_part_copy,
    "ListParts": multipart.list_parts,
    "ListMultipartUploads": multipart.list_multipart_uploads,
    "CompleteMultipartUpload": multipart.complete_multipart_upload,
    "AbortMultipartUpload": multipart.abort_multipart_upload,
    "PutObject": objects.put_object,
    "GetObject": objects.get_object,
    "HeadObject": objects.get_object,
    "DeleteObject": objects.delete_object,
    "DeleteObjects": objects.delete_objects,
}


class Listener:
    """Runs while it is entered, at `url`. Its subclass responds to the requests."""

    def __init__(self, host: str, *, tls: bool) -> None:
        self.url = ""
        self.port = 0
        self.ca_bundle: Path | None = None
        self._host, self._tls = host, tls
        self._wake: asyncio.Event

    def prepare(self, directory: Path) -> None:
        """Before the first request; `directory` is removed at the end."""

    def release(self) -> None:
        """Let go whatever waits."""

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="strict-s3-")
        try:
            context = self._ssl_context() if self._tls else None
            self.prepare(Path(self._directory.name))
            ready: Future[int] = Future()
            self._thread = threading.Thread(
                target=lambda: asyncio.run(self._serve(ready, context)), name="strict-s3", daemon=True
            )
            self._thread.start()
            self.port = ready.result(timeout=30)
        except BaseException:
            self._directory.cleanup()
            raise
        self.url = f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Close every connection and the port. Harmless when repeated; the records stay."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=30)
        self._directory.cleanup()
        if self._thread.is_alive():
            raise RuntimeError("StrictS3 did not stop")

    def _ssl_context(self) -> ssl.SSLContext:
        from bigupload.testing.certificates import make_certificates  # needs cryptography, as https alone does

        paths = make_certificates(Path(self._directory.name))
        self.ca_bundle = paths.ca
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(paths.cert, paths.key)
        return context

    async def _serve(self, ready: Future[int], context: ssl.SSLContext | None) -> None:
        try:
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            self._wake = asyncio.Event()
            # auto_decompress: a part's Content-Encoding is the object's business, not the transport's.
            server = _Server(self._handle, access_log=None, auto_decompress=False, read_bufsize=1 << 19)
            listener = await self._loop.create_server(server, self._host, 0, ssl=context, backlog=512)
            ready.set_result(listener.sockets[0].getsockname()[1])
        except BaseException as error:
            ready.set_exception(error)
            raise
        await self._stop.wait()
        # A connection that was just accepted is a task that has not begun. asyncio forgets to close its socket where
        # the listener is gone by then, or the task cancelled: accept no more, and let those begin.
        for each in listener.sockets:
            with contextlib.suppress(NotImplementedError):  # the event loop of Windows has none
                self._loop.remove_reader(each.fileno())
        await asyncio.sleep(0)
        listener.close()
        self.release()
        await server.shutdown(timeout=0.01)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # A connection that was accepted meanwhile, or whose client reads nothing, is not closed by that.
        for transport in server.transports:
            transport.abort()
        for _ in range(2):  # an aborted transport closes its socket at the loop's next turn
            await asyncio.sleep(0)


class _Server(web.Server):
    """Keeps its connections' transports in mind, to end with it also those that aiohttp does not close in time.

    Those below TLS: a TLS transport of asyncio's that was closed twice, as aiohttp does, can't be aborted any more, and
    waits for the other side's farewell.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.transports: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        self.transports.add(getattr(getattr(transport, "_ssl_protocol", None), "_transport", transport))
        super().connection_made(handler, transport)


class StrictS3(Contents, Listener):
    """The server. Everything public may be used from any thread while it runs.

    `clock` gives seconds since the epoch, for signatures, tokens and timestamps. `requests` holds a `Record` for each
    request in order of arrival, `uploads` the open uploads by id, `objects[bucket][key]` the objects.
    """

    access_key = "AKIASTRICTS3TESTS000"
    secret_key = "strict/s3+secret+key/of/the/tests0000000"  # noqa: S105 - of a store that holds nothing

    def __init__(self, *, tls: bool = False, host: str = "127.0.0.1", **knobs: Any) -> None:
        Listener.__init__(self, host, tls=tls)
        Contents.__init__(self, Knobs(**knobs))
        self.credentials: dict[str, IssuedCredentials] = {
            self.access_key: IssuedCredentials(self.access_key, self.secret_key),
        }
        self.requests: list[Record] = []
        self.bytes_received = 0
        self.stalled = 0
        """Requests that are not read now, until `release`."""
        self._changed = threading.Condition()
        self._arrived: Counter[str] = Counter()
        self._responded: Counter[str] = Counter()
        self._scripts: list[_Scripted] = []
        self._held: set[tuple[str, str]] = set()
        self._waiting: set[str] = set()
        self._stalls = 0  # counts releases of stalled requests, so that each release frees the stalls before it

    # --- for tests

    def issue_session(self, *, seconds: float | None = None) -> IssuedCredentials:
        """Temporary credentials with a session token, good for `seconds` of `clock`."""
        name = uuid.uuid4().hex
        issued = IssuedCredentials(
            access_key=f"ASIA{name[:16].upper()}",
            secret_key=name,
            session_token=f"token/{name}==",
            expires_at=None if seconds is None else self.clock() + seconds,
        )
        self.credentials[issued.access_key] = issued
        return issued

    def client(self, credentials: IssuedCredentials | None = None, /, **options: Any) -> Any:
        """A boto3 client for this store: path addressing, SigV4, no retries (unless `config` says otherwise)."""
        from botocore.config import Config

        config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
        if "config" in options:
            config = config.merge(options.pop("config"))
        use = credentials or self.credentials[self.access_key]
        defaults: dict[str, Any] = {
            "endpoint_url": self.url,
            "region_name": self.region,
            "aws_access_key_id": use.access_key,
            "aws_secret_access_key": use.secret_key,
            "aws_session_token": use.session_token,
            "verify": str(self.ca_bundle) if self.ca_bundle else None,
        }
        with _session_lock:
            return _session().client("s3", config=config, **{**defaults, **options})

    def script(
        self,
        op: str | Collection[str],
        *responses: StoreFault,
        part_number: int | None = None,
        key: str | None = None,
        repeat: bool = False,
    ) -> None:
        """Let the next requests of `op` meet these responses, one each; with `repeat`, the last one for ever.

        Args:
            op: S3's name of the operation, as "UploadPart"; or several, for the next requests of any of them.
            responses: what becomes of the requests, in the order in which they arrive.
            part_number: only requests of this part count.
            key: only requests of this object count.
            repeat: the last response is for all requests that follow, too.

        Raises:
            ValueError: `op` is not an operation that the fake knows.
        """
        ops = frozenset([op] if isinstance(op, str) else op)
        for each in ops:
            self._known(each)
        with self._changed:
            for index, response in enumerate(responses):
                last = index == len(responses) - 1
                self._scripts.append(_Scripted(ops, response, part_number, key, repeat=repeat and last))

    def clear(self, op: str | None = None) -> None:
        """Forget what was scripted, for `op` or for all operations."""
        with self._changed:
            self._scripts = [each for each in self._scripts if op is not None and op not in each.ops]

    def unmet(self) -> list[StoreFault]:
        """Return the scripted responses that no request has met yet."""
        with self._changed:
            return [each.response for each in self._scripts if not each.met]

    def hold(self, op: str, *, acted: bool = False) -> None:
        """Make requests of `op` wait for `release`: before they do anything, or with `acted` before they respond."""
        self._known(op)
        with self._changed:
            self._held.add((op, "end" if acted else "start"))

    def release(self, op: str | None = None) -> None:
        """Let the held requests of `op` (of all) continue, and every stalled one. Later requests are not held."""
        with self._changed:
            self._held = {held for held in self._held if op is not None and held[0] != op}
            self._waiting.clear()
            self._stalls += 1
        self._loop.call_soon_threadsafe(self._wake.set)

    def wait_for(self, op: str, count: int = 1, *, responded: bool = False, timeout: float = 10) -> None:
        """Block until `count` requests of `op` in total have arrived (`responded`: got a response or were dropped)."""
        self._known(op)
        counter = self._responded if responded else self._arrived
        with self._changed:
            if not self._changed.wait_for(lambda: counter[op] >= count, timeout):
                raise TimeoutError(f"{counter[op]} of {count} {op} in {timeout} s; seen: {dict(self._arrived)}")

    def wait_until_held(self, op: str, *, timeout: float = 10) -> None:
        """Block until a request of `op` waits for `release`."""
        self._known(op)
        with self._changed:
            if not self._changed.wait_for(lambda: op in self._waiting, timeout):
                raise TimeoutError(f"no {op} was held in {timeout} s; seen: {dict(self._arrived)}")

    async def wait_for_async(self, op: str, count: int = 1, *, responded: bool = False, timeout: float = 10) -> None:
        """`wait_for` that leaves the event loop running."""
        await asyncio.to_thread(self.wait_for, op, count, responded=responded, timeout=timeout)

    def settle(self, *, timeout: float = 20) -> None:
        """Block until every request has ended, those included whose client has gone before it was read. Over http."""
        for _ in range(2):  # the next request is read after all that came before
            with socket.create_connection((self._host, self.port), timeout) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: store\r\nConnection: close\r\n\r\n")
                while connection.recv(65536):
                    pass
        with self._changed:
            if not self._changed.wait_for(lambda: all(r.status is not None for r in list(self.requests)), timeout):
                raise TimeoutError("a request does not end")

    def count(self, op: str, *, status: int | None = None) -> int:
        """Return the number of requests of `op` that have arrived (and, if given, ended with `status`)."""
        return sum(each.op == op and status in (None, each.status) for each in list(self.requests))

    @staticmethod
    def _known(op: str) -> None:
        if op not in _OPERATIONS and op != "Unknown":
            raise ValueError(f"{op} is none of {sorted(_OPERATIONS)}")

    def prepare(self, directory: Path) -> None:
        if self.knobs.keep_bodies == "disk":
            self.keep_in = directory

    # --- one request

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        exchange = Exchange(request, self._until_released, self._count)
        exchange.request_id = uuid.uuid4().hex[:16].upper()
        self._arrive(exchange)
        record = exchange.record
        try:
            await self._gate(record.op, "start")
            return await self._respond(exchange)
        except Dropped as dropped:
            if not isinstance(dropped, _Responded):
                record.status = 0
            return web.Response()  # to a connection that is no more
        except GONE:  # not raised: aiohttp would log it as an error of this program
            record.status = 0
            exchange.reset()
            return web.Response()
        finally:
            with self._changed:
                self._responded[record.op] += 1
                if record.status is None:
                    record.status = 0
                self._changed.notify_all()

    def _count(self, size: int) -> None:
        self.bytes_received += size

    def _arrive(self, exchange: Exchange) -> None:
        with self._changed:
            scripted = next((each for each in self._scripts if each.fits(exchange)), None)
            if scripted is not None:
                exchange.fault, scripted.met = scripted.response, True
                if not scripted.repeat:
                    self._scripts.remove(scripted)
            self.requests.append(exchange.record)
            self._arrived[exchange.op] += 1
            self._changed.notify_all()

    async def _gate(self, op: str, when: str) -> None:
        while (op, when) in self._held:
            with self._changed:
                self._waiting.add(op)
                self._changed.notify_all()
            await self._woken()

    async def _until_released(self) -> None:
        before = self._stalls
        self.stalled += 1
        try:
            while self._stalls == before:
                await self._woken()
        finally:
            self.stalled -= 1

    async def _woken(self) -> None:
        # Cleared by whoever waits next: `release` changes the state first and sets the event after, in this loop.
        self._wake.clear()
        await self._wake.wait()

    async def _respond(self, exchange: Exchange) -> web.StreamResponse:
        fault, record = exchange.fault, exchange.record
        try:
            if isinstance(fault, Status):
                return await self._status(exchange, fault)
            if isinstance(fault, Reset):
                async for _ in exchange.raw_chunks():
                    pass
            if isinstance(fault, Call) and not fault.acted:
                await asyncio.to_thread(fault.function, self)
            if isinstance(fault, ErrorIn200) and not fault.act:
                await exchange.read()
                response = StoreResponse(200)
            else:
                exchange.verified = verify(exchange.signed, credentials=self.credentials.get, now=self.clock())
                response = await perform(self, exchange)
        except S3Error as error:
            return self._refuse(exchange, error)
        await self._gate(record.op, "end")
        if isinstance(fault, Call) and fault.acted:
            await asyncio.to_thread(fault.function, self)
        if isinstance(fault, LostResponse):
            exchange.reset()
            raise Dropped
        record.status = response.status
        if isinstance(fault, WrongEtag):
            response = response.with_etag(fault.etag)
        response = self.knobs.respond(exchange.op, response)
        if isinstance(fault, ErrorIn200 | Whitespace):
            return await self._spaced(exchange, fault, response)
        return await response.send(exchange)

    async def _status(self, exchange: Exchange, fault: Status) -> web.StreamResponse:
        error = S3Error(fault.code, fault.message, status=fault.status, headers=fault.headers)
        if fault.read_body:
            async for _ in exchange.raw_chunks():
                pass
        return self._refuse(exchange, error, abrupt=not fault.read_body)

    def _refuse(self, exchange: Exchange, error: S3Error, *, abrupt: bool = False) -> web.StreamResponse:
        record = exchange.record
        record.status, record.error = error.status, error.code
        body = (
            b""
            if exchange.request.method == "HEAD" or not error.code
            else DECLARATION + error.element(exchange.request_id)
        )
        headers = {
            **common_headers(self, exchange),
            "Content-Type": "application/xml",
            **error.headers,
        }
        if abrupt or exchange.body_waits:
            exchange.response_and_close(error.status, headers, body)
            raise _Responded
        return web.Response(status=error.status, headers=headers, body=body)

    async def _spaced(
        self, exchange: Exchange, fault: ErrorIn200 | Whitespace, whole: StoreResponse
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=200, headers={**whole.headers, "Content-Type": "application/xml"})
        response.enable_chunked_encoding()
        await response.prepare(exchange.request)
        await response.write(DECLARATION)
        count = fault.count if isinstance(fault, Whitespace) else fault.whitespace
        await response.write(b" " * count)
        if isinstance(fault, ErrorIn200):
            exchange.record.error = fault.code
            await response.write(S3Error(fault.code, fault.message).element(exchange.request_id))
        else:
            await response.write(whole.body.removeprefix(DECLARATION))
        await response.write_eof()
        return response


@functools.cache
def _session() -> Any:
    """One for all: a session of its own costs each client a quarter of a second. Not thread-safe, hence the lock."""
    import boto3

    return boto3.session.Session()


_session_lock = threading.Lock()


class _Responded(Dropped):
    """The response is out and the connection closing."""


@dataclass(eq=False)
class _Scripted:
    ops: frozenset[str]
    response: StoreFault
    part_number: int | None
    key: str | None
    repeat: bool
    met: bool = False

    def fits(self, exchange: Exchange) -> bool:
        of_this = self.part_number in (None, exchange.part_number) and self.key in (None, exchange.key)
        return of_this and exchange.op in self.ops
