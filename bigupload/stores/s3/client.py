"""One bucket, reached with credentials through botocore: clients, calls in threads, presigned URLs.

This module knows nothing of uploads. It uses botocore alone, because nothing here needs the rest of boto3. botocore
blocks and is slow to import, so it is imported in the thread that first needs it. Its own retries are off: the caller
decides about retries, because complete must not be repeated unnoticed. `call` translates botocore's exceptions.
"""

from __future__ import annotations

import functools
import traceback
import typing
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import anyio
import anyio.to_thread

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.connections import CONNECT_TIMEOUT, CaBundle, ssl_context
from bigupload.options import S3Options
from bigupload.s3_parameters import ADDRESS, REQUEST, REQUEST_HEADERS, parameters
from bigupload.stores.request_log import log_request
from bigupload.stores.s3._compat import refresh_early, seconds_left, use_virtual_addressing
from bigupload.stores.s3.access_points import region_of
from bigupload.stores.s3.aws_session import AwsSession, configured_ca_bundle
from bigupload.stores.s3.errors import fault_of_botocore, refuse_region_redirect
from bigupload.stores.s3.presign import PartSigner
from bigupload.stores.s3.renewal import Renewal, expiry_hint, is_refusal
from bigupload.stores.s3.response_guard import guard
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
CREDENTIALS_EXPIRING = "CredentialsExpiring"
"""The code of the Fault that presigning raises if the credentials expire too soon."""
_ANY = "key"
_CONNECTIONS = 64
"""The most connections of one client, and the most requests in flight."""
_SIGNERS = 4


def metadata_of(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return the object's user-defined metadata with its keys in lower case.

    The keys are sent as header names, which have no case, so some stores return `X-Amz-Meta-Tok` for `tok`. S3 itself
    stores them in lower case: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
    """
    return {key.lower(): value for key, value in answer.get("Metadata", {}).items()}


class S3Bucket:
    """The connection to one bucket, shared by all its keys."""

    def __init__(
        self, name: str, options: S3Options, *, signing_endpoint: str | None = None, urls_hold: bool = False
    ) -> None:
        """Make a connection. It sends nothing until the first call.

        Args:
            name: The bucket's name.
            options: The endpoint, region and credentials.
            signing_endpoint: The endpoint of presigned URLs, if clients reach the store at another than this process.
            urls_hold: Whether URLs must be valid for all of URL_LIFETIME, even if the credentials expire sooner.
        """
        self.name = name
        self.options = options
        self._signing_endpoint = signing_endpoint
        self._urls_hold = urls_hold
        self._session: AwsSession | None = None
        self._clients: dict[float, S3Client] = {}
        self._part_signer: PartSigner | None = None
        self._making = anyio.Lock()
        self.renewal = Renewal(options.credentials)
        self._signing_threads: anyio.CapacityLimiter | None = None
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
        return self._region

    @property
    def headers(self) -> dict[str, str]:
        """What a request must send, beside its own headers, if it uses a presigned URL for an object or a part.

        It can hold a key. The signature covers it.
        """
        sent = self._of_requests
        return {header: sent[name] for header, name in REQUEST_HEADERS.items() if name in sent}

    async def aclose(self) -> None:
        """Close botocore's connections. Idempotent; the next call opens new ones.

        Otherwise they stay open until the garbage collector finds botocore's reference cycles.
        """
        self._part_signer = None  # its URLs may be for another region
        while self._clients:
            self._clients.popitem()[1].close()

    async def call(
        self, what: str, method: str, *, within: float = ANSWER_WITHIN, first: int | None = None, **arguments: Any
    ) -> Any:
        """Call the client's `method` for this bucket. If the caller is cancelled, the call continues in its thread.

        Args:
            what: The purpose, for messages: "to list the parts".
            method: The name of a method of botocore's client.
            within: The timeout in seconds.
            first: Read only this many bytes of the response's Body, and return them in its place.
            **arguments: The method's arguments.

        Raises:
            Fault: The call failed, and a retry may help.
            BigUploadError: The call failed, and no retry helps.
        """
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
        client = await self._client(ANSWER_WITHIN if self._signing_endpoint is None else _SIGNING)

        def sign() -> list[str]:
            if self._urls_hold:
                self._make_credentials_last(URL_LIFETIME)
            return [self._presigned(client, method, each) for each in parameters]

        return await self._in_thread(sign, "to sign", self._signers())

    async def presign_parts(self, parameters: Sequence[Mapping[str, Any]]) -> list[str]:
        """Do the same as `presign("upload_part", parameters)`, faster for many parts of few uploads."""
        client = await self._client(ANSWER_WITHIN if self._signing_endpoint is None else _SIGNING)
        if self.options.no_sign_request:
            return await self.presign("upload_part", parameters)
        if self._part_signer is None:
            self._part_signer = PartSigner(functools.partial(self._presigned, client, "upload_part"))
        signer = self._part_signer
        whole = [{**each, **self._of_requests} for each in parameters]
        assert self._session is not None
        credentials: Any = self._session.get_credentials()
        ends = hasattr(credentials, "refresh_needed")

        def sign() -> list[str]:
            if self._urls_hold:
                self._make_credentials_last(URL_LIFETIME)
            frozen = credentials and credentials.get_frozen_credentials()
            return [signer.sign(each, frozen) for each in whole]

        if not ends and all(map(signer.knows, whole)):
            return sign()  # takes microseconds, less than a thread: no credentials are fetched
        return await self._in_thread(sign, "to sign", self._signers())

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

    @property
    def expiry_hint(self) -> str:
        """What a refusal may mean if nobody renews the credentials; empty if they are renewed or do not expire."""
        return expiry_hint(None if self._session is None else self._session.get_credentials())

    def urls_last(self) -> float:
        """Return for how many seconds a URL that was signed just now is valid: no longer than its credentials."""
        left = self.renewal.seconds_left()
        if left is None and self._session is not None:
            left = seconds_left(self._session.get_credentials())
        return URL_LIFETIME if left is None else min(URL_LIFETIME, left)

    def _signers(self) -> anyio.CapacityLimiter:
        """Return the threads for signing. They send no requests, so they need not wait for threads that do."""
        if self._signing_threads is None:
            self._signing_threads = anyio.CapacityLimiter(_SIGNERS)
        return self._signing_threads

    def url(self, key: str) -> str:
        """Return the object's URL without a signature. Before the first client was made, it is "s3://…"."""
        return self._url + quote(key, safe="/~")

    async def ensure(self) -> bool:
        """Create the bucket if it is missing. Returns whether this call created it."""
        try:
            await self.call("to look at the bucket", "head_bucket")
        except Fault as fault:
            if fault.status != 404:  # a response to HEAD has no body, so there is no code NoSuchBucket
                raise fault.public() from fault
            return await self._make()
        return False

    async def _make(self) -> bool:
        """Create the bucket. Returns False if another process did that at the same time."""
        region = (await self._client(ANSWER_WITHIN)).meta.region_name
        where: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            await self.call("to make the bucket", "create_bucket", **({} if region == "us-east-1" else where))
        except Fault as fault:
            if fault.code != "BucketAlreadyOwnedByYou":
                raise fault.public() from fault
            return False
        return True

    def _make_credentials_last(self, seconds: float) -> None:
        """Refresh credentials that expire within `seconds`. Blocking.

        botocore itself refreshes 15 minutes before the end, which is too late for a URL that is valid for an hour.
        """
        assert self._session is not None
        credentials: Any = self._session.get_credentials()
        if credentials is None or not hasattr(credentials, "refresh_needed"):
            return  # no credentials, which signing reports; or they never expire
        if credentials.refresh_needed(refresh_in=seconds):
            refresh_early(credentials, seconds)
            if credentials.refresh_needed(refresh_in=seconds):
                raise Fault(FaultKind.REFUSED, "the credentials expire before the URLs", code=CREDENTIALS_EXPIRING)

    # -- the clients

    async def _client(self, within: float) -> S3Client:
        """Return the client for a timeout. botocore has timeouts only for each client."""
        await self.renewal.ready()
        if within not in self._clients:
            async with self._making:
                if within not in self._clients:
                    make = functools.partial(self._make_client, within)
                    made = await self._in_thread(make, "to read the AWS configuration", self._signers())
                    self._clients[within] = made
        return self._clients[within]

    def _make_client(self, within: float) -> S3Client:
        from botocore import UNSIGNED
        from botocore.config import Config

        options = self.options
        if self._session is None:  # one for all clients: its descriptions of AWS take time and memory
            self._session = AwsSession(options, self.renewal.botocore_credentials())
        session = self._session
        if options.no_verify_ssl:
            import urllib3

            # The caller has decided. urllib3 would print a warning for each request.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        address: dict[str, Any] = parameters(ADDRESS, options)
        of_s3: Any = {"addressing_style": options.addressing, **address.pop("s3", {})}
        config = Config(  # type: ignore[call-arg]  # the stubs lack ignore_configured_endpoint_urls
            # The default presign can be SigV2.
            signature_version=UNSIGNED if options.no_sign_request else "s3v4",
            s3=of_s3,
            retries={"total_max_attempts": 1},
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=within or ANSWER_WITHIN,
            max_pool_connections=_CONNECTIONS,
            # The engine computes its own checksums. botocore would sign its own into part URLs.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            user_agent_extra="bigupload",
            # `targets.reach` has resolved the endpoint. By now, AWS_ENDPOINT_URL or a profile may name another store
            # than the manifest does.
            ignore_configured_endpoint_urls=True,
            **address,
        )
        client = session.client(
            endpoint_url=self._signing_endpoint if within == _SIGNING else options.endpoint_url,
            region_name=self._region or session.region or "us-east-1",
            config=config,
            verify=str(self.ca_bundle) if isinstance(self.ca_bundle, Path) else self.ca_bundle,
        )
        if options.addressing == "auto" and str(client.meta.endpoint_url).endswith(".amazonaws.com"):
            # Otherwise botocore presigns for the global host, which redirects requests for a new bucket for hours.
            use_virtual_addressing(client)
        # A redirected create would succeed, and then every part URL for the wrong region would fail.
        client.meta.events.register("request-created.s3", refuse_region_redirect)
        guard(client)
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
            self._requesting = self._requesting or anyio.CapacityLimiter(_CONNECTIONS)
            result, error = await run_in_daemon_thread(attempt, self._requesting)
        if error is not None:
            if isinstance(error, Fault) and is_refusal(error):
                self.renewal.refused(used)
                error.hint = self.expiry_hint
            raise error
        return typing.cast("R", result)
