"""One bucket, reached with credentials through botocore: clients, calls in threads, presigned URLs.

This module knows nothing of uploads. botocore blocks and is slow to import, so it is imported in the thread that first
needs it, without the rest of boto3. Its own retries are off: the caller decides about retries, because complete must
not be repeated unnoticed. `call` translates botocore's exceptions.
"""

from __future__ import annotations

import functools
import traceback
import typing
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

import anyio
import anyio.to_thread

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.http.trust import CaBundle, ssl_context
from bigupload.options import S3Options
from bigupload.s3_parameters import REQUEST, REQUEST_HEADERS, parameters
from bigupload.stores.request_log import log_request
from bigupload.stores.s3._compat import headers_of_put, seconds_left
from bigupload.stores.s3.access_points import region_of
from bigupload.stores.s3.aws_session import AwsSession, configured_ca_bundle
from bigupload.stores.s3.errors import fault_of_botocore
from bigupload.stores.s3.make_client import CONNECTIONS, make_client
from bigupload.stores.s3.plain_access import PlainAccess, plain_access
from bigupload.stores.s3.plain_calls import PLAIN_METHODS, PlainCalls
from bigupload.stores.s3.plain_signing import PlainSigner
from bigupload.stores.s3.presign import PartSigner
from bigupload.stores.s3.presign_put import ObjectPut, PutSigner
from bigupload.stores.s3.renewal import Renewal, explain_refusal, is_refusal, make_credentials_last
from bigupload.stores.s3.upload_pages import UploadPages
from bigupload.support.daemon_threads import run_in_daemon_thread

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

R = TypeVar("R")

URL_LIFETIME = 3600
"""Seconds that a presigned URL is valid."""
ANSWER_WITHIN = 60.0
"""Timeout in seconds for every request except complete."""
_SIGNING = 0.0
"""Stands for the client that signs for another endpoint, in place of a timeout. It sends no requests."""
_ANY = "key"
_SIGNERS = 4


class _WithoutBotocore(NamedTuple):
    """What does not need botocore."""

    signer: PlainSigner
    calls: PlainCalls


class S3Bucket:
    """The connection to one bucket, shared by all its keys."""

    def __init__(
        self,
        name: str,
        options: S3Options,
        *,
        signing_endpoint: str | None = None,
        urls_hold: bool = False,
        answer_within: float = ANSWER_WITHIN,
    ) -> None:
        """Make a connection. It sends nothing until the first call.

        Args:
            name: The bucket's name.
            options: The endpoint, region and credentials.
            signing_endpoint: The endpoint of presigned URLs, if clients reach the store at another than this process.
            urls_hold: Whether URLs must be valid for all of URL_LIFETIME, even if the credentials expire sooner.
            answer_within: The timeout in seconds of every call that names no other.
        """
        self.name = name
        self.options = options
        self._signing_endpoint = signing_endpoint
        self._urls_hold = urls_hold
        self._answer_within = answer_within
        self._session: AwsSession | None = None
        self._clients: dict[float, S3Client] = {}
        self._part_signer: PartSigner | None = None
        self._put_signer: PutSigner | None = None
        self._plain: _WithoutBotocore | None = None
        """What does not need botocore, where the configuration allows that."""
        self._is_plain_known = False
        self._making = anyio.Lock()
        self.renewal = Renewal(options.credentials)
        self._requesting: anyio.CapacityLimiter | None = None
        self._region = options.region or region_of(name)
        self._of_requests = parameters(REQUEST, options)
        self._url = f"s3://{name}/"

    @functools.cached_property
    def ca_bundle(self) -> CaBundle:
        """The certificates to trust, for botocore's requests and for parts alike."""
        if self.options.no_verify_ssl:
            return False
        return self.options.ca_bundle or configured_ca_bundle(self.options)

    @property
    def region(self) -> str | None:
        """The region for which requests are signed; None before the first request."""
        for client in self._clients.values():
            return client.meta.region_name
        return self._region if self._plain is None else self._plain.signer.access.region

    @property
    def headers(self) -> dict[str, str]:
        """What a request must send, beside its own headers, if it uses a presigned URL for an object or a part.

        It can hold a key. The signature covers it.
        """
        sent = self._of_requests
        return {header: sent[name] for header, name in REQUEST_HEADERS.items() if name in sent}

    async def prepare(self) -> None:
        """Read the AWS configuration, which the first call would do."""
        await self._client(self._answer_within)

    async def prepare_puts(self) -> None:
        """Read the AWS configuration, which the first `presign_put` would do."""
        if await self._plainly() is None:
            await self._client(self._answer_within)

    async def aclose(self) -> None:
        """Close the connections. Idempotent; the next call opens new ones.

        Otherwise they stay open until the garbage collector finds botocore's reference cycles.
        """
        if self._plain is not None:
            self._plain.calls.close()
        self._part_signer = self._put_signer = self._plain = None  # their URLs may be for another region
        self._is_plain_known = False
        while self._clients:
            self._clients.popitem()[1].close()

    async def call(
        self, what: str, method: str, *, within: float | None = None, first: int | None = None, **arguments: Any
    ) -> Any:
        """Call the client's `method` for this bucket. If the caller is cancelled, the call continues in its thread.

        Args:
            what: The purpose, for messages: "to list the parts".
            method: The name of a method of botocore's client.
            within: The timeout in seconds; None: the bucket's `answer_within`.
            first: Read only this many bytes of the response's Body, and return them in its place.
            **arguments: The method's arguments.

        Raises:
            Fault: The call failed, and a retry may help.
            BigUploadError: The call failed, and no retry helps.
        """
        within = self._answer_within if within is None else within
        plain = await self._plainly() if method in PLAIN_METHODS else None
        if plain is not None and (request := plain.calls.request(method, arguments)) is not None:
            with log_request(method, plain.calls.endpoint):
                made = await self._in_thread(lambda: plain.calls.call(what, request, within), what, None)
            if made is not None:
                return made
        client = await self._client(within)

        def call() -> Any:
            try:
                answer = getattr(client, method)(**self._parameters(client, method, arguments))
                if first is not None:
                    with answer["Body"] as stream:  # a store that ignores Range would send everything
                        answer["Body"] = stream.read(first)
                return answer
            finally:
                if self._clients.get(within) is not client:  # closed meanwhile: this call may have connected since
                    client.close()

        try:
            with log_request(method, str(client.meta.endpoint_url)):
                return await self._in_thread(call, what, None)
        except errors.WrongRegion as e:
            if self.options.region is not None or e.region in (None, client.meta.region_name):
                raise
            # The user named no region, so the bucket's own is the right one.
            if self._region != e.region:  # else another call has found it out meanwhile
                await self.aclose()
                self._region = e.region
            return await self.call(what, method, within=within, first=first, **arguments)

    async def open_uploads(self, prefix: str) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the rows of all pages of ListMultipartUploads for keys that begin with `prefix`.

        Raises:
            Fault: As `next_open_uploads`.
        """
        pages = UploadPages()
        while not pages.ended:
            page = await self.next_open_uploads(prefix, pages)
            for row in page.get("Uploads", ()):
                yield row

    async def next_open_uploads(self, prefix: str, pages: UploadPages) -> Mapping[str, Any]:
        """Return the next page of ListMultipartUploads. After a Fault, a repeated call requests the same page.

        Raises:
            Fault: FINAL if the list repeats a page or does not end.
        """
        page: Mapping[str, Any] = await self.call(
            "to list the open uploads", "list_multipart_uploads", Prefix=prefix, **pages.markers
        )
        pages.advance(page)
        return page

    async def presign(self, method: str, parameters: Sequence[Mapping[str, Any]]) -> list[str]:
        """Presign a URL for the client's `method` with each of `parameters`, valid for URL_LIFETIME.

        With `urls_hold`, temporary credentials that expire sooner are refreshed first.

        Raises:
            Fault: REFUSED if the refreshed credentials expire too soon as well.
        """
        client = await self._client(self._answer_within if self._signing_endpoint is None else _SIGNING)
        return await self._signed(lambda _: [self._presigned(client, method, each) for each in parameters], known=False)

    async def presign_parts(self, parameters: Sequence[Mapping[str, Any]]) -> list[str]:
        """Do the same as `presign("upload_part", parameters)`, faster for many parts of few uploads."""
        if (plain := await self._plainly()) is not None:
            return [plain.signer.sign_part(each) for each in parameters]
        client = await self._client(self._answer_within if self._signing_endpoint is None else _SIGNING)
        if self.options.no_sign_request:
            return await self.presign("upload_part", parameters)
        if self._part_signer is None:
            self._part_signer = PartSigner(functools.partial(self._presigned, client, "upload_part"))
        signer = self._part_signer
        whole = [{**each, **self._of_requests} for each in parameters]
        known = all(map(signer.knows, whole))
        return await self._signed(lambda keys: [signer.sign(each, keys) for each in whole], known=known)

    async def presign_put(self, put: ObjectPut) -> tuple[str, dict[str, str]]:
        """Presign a URL for a whole object, valid for URL_LIFETIME. Returns it and the headers that must be sent."""
        plain = await self._plainly()
        if plain is not None and plain.signer.takes(put):
            return plain.signer.sign_put(put)
        client = await self._client(self._answer_within if self._signing_endpoint is None else _SIGNING)
        if self._put_signer is None:
            self._put_signer = PutSigner(
                lambda put: self._presigned(client, "put_object", put.parameters),
                lambda put: headers_of_put(client, self._parameters(client, "put_object", put.parameters)),
            )
        signer = self._put_signer
        return await self._signed(lambda keys: signer.sign(put, keys), known=signer.knows(put))

    async def _signed(self, sign: Callable[[Any], R], *, known: bool) -> R:
        """Sign with the present credentials: here if that takes microseconds, and no credentials have to be fetched."""
        if self.options.no_sign_request:
            return await self._in_thread(lambda: sign(None), "to sign", self._signers)
        assert self._session is not None
        credentials: Any = self._session.get_credentials()

        def sign_now() -> R:
            if self._urls_hold:
                make_credentials_last(credentials, URL_LIFETIME)
            return sign(credentials and credentials.get_frozen_credentials())

        if known and not (hasattr(credentials, "refresh_needed") and (self._urls_hold or credentials.refresh_needed())):
            return sign_now()
        return await self._in_thread(sign_now, "to sign", self._signers)

    def _presigned(self, client: S3Client, method: str, parameters: Mapping[str, Any]) -> str:
        whole = self._parameters(client, method, parameters)
        return client.generate_presigned_url(method, Params=whole, ExpiresIn=URL_LIFETIME)

    def _parameters(self, client: S3Client, method: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Add what every request sends whose operation takes it, as botocore's description of S3 says."""
        whole = {"Bucket": self.name, **arguments}
        if self._of_requests:
            operation = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method])
            taken = operation.input_shape.members if operation.input_shape is not None else {}
            whole |= {name: value for name, value in self._of_requests.items() if name in taken}
        return whole

    def refused_url(self, url: str, fault: Fault) -> None:
        """Learn that the store refused a presigned URL, and explain that in its fault."""
        self.renewal.refused_url(url)
        explain_refusal(fault, self._used())

    def _used(self) -> AwsSession | PlainAccess | None:
        """What the credentials came from."""
        return self._session if self._session is not None or self._plain is None else self._plain.signer.access

    def urls_last(self) -> float:
        """Return for how many seconds a URL that was signed just now is valid: no longer than its credentials."""
        left = self.renewal.seconds_left()
        if left is None and self._session is not None:
            left = seconds_left(self._session.get_credentials())
        return URL_LIFETIME if left is None else min(URL_LIFETIME, left)

    @functools.cached_property
    def _signers(self) -> anyio.CapacityLimiter:
        """The threads for signing. They send no requests, so they need not wait for threads that do."""
        return anyio.CapacityLimiter(_SIGNERS)

    def url(self, key: str) -> str:
        """Return the object's URL without a signature. Before the first client was made, it is "s3://…"."""
        return self._url + quote(key, safe="/~")

    async def address(self) -> str | None:
        """Return the URL that all requests go to; None if only botocore knows it."""
        return None if (plain := await self._plainly()) is None else plain.signer.access.base

    # -- the clients

    async def _plainly(self) -> _WithoutBotocore | None:
        """Return what needs no botocore; None if the configuration needs it."""
        if not self._is_plain_known:
            async with self._making:
                if not self._is_plain_known:
                    self._plain = await self._in_thread(self._look, "to read the AWS configuration", self._signers)
                    self._is_plain_known = True
        return self._plain

    def _look(self) -> _WithoutBotocore | None:
        if self._signing_endpoint is not None:
            return None
        if (access := plain_access(self.name, self.options, self._region)) is None:
            return None
        self._url = f"{access.base}/"
        signer = PlainSigner(access, self._of_requests, URL_LIFETIME)
        return _WithoutBotocore(signer, PlainCalls(self.name, signer, self.ca_bundle))

    async def _client(self, within: float) -> S3Client:
        """Return the client for a timeout. botocore has timeouts only for each client."""
        await self.renewal.ready()
        if within not in self._clients:
            async with self._making:
                if within not in self._clients:
                    make = functools.partial(self._make_client, within)
                    made = await self._in_thread(make, "to read the AWS configuration", self._signers)
                    self._clients[within] = made
        return self._clients[within]

    def _make_client(self, within: float) -> S3Client:
        if self._session is None:  # one for all clients: its descriptions of AWS take time and memory
            self._session = AwsSession(self.options, self.renewal.botocore_credentials())
        client = make_client(
            self._session,
            self.options,
            endpoint=self._signing_endpoint if within == _SIGNING else self.options.endpoint_url,
            region=self._region,
            within=within or ANSWER_WITHIN,
            ca_bundle=self.ca_bundle,
        )
        if within == _SIGNING or self._signing_endpoint is None:
            signed = client.generate_presigned_url("get_object", Params={"Bucket": self.name, "Key": _ANY})
            self._url = signed.partition("?")[0].removesuffix(_ANY)
        return client

    def _translated(self, e: Exception, what: str) -> Exception:
        error = fault_of_botocore(e, what, self.name)
        if isinstance(error, errors.StoreRefused) and isinstance(self.ca_bundle, Path):
            try:
                ssl_context(self.ca_bundle)
            except errors.BigUploadError as unusable:  # botocore says of such a file that the store is not trusted
                return unusable
        return error

    async def _in_thread(self, function: Callable[[], R], what: str, threads: anyio.CapacityLimiter | None = None) -> R:
        """Run `function` in one of `threads`; None: in a daemon thread, because a request can take minutes."""

        def attempt() -> tuple[R, None] | tuple[None, Exception]:
            # The exception is translated here and does not become the new exception's context: botocore's texts can
            # contain URLs, and its traceback keeps the connection open (in cycles, hence the clearing).
            try:
                return function(), None
            except Exception as e:
                error = self._translated(e, what)
                context: BaseException | None = e
                while context is not None:
                    traceback.clear_frames(context.__traceback__)
                    context = context.__context__
                return None, error

        used = self.renewal.current
        if threads is not None:
            result, error = await anyio.to_thread.run_sync(attempt, limiter=threads)
        else:
            self._requesting = self._requesting or anyio.CapacityLimiter(CONNECTIONS)
            result, error = await run_in_daemon_thread(attempt, self._requesting)
        if error is not None:
            if isinstance(error, Fault) and is_refusal(error):
                self.renewal.refused(used)
                explain_refusal(error, self._used())
            raise error
        return typing.cast("R", result)
