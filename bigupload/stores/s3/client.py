"""One bucket, reached with credentials through botocore: clients, calls in threads, presigned URLs. Knows no uploads.

botocore is boto3 without what nobody here asks for. It is blocking and slow to import, so it is imported in the thread
that first needs it. Its own retries are off: whoever calls decides, and a repeated complete must not be a surprise.
What it raises is translated in `call`.
"""

from __future__ import annotations

import functools
import os
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
from bigupload.http.session import CONNECT_TIMEOUT, CaBundle
from bigupload.options import S3Options
from bigupload.stores.request_log import log_request
from bigupload.stores.s3.errors import fault_of_botocore, refuse_region_redirect
from bigupload.stores.s3.presign import PartSigner
from bigupload.stores.s3.response_guard import guard
from bigupload.stores.s3.session import AwsSession
from bigupload.support.daemon_threads import run_in_daemon_thread

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

R = TypeVar("R")

URL_LIFETIME = 3600
"""Seconds that a presigned URL is valid."""
ANSWER_WITHIN = 60.0
"""Seconds in which everything but complete answers, or not at all."""
_SIGNING = 0.0
"""In place of a timeout, names the client that signs for another endpoint: it calls nobody."""
CREDENTIALS_EXPIRING = "CredentialsExpiring"
"""The code of the Fault that presigning raises where no credentials last long enough."""
MOST_PAGES = 1000
"""Of one list: a million open uploads, and a hundred times the parts that one can have. A list that is longer, or leads
where it has been, is no list."""
_MOST_NAME = 1024
"""Bytes of a key, as S3 has it, and no upload id is known to be as long: what is kept of a list has a bound."""
_ANY = "key"
_CONNECTIONS = 64
"""That a client keeps, and requests that may be under way at once."""
_SIGNERS = 4


def metadata_of(answer: Mapping[str, Any]) -> dict[str, str]:
    """The object's user-defined metadata, its keys in lower case.

    They travel as header names, which have no case, so that some stores return `X-Amz-Meta-Tok` for `tok`. S3 itself
    stores them in lower case: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
    """
    return {key.lower(): value for key, value in answer.get("Metadata", {}).items()}


class UploadPages:
    """A walk through the pages of ListMultipartUploads: where the next page begins, and that the list ends."""

    def __init__(self) -> None:
        self.markers: dict[str, Any] = {}
        """The parameters of the next request."""
        self.ended = False
        """Whether the last page was read."""
        self._been: set[tuple[tuple[str, Any], ...]] = {()}

    def advance(self, page: Mapping[str, Any]) -> None:
        """Go past a page.

        Raises:
            Fault: FINAL if the list leads in circles or does not end, BROKEN if a row is incomplete.
        """
        rows = page.get("Uploads", ())
        if any(len(str(row.get(name, "")).encode()) > _MOST_NAME for row in rows for name in ("Key", "UploadId")):
            raise Fault(FaultKind.FINAL, "the store lists names that are longer than any")
        if not all(row.get("Key") and row.get("UploadId") and row.get("Initiated") for row in rows):
            raise Fault(FaultKind.BROKEN, "the store's list of open uploads has half a row")  # the same page again
        if not page.get("IsTruncated"):
            self.ended = True
            return
        # Only what the store gives: SeaweedFS pages by upload ids alone, and with a key would leave some out.
        markers = {n: page[f"Next{n}"] for n in ("KeyMarker", "UploadIdMarker") if page.get(f"Next{n}")}
        if not markers and rows:
            markers = {"KeyMarker": rows[-1].get("Key", ""), "UploadIdMarker": rows[-1].get("UploadId", "")}
        place = tuple(markers.items())
        if place in self._been:
            raise Fault(FaultKind.FINAL, "the store's list of open uploads leads in circles")
        if len(self._been) >= MOST_PAGES:
            raise Fault(FaultKind.FINAL, "the store's list of open uploads does not end: name a longer prefix")
        self._been.add(place)
        self.markers = markers


class S3Bucket:
    """Shared by all keys of one bucket."""

    def __init__(
        self, name: str, options: S3Options, *, signing_endpoint: str | None = None, urls_hold: bool = False
    ) -> None:
        """`signing_endpoint`: the endpoint that presigned URLs are for, where clients reach the store by another.

        `urls_hold`: whether URLs must be valid for all of URL_LIFETIME, and not only as long as the credentials that
        signed them.
        """
        self.name = name
        self.options = options
        self._signing_endpoint = signing_endpoint
        self._urls_hold = urls_hold
        self._session: AwsSession | None = None
        self._clients: dict[float, S3Client] = {}
        self._part_signer: PartSigner | None = None
        self._making = anyio.Lock()
        self._signing_threads: anyio.CapacityLimiter | None = None
        self._requesting: anyio.CapacityLimiter | None = None
        self._region = options.region
        self._url = f"s3://{name}/"

    @property
    def ca_bundle(self) -> CaBundle:
        """The certificates by which this store is known, instead of the system's; botocore looks there as well."""
        if self.options.no_verify_ssl:
            return False
        named = os.environ.get("AWS_CA_BUNDLE")
        return self.options.ca_bundle or (Path(named) if named else None)

    @property
    def region(self) -> str | None:
        """The region that requests are signed for, where the bucket was found; None before the first request."""
        for client in self._clients.values():
            return client.meta.region_name
        return self._region

    async def aclose(self) -> None:
        """Close the connections that botocore keeps: they would last until the garbage collector comes to its cycles.

        Idempotent; a call after it opens new ones.
        """
        self._part_signer = None  # it may know another region's URLs
        while self._clients:
            self._clients.popitem()[1].close()

    async def call(
        self, what: str, method: str, *, within: float = ANSWER_WITHIN, first: int | None = None, **arguments: Any
    ) -> Any:
        """The answer of the client's `method` for this bucket. `what` is for people: "to list the parts".

        `first`: read so many bytes of the answer's Body, and give them in its place. Raises Fault and public errors;
        a cancelled caller returns at once, while the call goes on in its thread.
        """
        client = await self._client(within)

        def call() -> Any:
            answer = getattr(client, method)(Bucket=self.name, **arguments)
            if first is not None:
                with answer["Body"] as stream:  # a store that ignores Range would send everything
                    answer["Body"] = stream.read(first)
            return answer

        try:
            with log_request(method, str(client.meta.endpoint_url)):
                return await self._in_thread(call, what, None)
        except errors.WrongRegion as e:
            if self._region is not None or not e.region:
                raise
            # No region was asked for: the bucket's own is the right one.
            await self.aclose()
            self._region = e.region
            return await self.call(what, method, within=within, first=first, **arguments)

    async def open_uploads(self, prefix: str) -> AsyncIterator[Mapping[str, Any]]:
        """The rows of ListMultipartUploads for keys that begin with `prefix`, all pages. Raises as
        `next_open_uploads`."""
        pages = UploadPages()
        while not pages.ended:
            page = await self.next_open_uploads(prefix, pages)
            for row in page.get("Uploads", ()):
                yield row

    async def next_open_uploads(self, prefix: str, pages: UploadPages) -> Mapping[str, Any]:
        """The next page of ListMultipartUploads. Who asks again after a Fault goes on where it was.

        Raises Fault(FINAL) where the pages lead in circles or do not end.
        """
        page: Mapping[str, Any] = await self.call(
            "to list the open uploads", "list_multipart_uploads", Prefix=prefix, **pages.markers
        )
        pages.advance(page)
        return page

    async def presign(self, method: str, parameters: Sequence[Mapping[str, Any]]) -> list[str]:
        """A URL for each of `parameters` of the client's `method`, valid for URL_LIFETIME.

        With `urls_hold`, temporary credentials that end sooner are refreshed first, and Fault(REFUSED) is raised where
        that does not help.
        """
        client = await self._client(ANSWER_WITHIN if self._signing_endpoint is None else _SIGNING)

        def sign() -> list[str]:
            if self._urls_hold:
                self._make_credentials_last(URL_LIFETIME)
            return [self._presigned(client, method, each) for each in parameters]

        return await self._in_thread(sign, "to sign", self._signers())

    async def presign_parts(self, parameters: Sequence[Mapping[str, Any]]) -> list[str]:
        """As `presign("upload_part", parameters)`, for many parts of few uploads."""
        client = await self._client(ANSWER_WITHIN if self._signing_endpoint is None else _SIGNING)
        if self.options.no_sign_request:
            return await self._in_thread(
                lambda: [self._presigned(client, "upload_part", each) for each in parameters],
                "to make the parts' URLs",
                self._signers(),
            )
        if self._part_signer is None:
            self._part_signer = PartSigner(functools.partial(self._presigned, client, "upload_part"))
        signer = self._part_signer
        assert self._session is not None
        credentials: Any = self._session.get_credentials()
        ends = hasattr(credentials, "refresh_needed")

        def sign() -> list[str]:
            if self._urls_hold:
                self._make_credentials_last(URL_LIFETIME)
            frozen = credentials and credentials.get_frozen_credentials()
            return [signer.sign(each, frozen) for each in parameters]

        if not ends and all(map(signer.knows, parameters)):
            return sign()  # microseconds, where a thread costs more: nobody is asked for credentials
        return await self._in_thread(sign, "to sign", self._signers())

    def _presigned(self, client: S3Client, method: str, parameters: Mapping[str, Any]) -> str:
        return client.generate_presigned_url(method, Params={"Bucket": self.name, **parameters}, ExpiresIn=URL_LIFETIME)

    def _signers(self) -> anyio.CapacityLimiter:
        """Threads that call nobody: they must not wait for those that wait for the store."""
        if self._signing_threads is None:
            self._signing_threads = anyio.CapacityLimiter(_SIGNERS)
        return self._signing_threads

    def url(self, key: str) -> str:
        """Where an object is for those who may read it: without a signature. Before anything was signed, "s3://…"."""
        return self._url + quote(key, safe="/~")

    async def ensure(self) -> bool:
        """Create the bucket if it is missing. Returns whether this call created it."""
        try:
            await self.call("to look at the bucket", "head_bucket")
        except Fault as fault:
            if fault.status != 404:  # HEAD has no body, so that no code tells NoSuchBucket
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
        """Blocking. What botocore refreshes by itself 15 minutes before the end is too late for a URL of an hour."""
        assert self._session is not None
        credentials: Any = self._session.get_credentials()
        if credentials is None or not hasattr(credentials, "refresh_needed"):
            return  # none, which signing reports; or none that end
        if credentials.refresh_needed(refresh_in=seconds):
            # botocore has no public way to refresh early: a credential that claims to be at its end is its own idiom.
            window = credentials._advisory_refresh_timeout
            credentials._advisory_refresh_timeout = seconds
            try:
                credentials.get_frozen_credentials()
            finally:
                credentials._advisory_refresh_timeout = window
            if credentials.refresh_needed(refresh_in=seconds):
                raise Fault(FaultKind.REFUSED, "the credentials end before the URLs would", code=CREDENTIALS_EXPIRING)

    # -- the clients

    async def _client(self, within: float) -> S3Client:
        """One a timeout, because botocore knows timeouts of clients only."""
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
        if self._session is None:  # one for all clients: what it has read of AWS takes time and memory
            self._session = AwsSession(options)
        session = self._session
        if options.no_verify_ssl:
            import urllib3

            # The caller has decided; urllib3 would say it again for each request, on standard error.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        config = Config(  # type: ignore[call-arg]  # the stubs lack ignore_configured_endpoint_urls
            # The default presign can be SigV2.
            signature_version=UNSIGNED if options.no_sign_request else "s3v4",
            s3={"addressing_style": options.addressing},
            retries={"total_max_attempts": 1},
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=within or ANSWER_WITHIN,
            max_pool_connections=_CONNECTIONS,
            # The engine computes its own; botocore's would be bound into part URLs.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            user_agent_extra="bigupload",
            # `targets.reach` has resolved the endpoint. What AWS_ENDPOINT_URL or a profile says by now may be another
            # store than the one that a manifest is of.
            ignore_configured_endpoint_urls=True,
        )
        client = session.client(
            endpoint_url=self._signing_endpoint if within == _SIGNING else options.endpoint_url,
            region_name=self._region or session.region or "us-east-1",
            config=config,
            verify=str(options.ca_bundle) if options.ca_bundle else False if options.no_verify_ssl else None,
        )
        if options.addressing == "auto" and str(client.meta.endpoint_url).endswith(".amazonaws.com"):
            # Only this keeps botocore from presigning for the global host, which redirects to a new bucket for hours.
            typing.cast("Any", client.meta.config).s3["addressing_style"] = "virtual"
        # A redirected create would succeed, and every URL signed for the wrong region then fail.
        client.meta.events.register("request-created.s3", refuse_region_redirect)
        guard(client)
        if within == _SIGNING or self._signing_endpoint is None:
            signed = client.generate_presigned_url("get_object", Params={"Bucket": self.name, "Key": _ANY})
            self._url = signed.partition("?")[0].removesuffix(_ANY)
        return client

    async def _in_thread(self, function: Callable[[], R], what: str, threads: anyio.CapacityLimiter | None = None) -> R:
        """In one of `threads`; None: in a daemon thread, because a request can take minutes."""

        def attempt() -> tuple[R, None] | tuple[None, Exception]:
            # Translated here, and not as a context of what is raised: botocore's own texts can hold URLs, and its
            # traceback keeps the connection open (in cycles, hence the clearing).
            try:
                return function(), None
            except Exception as e:
                error = fault_of_botocore(e, what, self.name)
                context: BaseException | None = e
                while context is not None:
                    traceback.clear_frames(context.__traceback__)
                    context = context.__context__
                return None, error

        if threads is not None:
            result, error = await anyio.to_thread.run_sync(attempt, limiter=threads)
        else:
            self._requesting = self._requesting or anyio.CapacityLimiter(_CONNECTIONS)
            result, error = await run_in_daemon_thread(attempt, self._requesting)
        if error is not None:
            raise error
        return typing.cast("R", result)
