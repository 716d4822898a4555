"""One bucket, reached with credentials: S3 calls, and presigned URLs. It knows nothing of uploads.

Nothing is retried here, but for a request that went to another region than the bucket's: the caller decides about
retries, because complete must not be repeated unnoticed. `BucketPool` has the connections that several uploads share:
to find out how a bucket is reached costs file reads, and with roles calls to other services.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from bigupload import errors
from bigupload.core.retry_policy import EXPIRED, Fault, FaultKind
from bigupload.http.client import HttpClient, HttpClients, log_request
from bigupload.http.http_errors import CLOCK_TOLERANCE, MAX_ERROR_BODY, clock_is, fault_of_response
from bigupload.http.origins import CaBundle
from bigupload.options import S3Options, identity_of
from bigupload.records import dataclass
from bigupload.s3_parameters import OBJECT, REQUEST, parameters
from bigupload.stores.s3.access import DEFAULT_REGION, Access, PlainKeys, find_access, no_answer, region_of, translated
from bigupload.stores.s3.aws_files import configured_ca_bundle
from bigupload.stores.s3.operations import (
    ObjectPages,
    Request,
    UploadPages,
    fields_of,
    load_parser,
    request_of,
    required_field,
    rows,
)
from bigupload.stores.s3.renewal import METHOD, Renewal, explain_refusal, fetch_keys, is_refusal, seconds_left
from bigupload.stores.s3.signer import S3Signer, SigningKeys, validity
from bigupload.support.daemon_threads import run_in_daemon_thread

R = TypeVar("R")

NOT_BY_BATCH = "NotImplemented"
"""S3's code where an object can't be deleted together with others, but perhaps alone."""
URL_LIFETIME = 3600
"""Seconds that a presigned URL is valid."""
ANSWER_WITHIN = 60.0
"""Timeout in seconds for every request except complete."""
CREDENTIALS_WITHIN = 120.0
"""Seconds that programs and services may take to give credentials: a person may have to touch a key."""
_SIGNED_FOR = 900.0
"""Seconds for which a signature in the header is valid: S3's tolerance."""
_AT_ONCE = 64
"""The most requests of one bucket in flight, without parts."""
_DIRECTORY = "--x-s3"
"""The end of the names of directory buckets."""
_EXPRESS = "s3express"
_OF_DIRECTORY = {"service": _EXPRESS, "token": "X-Amz-S3session-Token"}
_BEGINS_SESSION = Request("GET", "", {"session": ""}, {"x-amz-create-session-mode": "ReadWrite"}, None)
_SESSION_ENDS = 120.0
"""Seconds before the end of a session at which another one is begun."""
_MOST_REGIONS = 3
"""The number of regions that are tried, if the store names another one each time."""


class _Reached(NamedTuple):
    """The access to the bucket, and the signer for it."""

    access: Access
    signer: S3Signer
    presigner: S3Signer
    begins_session: S3Signer | None
    """Signs the request for a session, by whose keys all others are signed: of a directory bucket (S3 Express)."""


class SharedUrl(NamedTuple):
    """A presigned GET."""

    url: str
    expires_at: datetime
    is_shortened: bool
    """Whether it ends sooner than asked for, with the credentials."""
    end_is_known: bool
    """False: the credentials are temporary, and nobody knows when they end."""


class _BucketCall(NamedTuple):
    """A request, and how its response is read."""

    what: str
    operation: str
    request: Request
    within: float
    first: int | None = None


class S3Bucket:
    """The connection to one bucket, shared by all its keys. Used in one event loop at a time."""

    def __init__(
        self,
        name: str,
        options: S3Options,
        *,
        client: Callable[[CaBundle], HttpClient] | None = None,
        signing_endpoint: str | None = None,
        urls_hold: bool = False,
        answer_within: float = ANSWER_WITHIN,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Make a connection. It sends nothing until the first call.

        Args:
            name: The bucket's name.
            options: The endpoint, region and credentials.
            client: Returns whose connections to use, by the certificates to trust. Its owner closes it. None: the
                bucket has its own.
            signing_endpoint: The endpoint of presigned URLs, if clients reach the store at another than this process.
            urls_hold: Whether URLs must be valid for all of URL_LIFETIME, even if the credentials expire sooner.
            answer_within: The timeout in seconds of every call that names no other.
            clock: This machine's time, in seconds since the epoch.
        """
        self._clock = clock
        self._ahead = 0.0
        """Seconds by which this machine's clock is ahead of the store's, once a refusal has shown that."""
        self.name = name
        self.options = options
        self.renewal = Renewal(options.credentials)
        self.headers: Mapping[str, str] = parameters(REQUEST, options)
        """The headers of every presigned request. The signature covers them. One can hold a key."""
        self.knows_checksum_mode = True
        """Whether HEAD may ask for checksums: until the store refuses that."""
        self._given_client = client
        self._signing_endpoint = signing_endpoint
        self._urls_hold = urls_hold
        self._answer_within = answer_within
        self._region = options.region or region_of(name)
        self._reached: _Reached | None = None
        self._finding = asyncio.Lock()
        self._used: SigningKeys | None = None
        """The keys of the latest signature."""
        self._session: tuple[PlainKeys, float] | None = None
        """For a directory bucket: the keys of the session, and its end in seconds since the epoch."""
        self._beginning = asyncio.Lock()
        self._concurrency = asyncio.Semaphore(_AT_ONCE)

    @functools.cached_property
    def ca_bundle(self) -> CaBundle:
        """The certificates to trust, for calls and parts alike."""
        if self.options.no_verify_ssl:
            return False
        return self.options.ca_bundle or configured_ca_bundle(self.options)

    @functools.cached_property
    def client(self) -> HttpClient:
        """The connections that calls use."""
        return HttpClient(self.ca_bundle) if self._given_client is None else self._given_client(self.ca_bundle)

    @property
    def region(self) -> str | None:
        """The region for which requests are signed; None before the first request."""
        return self._region if self._reached is None else self._reached.access.region

    async def prepare(self) -> None:
        """Find out how the bucket is reached, as the first call would do. Raises what a call raises."""
        await self._reach()

    async def aclose(self) -> None:
        """Close the connections, unless others use them. Idempotent; the next call opens new ones."""
        self._reached = self._session = None
        if self._given_client is None and "client" in self.__dict__:
            await self.client.aclose()

    def url(self, key: str) -> str:
        """Return the object's URL without a signature. Before the first call, it is "s3://…"."""
        return f"s3://{self.name}/{key}" if self._reached is None else self._reached.presigner.url(key)

    async def address(self) -> str:
        """Return the URL that presigned requests go to."""
        return (await self._reach()).access.signed_base

    # -- calls

    async def call(
        self,
        what: str,
        operation: str,
        *,
        within: float | None = None,
        first: int | None = None,
        headers: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Call an operation of S3 for this bucket. A call that is cancelled ends at once, although it may still act.

        Args:
            what: The purpose, for messages: "to list the parts".
            operation: Its name in `operations.OPERATIONS`.
            within: The timeout in seconds, for the response's beginning and each piece of it; None: the bucket's
                `answer_within`.
            first: For GetObject: read only this many bytes.
            headers: More headers: an object's properties.
            **arguments: The operation's parameters, by S3's names.

        Returns:
            The fields of the response by S3's names.

        Raises:
            Fault: The call failed, and a retry may help.
            BigUploadError: The call failed, and no retry helps.
        """
        request = request_of(operation, arguments, headers or {}, self.headers)
        call = _BucketCall(what, operation, request, self._answer_within if within is None else within, first)
        for _ in range(_MOST_REGIONS - 1):
            reached = await self._reach()
            try:
                return await self._send(reached, call)
            except errors.WrongRegion as e:
                named = self.options.region is not None or e.region in (None, reached.access.region)
                if named or "CopySource" in arguments:  # then it may be the source's
                    raise
                if self._reached is reached:  # else another call has found it out meanwhile
                    # The user named no region, so the bucket's own is the right one.
                    self._region, self._reached = e.region, None
        return await self._send(await self._reach(), call)

    async def _send(self, reached: _Reached, call: _BucketCall) -> dict[str, Any]:
        given, signed = self.renewal.current, self._now()
        try:
            keys = await self._keys(reached)
            async with self._concurrency:
                return await self._answer(reached.signer, keys, call)
        except Fault as fault:
            if fault.is_decided:
                raise fault.public() from None
            self._learn_time(fault, signed, signed + _SIGNED_FOR)
            if is_refusal(fault):
                self.renewal.refused(given)
                self._explain(fault, reached)
            raise

    async def _answer(self, signer: S3Signer, keys: SigningKeys | None, call: _BucketCall) -> dict[str, Any]:
        what, operation, request, within, first = call
        load_parser(operation)
        method, body = request.method, request.body
        url, sent = signer.authorize(method, request.key, request.query, request.headers, body or b"", keys)
        with log_request(operation, signer.base):
            async with self.client.open(method, url, sent, body, within=within) as response:
                status, headers = response.status, response.headers
                if first is None:
                    answer = await response.read_all()
                else:
                    answer = await response.read_first(first if status // 100 == 2 else MAX_ERROR_BODY)
            if status // 100 == 2:
                return fields_of(operation, status, headers, answer, what, bucket=self.name)
            proxy = self.client.answering_proxy(url)
            raise fault_of_response(
                status, headers, answer, what, bucket=self.name, region=signer.region, proxy=proxy, url=url
            )

    async def open_uploads(self, prefix: str) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the rows of all pages of ListMultipartUploads for keys that begin with `prefix`."""
        pages = UploadPages()
        while not pages.ended:
            page = await self.next_open_uploads(prefix, pages)
            for row in page.get("Uploads", ()):
                yield row

    async def object_pages(
        self, prefix: str, *, after: str = "", size: int | None = None
    ) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """Yield the rows of each page of ListObjectsV2 for keys that begin with `prefix`.

        Args:
            prefix: What the keys begin with.
            after: The keys come after this one.
            size: The most rows of a page; None: S3's 1,000.
        """
        pages, limit = ObjectPages(after), dict[str, Any]({} if size is None else {"MaxKeys": size})
        while not pages.ended:
            page = await self.call("to list the objects", "ListObjectsV2", Prefix=prefix, **limit, **pages.start)
            yield page.get("Contents", ())
            pages.advance(page)

    async def next_open_uploads(self, prefix: str, pages: UploadPages) -> Mapping[str, Any]:
        """Return the next page of ListMultipartUploads. After a Fault, a repeated call requests the same page.

        Raises:
            Fault: As `UploadPages.advance`.
        """
        page = await self.call("to list the open uploads", "ListMultipartUploads", Prefix=prefix, **pages.start)
        pages.advance(page)
        return page

    async def head(self, key: str, what: str = "to look at the object", **arguments: Any) -> dict[str, Any] | None:
        """Return the fields of HeadObject; None if there is no such object, or no such bucket."""
        try:
            return await self.call(what, "HeadObject", Key=key, **arguments)
        except Fault as fault:
            if not fault.is_absent:
                raise
            return None

    async def delete(self, key: str, *, etag: str) -> None:
        """Delete an object, if it has this ETag; an empty one is any.

        Raises:
            Fault: EXISTS if it now has another ETag and the store supports If-Match. GONE if it is gone already, with
                some stores.
        """
        condition: dict[str, Any] = {"IfMatch": etag} if etag else {}
        try:
            await self.call("to delete the object", "DeleteObject", Key=key, **condition)
        except Fault as fault:
            if fault.kind is not FaultKind.UNSUPPORTED or not condition:
                raise
            await self.call("to delete the object", "DeleteObject", Key=key)

    async def delete_many(self, objects: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Delete objects by one request, each if it has its ETag. Those that are gone already are an error at most.

        Args:
            objects: Keys and ETags; an empty ETag is any. At most a thousand.

        Returns:
            The keys that were not deleted, each with the store's code for why. The code is NOT_BY_BATCH for those of
            which the response says nothing: some stores send an empty one, and so does a connection that was cut.

        Raises:
            Fault: UNSUPPORTED or FINAL if the store does not take such a request, or not with one of these keys.
        """
        named = [{"Key": key} | ({"ETag": etag} if etag else {}) for key, etag in objects]
        response = await self.call("to delete objects", "DeleteObjects", Delete={"Objects": named})
        deleted = {required_field(row, "Key", str) for row in rows(response, "Deleted")}
        unsaid = dict.fromkeys((key for key, _ in objects if key not in deleted), NOT_BY_BATCH)
        return unsaid | {required_field(row, "Key", str): row.get("Code", "") for row in rows(response, "Errors")}

    async def exists(self) -> bool:
        """Look whether the bucket is there. Raises Fault(REFUSED) if these credentials may not look."""
        try:
            await self.call("to look at the bucket", "HeadBucket")
        except Fault as fault:
            if not fault.is_absent:
                raise
            return False
        return True

    async def ensure(self) -> bool:
        """Create the bucket if it is missing. Returns whether this call created it, and no other process meanwhile."""
        try:
            if await self.exists():
                return False
            where: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
            await self.call("to make the bucket", "CreateBucket", **({} if self.region == DEFAULT_REGION else where))
        except Fault as fault:
            if fault.code != "BucketAlreadyOwnedByYou":
                raise fault.public() from fault
            return False
        return True

    # -- presigned URLs

    async def presign(
        self, operation: str, each: Sequence[Mapping[str, Any]], *, lifetime: int = URL_LIFETIME
    ) -> list[str]:
        """Presign URLs that are valid for `lifetime` seconds, at most URL_LIFETIME.

        With `urls_hold`, temporary credentials that expire sooner are refreshed first.

        Args:
            operation: The operation's name.
            each: The parameters of each URL, by S3's names. Headers that the signature is to cover beside them are in
                "Headers", by names in lower case.

        Raises:
            Fault: REFUSED if the refreshed credentials expire too soon as well.
        """
        reached = await self._reach()
        keys = await self._keys(reached, signs_urls=True)
        signer = reached.presigner if lifetime == URL_LIFETIME else reached.presigner.lasting(lifetime)
        urls = []
        for given in each:
            named = dict(given)
            request = request_of(operation, named, named.pop("Headers", {}), self.headers)
            urls.append(signer.presign(request.method, request.key, request.query, request.headers, keys))
        return urls

    async def share(self, key: str, seconds: float) -> SharedUrl:
        """Presign a GET of an object for whoever gets the URL. It needs no headers.

        Args:
            key: The object's key.
            seconds: For how long it is valid, unless the credentials end sooner.

        Raises:
            UsageError: Requests are not signed.
            Fault: The credentials can't be fetched.
        """
        reached = await self._reach()
        keys = await self._keys(reached)
        if keys is None:
            raise errors.UsageError("a link is signed with credentials, and there are none")
        left = self._seconds_left()
        lasts = seconds if left is None else min(seconds, left)
        signer = reached.presigner.lasting(max(1, int(lasts)))
        query = {"x-amz-request-payer": "requester"} if self.options.request_payer else {}
        url, signed_at = signer.presign("GET", key, query, {}, keys), int(self._now())
        return SharedUrl(
            url=url,
            expires_at=datetime.fromtimestamp(signed_at + max(1, int(lasts)), UTC),
            is_shortened=lasts < seconds,
            end_is_known=left is not None or not keys.token,
        )

    # -- credentials and address

    async def _reach(self) -> _Reached:
        """Find out how the bucket is reached: once, and again after what makes it another way."""
        await self.renewal.ready()
        if self._reached is None:
            async with self._finding:
                if self._reached is None:
                    self._reached = await self._find()
        return self._reached

    async def _find(self) -> _Reached:
        where = {"region": self._region, "signing_endpoint": self._signing_endpoint}
        access = await self._ask(lambda: find_access(self.name, self.options, **where))
        own: dict[str, Any] = _OF_DIRECTORY if self.name.endswith(_DIRECTORY) else {}
        signer, presigner = (
            S3Signer(base, access.region, lifetime=URL_LIFETIME, clock=self._now, **own)
            for base in (access.base, access.signed_base)
        )
        session: dict[str, Any] = {"service": _EXPRESS, "clock": self._now}
        begins = S3Signer(access.base, access.region, lifetime=URL_LIFETIME, **session) if own else None
        return _Reached(access, signer, presigner, begins)

    async def _ask(self, question: Callable[[], R]) -> R:
        """Ask for credentials in a thread that is left behind if nobody waits for it any more."""
        waiting = asyncio.timeout(CREDENTIALS_WITHIN)
        try:
            async with waiting:
                return await run_in_daemon_thread(lambda: translated(question))
        except TimeoutError:
            if not waiting.expired():
                raise
        raise no_answer(CREDENTIALS_WITHIN, self.options.profile)

    async def _keys(self, reached: _Reached, *, signs_urls: bool = False) -> SigningKeys | None:
        """Return the keys to sign with now: at once, unless they have to be fetched."""
        credentials = reached.access.credentials
        keys: SigningKeys | None = self.renewal.keys if credentials is None else None
        if (needed := getattr(credentials, "refresh_needed", None)) is not None:
            lasting = URL_LIFETIME if signs_urls and self._urls_hold else 0
            if (lasting and needed(refresh_in=lasting)) or needed():
                async with self._finding:  # one thread is enough: the others would wait in botocore's lock
                    keys = await self._ask(lambda: fetch_keys(credentials, lasting))
        if keys is None and credentials is not None:
            keys = credentials.get_frozen_credentials()
        self._used = keys
        if reached.begins_session is None or keys is None:
            return keys
        return await self._session_keys(reached.begins_session, keys)

    async def _session_keys(self, signer: S3Signer, keys: SigningKeys) -> SigningKeys:
        """Return the keys of a session with a directory bucket, which lasts five minutes.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateSession.html
        """
        async with self._beginning:
            if self._session is None or self._session[1] - self._now() < _SESSION_ENDS:
                begins = _BucketCall("to begin a session", "CreateSession", _BEGINS_SESSION, self._answer_within)
                answer = await self._answer(signer, keys, begins)
                given = required_field(answer, "Credentials", dict)
                names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
                access, secret, token = (required_field(given, name, str) for name in names)
                until = required_field(given, "Expiration", datetime).timestamp()
                self._session = PlainKeys(access, secret, token, _EXPRESS), until
        return self._session[0]

    def _now(self) -> float:
        """The store's time, in seconds since the epoch."""
        return self._clock() - self._ahead

    def _learn_time(self, fault: Fault, begin: float, end: float) -> None:
        """Sign with the store's time if this machine's clock is why it refused a request.

        Args:
            fault: The refusal. Gets that explanation, or loses it: whether the clock is off does not matter if the
                signature was valid at the store's time.
            begin: From when the signature was valid, in seconds since the epoch.
            end: Until when.
        """
        if fault.date is None:
            return
        offset = self._clock() - fault.date
        is_off = abs(offset) > CLOCK_TOLERANCE
        is_explained = is_off and not begin - CLOCK_TOLERANCE <= fault.date <= end
        if fault.kind is FaultKind.REFUSED:
            fault.is_explained, fault.hint = is_explained, f"{clock_is(offset)}: set it" if is_explained else ""
        ahead = offset if is_off else 0.0
        is_new = abs(ahead - self._ahead) > CLOCK_TOLERANCE
        fault.has_other_time = is_new or is_explained  # others may have been signed before the first refusal
        if is_new:
            self._ahead = ahead
            if is_explained:
                fault.warning = f"{clock_is(offset)}: requests are signed with the store's time. Set the clock"

    def _explain(self, fault: Fault, reached: _Reached) -> None:
        """Explain a refusal, and look for other credentials if these have ended."""
        self._session = None
        credentials = reached.access.credentials
        method = METHOD if credentials is None else str(credentials.method)
        renewed = method == METHOD or hasattr(credentials, "refresh_needed")
        explain_refusal(fault, self._used, method, reached.access.profile, renewed=renewed)
        if fault.code in EXPIRED and credentials is not None and self._reached is reached:
            self._reached = None  # a program may have written others into the files meanwhile

    def refused_url(self, url: str, fault: Fault) -> None:
        """Learn that the store refused a presigned URL, and explain that in its fault."""
        if (valid := validity(url)) is not None:
            self._learn_time(fault, *valid)
        if is_refusal(fault) and not fault.is_explained:
            self.renewal.refused_url(url)
        if (reached := self._reached) is not None:
            self._explain(fault, reached)

    def urls_last(self) -> float:
        """Return for how many seconds a URL that was signed just now is valid: no longer than its credentials."""
        left = self._seconds_left()
        return URL_LIFETIME if left is None else min(URL_LIFETIME, left)

    def _seconds_left(self) -> float | None:
        """Return for how many seconds what signs is valid; None: for ever, or nobody knows."""
        if self._session is not None:
            return self._session[1] - self._now()
        left = self.renewal.seconds_left()
        if left is None and self._reached is not None:
            left = seconds_left(self._reached.access.credentials)
        return left


MAX_AGE = 900.0
"""Seconds for which a connection is given to new uploads. A later upload reads the AWS configuration again, so that
credentials which were replaced in a file are found."""
MOST_IDLE = 8
"""Connections that are kept although nobody uses them. A program may upload for thousands of users, each with
credentials or a bucket of their own."""

_OF_THE_CONNECTION = tuple(
    field.name
    for field in dataclasses.fields(S3Options)
    if field.name not in (*OBJECT, "if_none_match", "local", "session", "credentials")
)
"""The fields of S3Options that are not the object's, without those that count by their identity."""


@dataclass(slots=True, eq=False)
class _PooledBucket:
    bucket: S3Bucket
    made: float
    key: tuple[Any, ...]
    users: int = 0


class BucketPool:
    """The connections of one `Uploader`."""

    def __init__(self, clients: HttpClients | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without connections.

        Args:
            clients: Whose connections all buckets use, which their owner closes; None: each bucket has its own.
            clock: A monotonic clock in seconds. Tests pass their own.
        """
        self._client_of = None if clients is None else clients.of
        self._clock = clock
        self._newest: dict[tuple[Any, ...], _PooledBucket] = {}
        """The buckets that new uploads get."""
        self._open: dict[int, _PooledBucket] = {}
        """All that are not closed, by the identity of their buckets. The one that was given back last is at the end."""

    def lease(self, name: str, options: S3Options) -> S3Bucket:
        """Return a connection to a bucket, to be given back by `release`. Object properties do not matter."""
        key = connection_of(name, options)
        entry = self._newest.get(key)
        if entry is None or self._clock() - entry.made > MAX_AGE:
            bucket = S3Bucket(name, options, client=self._client_of)
            entry = self._newest[key] = self._open[id(bucket)] = _PooledBucket(bucket, self._clock(), key)
        entry.users += 1
        return entry.bucket

    async def release(self, bucket: S3Bucket) -> None:
        """Give a connection back. Those that nobody uses are closed if they are too many, or too old for others."""
        given = self._open[id(bucket)] = self._open.pop(id(bucket))
        given.users -= 1
        while (entry := None if given.users else self._superfluous()) is not None:
            del self._open[id(entry.bucket)]
            if self._newest.get(entry.key) is entry:
                del self._newest[entry.key]
            await entry.bucket.aclose()

    def _superfluous(self) -> _PooledBucket | None:
        idle = [entry for entry in self._open.values() if not entry.users]
        kept = [entry for entry in idle if self._newest.get(entry.key) is entry][-MOST_IDLE:]
        return next((entry for entry in idle if entry not in kept), None)

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        self._newest.clear()
        for entry in [*self._open.values()]:
            await entry.bucket.aclose()


def connection_of(name: str, options: S3Options) -> tuple[Any, ...]:
    """Return the key of a connection: store, credentials, and the environment that both may come from."""
    return (name, connection_options(options), aws_environment())


def connection_options(options: S3Options) -> tuple[Any, ...]:
    """Return the options that make two connections different."""
    identities = (id(options.session), identity_of(options.credentials))
    return (*(getattr(options, field) for field in _OF_THE_CONNECTION), *identities)


_ENVIRON: Any = getattr(os.environ, "_data", os.environ)
"""The variables as the system has them: `os.environ` decodes each name, which takes four times as long."""
_AWS: Any = "AWS_" if _ENVIRON is os.environ else os.environ.encodekey("AWS_")


def aws_environment() -> tuple[tuple[Any, Any], ...]:
    """Return the variables of AWS. Other threads may change them meanwhile."""
    return tuple((name, _ENVIRON.get(name)) for name in sorted([name for name in [*_ENVIRON] if name[:4] == _AWS]))
