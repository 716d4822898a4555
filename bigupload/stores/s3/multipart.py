"""Multipart uploads to one S3 key with credentials. Parts are PUT by presigned requests, or copied by the store.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bigupload import errors
from bigupload.core.checksums import Algorithm, ChecksumType
from bigupload.core.integrity import LOOKS_INSTEAD, MAY_NOT_LOOK, CopySource, ObjectAttributes, ObjectFacts
from bigupload.core.manifest import PartRecord, Target
from bigupload.core.part_plan import S3_LIMITS, Limits, Part, Plan
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.client import HttpClient
from bigupload.http.origins import CaBundle
from bigupload.options import S3Options
from bigupload.ports import Created, ListedPart, OpenUpload, PutResponse, SignedRequest, UnsignedPart
from bigupload.records import dataclass
from bigupload.s3_parameters import CUSTOMER_KEY, OBJECT, TOKEN, check_lock, metadata_headers, parameters
from bigupload.stores.s3.bucket import BucketPool, S3Bucket, SharedUrl
from bigupload.stores.s3.objects import S3Objects
from bigupload.stores.s3.operations import (
    HEADERS,
    MOST_PAGES,
    OpenPage,
    UploadPages,
    copy_source,
    date_of,
    name_options,
    required_field,
    rows,
)

_SIZE, _CONDITION = "MpuObjectSize", "IfNoneMatch"
_COPY_WITHIN = 300.0
"""Timeout in seconds: the store may work on a part of 5 GiB for minutes before it responds."""
_OTHER_OBJECT = ("NoSuchKey", "NoSuchVersion", "PreconditionFailed")
_NOT_COPIED = (FaultKind.FINAL, FaultKind.UNSUPPORTED, FaultKind.CORRUPTED, FaultKind.INVALID_PART, FaultKind.CONFLICT)
"""A store that knows no copies may find any fault with a part without bytes."""
MAX_LISTED_UPLOADS = 100_000
"""The most open uploads that are kept in memory at once."""
_COMPLETE_WITHIN = 300.0
"""Timeout in seconds: complete may work for minutes before it responds."""


@dataclass(frozen=True, slots=True)
class ObjectPart:
    """A part of an object, from HEAD: its `size` in bytes, and the number of parts if the store reports it."""

    etag: str
    size: int
    parts: int | None


class S3Store:
    """One bucket and key. Implements `ports.MultipartStore`."""

    limits: Limits = S3_LIMITS
    signs_ahead = 0

    def __init__(
        self,
        bucket: str,
        key: str,
        options: S3Options,
        *,
        recorded: S3Options | None = None,
        target: Target | None = None,
        through: S3Bucket | None = None,
        pool: BucketPool | None = None,
    ) -> None:
        """Make a store for one key.

        Args:
            bucket: The bucket's name.
            key: The object's key.
            options: How to reach the store, and the object's properties.
            recorded: The options for the manifest, if they differ from `options`.
            target: The target for the manifest, if it differs from the key and endpoint in use.
            through: A connection to the bucket that several keys share. `aclose` leaves it open.
            pool: Where to take the connection from, and give it back.
        """
        self._key = key
        self._options = options
        self._recorded = recorded or options
        self._pool = pool
        self._bucket = through or (pool.lease(bucket, options) if pool is not None else S3Bucket(bucket, options))
        self._shared = through is not None
        self.target = target or Target(bucket=bucket, key=key, endpoint=options.endpoint_url, region=options.region)

    @property
    def client(self) -> HttpClient:
        """The connections to the bucket."""
        return self._bucket.client

    @property
    def ca_bundle(self) -> CaBundle:
        """The certificates to trust instead of the system's."""
        return self._bucket.ca_bundle

    def options(self) -> dict[str, Any]:
        recorded = self._recorded.to_json()
        if self._recorded.local:
            return recorded
        if self._recorded.endpoint_url is None:
            recorded["aws"] = True
        if (region := self._bucket.region) is not None:
            # AWS_DEFAULT_REGION may later name another partition, where somebody else may own a bucket of this name.
            recorded.setdefault("region", region)
        return recorded

    def restore_options(self, recorded: Mapping[str, Any]) -> list[str]:
        self._options, differing = self._options.with_object_of(recorded)
        return differing

    def url(self) -> str:
        return self._bucket.url(self._key)

    async def aclose(self) -> None:
        """Close the connections. Idempotent; the next call opens new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            self._shared = True  # a second call must not close connections that others use
            await pool.release(self._bucket)
        elif not self._shared:
            await self._bucket.aclose()

    async def ensure_bucket(self) -> bool:
        """Create the bucket if it is missing. Returns whether this call created it."""
        return await self._bucket.ensure()

    async def _call(self, what: str, operation: str, **arguments: Any) -> dict[str, Any]:
        return await self._bucket.call(what, operation, Key=self._key, **arguments)

    # -- the port

    async def part_address(self) -> str | None:
        return await self._bucket.address()

    async def precheck(self) -> None:
        await self._bucket.prepare()  # a source of credentials may hang, and create can't be cancelled at once
        if self._options.if_none_match and await self._head() is not None:
            raise errors.TargetExists(f"{self.target} exists, and `if_none_match` forbids to replace it")

    async def create(
        self, plan: Plan, algorithm: Algorithm, *, declare: bool, token: str, first: Sequence[UnsignedPart] = ()
    ) -> Created:
        check_lock(self._options, now=datetime.now(UTC), checksums=algorithm is not Algorithm.NONE)
        headers = {**parameters(OBJECT, self._options), **metadata_headers({TOKEN: token})}
        declared = algorithm.type if declare and algorithm.is_s3_checksum else None
        declares = {"ChecksumAlgorithm": algorithm.s3_name, "ChecksumType": declared.value} if declared else {}
        try:
            answer = await self._call("to start the upload", "CreateMultipartUpload", headers=headers, **declares)
        except Fault as fault:
            name_options(fault, self._options)
            raise
        return Created(required_field(answer, "UploadId", str), declared)

    async def sign(self, upload_id: str, parts: Sequence[UnsignedPart]) -> list[SignedRequest]:
        of_all = {"Key": self._key, "UploadId": upload_id}
        each = [
            {**of_all, "PartNumber": part.number, "Headers": {**part.headers, "content-length": str(part.size)}}
            for part in parts
        ]
        urls = await self._bucket.presign("UploadPart", each)
        always, lasts = self._bucket.headers, self._bucket.urls_last()
        return [SignedRequest(url, {**always, **part.headers}, lasts) for url, part in zip(urls, parts, strict=True)]

    def refused(self, request: SignedRequest, fault: Fault) -> None:
        if fault.kind in (FaultKind.REFUSED, FaultKind.SKEWED):
            self._bucket.refused_url(request.url, fault)
        name_options(fault, self._options, begun=True)

    async def copy_part(self, upload_id: str, part: Part, origin: CopySource) -> PutResponse:
        arguments = _arguments_of_copy(part, origin, self._bucket.headers)
        try:
            answer = await self._call(
                "to copy a part", "UploadPartCopy", within=_COPY_WITHIN, UploadId=upload_id, **arguments
            )
        except Fault as fault:
            raise _fault_of_copy(fault) from fault
        except (errors.BucketNotFound, errors.WrongRegion) as e:  # of this bucket, the upload is known
            raise Fault(FaultKind.UNSUPPORTED, f"the store can't copy from the bucket {origin.bucket!r}") from e
        return _response_of_copy(answer)

    async def list_parts(self, upload_id: str, algorithm: Algorithm) -> list[ListedPart]:
        found: list[ListedPart] = []
        marker = 0
        for _ in range(MOST_PAGES):
            try:
                page = await self._call("to list the parts", "ListParts", UploadId=upload_id, PartNumberMarker=marker)
            except Fault as fault:
                if fault.kind is FaultKind.UNSUPPORTED:
                    raise _advised(fault, _NO_LIST) from fault
                if self._lacks_key(fault):
                    raise _advised(fault, _NO_KEY) from fault
                raise
            required_field(page, "UploadId", str)
            for row in rows(page, "Parts"):
                checksum = row.get(f"Checksum{algorithm.s3_name}")
                number, size, etag = (
                    required_field(row, "PartNumber", int),
                    required_field(row, "Size", int),
                    required_field(row, "ETag", str),
                )
                found.append(ListedPart(number, size, etag, checksum, row.get("LastModified")))
            if len(found) > _MOST_ROWS:
                raise Fault(FaultKind.FINAL, "the store lists more parts than an upload can have")
            if not page.get("IsTruncated"):
                return found
            # If the store does not name the next page, request the parts after the last one listed.
            following = page.get("NextPartNumberMarker", 0)
            if following <= marker:
                following = max((part.number for part in found), default=0)
            if not marker < following <= self.limits.max_parts:
                break
            marker = following
        # Half a list would mislead: parts would be sent again, and `gc` could abort an upload that is still active.
        raise Fault(FaultKind.FINAL, "the store's list of parts does not end")

    def _lacks_key(self, fault: Fault) -> bool:
        """Whether a customer key may be what the store misses."""
        return fault.status == 400 and fault.code == "InvalidRequest" and self._options.sse_customer_key is None

    async def find_open(self) -> list[OpenUpload]:
        found: list[OpenUpload] = []
        async for row in self._bucket.open_uploads(self._key):
            if row["Key"] == self._key:
                declared = row.get("ChecksumAlgorithm"), row.get("ChecksumType")
                found.append(OpenUpload(row["UploadId"], row["Initiated"].isoformat(), *declared))
            if len(found) > MAX_LISTED_UPLOADS:
                raise Fault(FaultKind.FINAL, "the store lists too many open uploads of this key")
        return found

    async def next_open(self, pages: UploadPages) -> OpenPage:
        """Return the next page of the open uploads of all keys that begin with this key.

        After a Fault, a repeated call requests the same page. It raises what `S3Bucket.next_open_uploads` raises.
        """
        page = await self._bucket.next_open_uploads(self._key, pages)
        found = [(row["Key"], row["UploadId"], row["Initiated"]) for row in page.get("Uploads", ())]
        # If a store ignores the prefix, uploads to other keys must not be aborted.
        return OpenPage([row for row in found if row[0].startswith(self._key)], date_of(page["Headers"].get("date")))

    def at(self, key: str) -> S3Store:
        """Return the store for another key of this bucket, over the same connections. Only this one closes them."""
        target = dataclasses.replace(self.target, key=key)
        bucket = self._bucket
        return S3Store(bucket.name, key, self._options, recorded=self._recorded, target=target, through=bucket)

    def with_properties_of(self, options: S3Options) -> S3Store:
        """Return the store for objects with other properties, over the same connections. Only this one closes them."""
        named = (*OBJECT, "if_none_match")
        properties = {name: getattr(options, name) for name in named}
        return S3Store(
            self._bucket.name,
            self._key,
            dataclasses.replace(self._options, **properties),
            recorded=dataclasses.replace(self._recorded, **properties),
            target=self.target,
            through=self._bucket,
        )

    def objects(self, token: str) -> S3Objects:
        """Return the store that sends whole objects to any key of this bucket, with `token` in their metadata."""
        check_lock(self._options, now=datetime.now(UTC), checksums=True)
        return S3Objects(self._bucket, self._options, token, self.at)

    async def stat(self, upload_id: str, algorithm: Algorithm) -> ObjectFacts | None:
        answer = await self._head(is_known_by_token=True)
        return None if answer is None else _facts(answer, algorithm)

    async def attributes(self, *, with_size: bool = True) -> ObjectAttributes | None:
        """Return the object's size, ETag and checksums; None if it does not exist.

        A proxy may drop the length of a response to HEAD. Without `with_size`, the size is 0 then.
        """
        answer = await self._head()
        if answer is None:
            return None
        modified = answer.get("LastModified")
        return ObjectAttributes(
            etag=answer.get("ETag", ""),
            size=required_field(answer, "ContentLength", int) if with_size else answer.get("ContentLength", 0),
            checksums=_checksums_of(answer),
            checksum_type=answer.get("ChecksumType"),
            modified="" if modified is None else modified.isoformat(),
            version_id=answer.get("VersionId"),
        )

    async def share(self, seconds: float) -> SharedUrl:
        """Presign a GET of the object for whoever gets it. See `S3Bucket.share`."""
        return await self._bucket.share(self._key, seconds)

    async def part(self, number: int) -> ObjectPart | None:
        """Return one part of the object. If the store does not know its parts: the whole object, or None."""
        try:
            answer = await self._head(PartNumber=number)
        except Fault as fault:
            if fault.status in (400, 416, 501):  # the store does not support part numbers
                return None
            raise
        if answer is None:
            return None
        return ObjectPart(
            answer.get("ETag", ""), required_field(answer, "ContentLength", int), answer.get("PartsCount")
        )

    async def sign_read(self) -> SignedRequest:
        """Presign a GET of the object. The caller may add Range and If-Match."""
        (url,) = await self._bucket.presign("GetObject", [{"Key": self._key}])
        return SignedRequest(url, self._bucket.headers, self._bucket.urls_last())

    async def _head(self, *, is_known_by_token: bool = False, **arguments: Any) -> Mapping[str, Any] | None:
        """Return the response to HEAD; None if there is no object.

        `is_known_by_token`: where a proxy drops the ETag, an upload's token shows that the response is a store's.
        """
        try:
            answer = await self._head_with_checksums(arguments)
        except Fault as fault:
            if fault.status != 400 or fault.is_explained:
                raise
            # A response to HEAD has no body with a reason. It must not count as AccessDenied: after AccessDenied, the
            # object may exist, and the upload continues without having seen it.
            message = (
                "the store refused to show the object: 400, without a reason. Either the credentials have expired: "
                "renew them; or the object is encrypted with its owner's key (SSE-C): name it as `sse_customer_key`"
            )
            raise Fault(FaultKind.REFUSED, message, status=400, error=errors.ObjectNotShown) from fault
        if answer is not None and not (is_known_by_token and TOKEN in answer.get("Metadata", {})):
            required_field(answer, "ETag", str)
        return answer

    async def _head_with_checksums(self, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """Ask for the object's checksums, too: not every store takes that."""
        look = functools.partial(self._bucket.head, self._key, **arguments)
        if not self._bucket.knows_checksum_mode:
            return await look()
        try:
            return await look(ChecksumMode="ENABLED")
        except Fault as fault:
            if fault.kind is not FaultKind.UNSUPPORTED and fault.status != 400:
                raise
            try:
                answer = await look()
            except Fault:
                raise fault from None
        self._bucket.knows_checksum_mode = answer is None
        return answer

    async def complete(
        self, upload_id: str, parts: Sequence[PartRecord], *, size: int, algorithm: Algorithm, checksum: str | None
    ) -> ObjectFacts:
        name = f"Checksum{algorithm.s3_name}"
        listed = [
            {"PartNumber": p.number, "ETag": p.etag} | ({name: p.checksum} if checksum is not None else {})
            for p in parts
        ]
        arguments = {"UploadId": upload_id, "MultipartUpload": {"Parts": listed}, "MpuObjectSize": size}
        if checksum is not None:
            arguments["ChecksumType"] = algorithm.type.value
            # S3 accepts a composite checksum only with its "-N", and computes it if it is left out.
            if algorithm.type is ChecksumType.FULL_OBJECT:
                arguments[name] = checksum
        if self._options.if_none_match:
            arguments["IfNoneMatch"] = "*"
        complete = functools.partial(
            self._call, "to complete the upload", "CompleteMultipartUpload", within=_COMPLETE_WITHIN
        )
        without: dict[str, str] = {}
        """The headers that were left out, each with the refusal of it."""
        while True:
            if (refusal := without.get(_CONDITION)) is not None:
                await self._require_absent(refusal)
            try:
                answer = await complete(**arguments)
                break
            except Fault as fault:
                name_options(fault, self._options, begun=True)
                if fault.status == 500 and await self._is_folder():
                    raise errors.StoreRefused(
                        f"this store keeps a folder {self.target}/ for the keys that begin so, and makes no object of "
                        "that name beside it: upload to another key; `abort` deletes the parts of this upload"
                    ) from fault
                refused = _refused_of(fault, arguments)
                # The size may be refused because it is another one.
                if _SIZE in refused and not await self._has_all(upload_id, parts, size, algorithm):
                    refused.remove(_SIZE)
                if not refused:
                    raise
                without[refused[0]] = str(fault)
                del arguments[refused[0]]
        required_field(answer, "ETag", str)
        means = {_CONDITION: f"; {LOOKS_INSTEAD}"}
        lacks = (f"{why}: sent without {HEADERS[name]}{means.get(name, '')}" for name, why in without.items())
        return dataclasses.replace(_facts(answer, algorithm), lacks=tuple(lacks))

    async def _has_all(self, upload_id: str, parts: Sequence[PartRecord], size: int, algorithm: Algorithm) -> bool:
        """Whether the store lists just these parts, and they have this many bytes together."""
        try:
            listed = await self.list_parts(upload_id, algorithm)
        except Fault:
            return False
        theirs, ours = ([(p.number, p.etag.strip('"')) for p in each] for each in (listed, parts))
        return theirs == ours and sum(p.size for p in listed) == size

    async def _require_absent(self, refusal: str) -> None:
        """Look whether there is an object. Raises Fault(EXISTS) if so."""
        try:
            found = await self._head()
        except Fault as fault:
            if fault.kind is not FaultKind.REFUSED:
                raise
            raise errors.StoreRefused(f"{refusal}: {MAY_NOT_LOOK}") from fault
        if found is not None:
            raise Fault(FaultKind.EXISTS, f"{self.target} exists", status=412)

    async def _is_folder(self) -> bool:
        """Whether the store, as SeaweedFS, shows a folder of the key's name that is not an object: S3 itself has none.

        An object may have the key with one slash, a folder's marker. With two, SeaweedFS shows the folder still.
        """
        folder = f"{self._key}//"
        try:
            if await self._bucket.head(folder) is None:
                return False
            page = await self._bucket.call("to list the objects", "ListObjectsV2", Prefix=folder, MaxKeys="1")
        except Fault:  # the store is unwell, or these credentials may not ask
            return False
        return not any(required_field(row, "Key", str) == folder for row in rows(page, "Contents"))

    async def abort(self, upload_id: str) -> None:
        """Abort the upload, and repeat that until no part is listed: a part in flight may survive an abort.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html
        """
        for _ in range(_MOST_ABORTS):
            try:
                await self._call("to abort", "AbortMultipartUpload", UploadId=upload_id)
            except Fault as fault:
                if fault.kind is FaultKind.GONE:
                    return
                if fault.kind is FaultKind.UNSUPPORTED:
                    raise _advised(fault, _NO_ABORT) from fault
                raise
            try:
                if not await self.list_parts(upload_id, Algorithm.NONE):
                    return
            except Fault as fault:
                if fault.kind in (FaultKind.GONE, FaultKind.UNSUPPORTED):
                    return
                if not self._lacks_key(fault):  # else it is still there: the store would not know it otherwise
                    raise
        raise errors.StoreUnavailable("parts of the aborted upload are still there: run abort again later")


_NO_LIST = (
    "this store cannot list the parts of an upload, so no upload to it can be resumed. Upload the file again with "
    "`resume=False`"
)
_NO_ABORT = (
    "this store cannot abort an upload: delete the manifest to forget it. Its parts stay in the store until the store "
    "itself removes them"
)
_NO_KEY = "if the upload is encrypted with a key of its owner (SSE-C), name that as `sse_customer_key`"
_MOST_ABORTS = 10
_MOST_ROWS = 100_000
"""The most rows in a list of parts: ten thousand parts, some of them several times."""
_CHECKSUMS = [algorithm.s3_name for algorithm in Algorithm if algorithm.is_s3_checksum]


def _advised(fault: Fault, advice: str) -> Fault:
    return Fault(fault.kind, f"{fault}: {advice}", status=fault.status, code=fault.code)


def _facts(answer: Mapping[str, Any], algorithm: Algorithm) -> ObjectFacts:
    checksum = answer.get(f"Checksum{algorithm.s3_name}")
    kind = answer.get("ChecksumType")
    return ObjectFacts(
        etag=answer.get("ETag", ""),
        size=answer.get("ContentLength"),
        algorithm=algorithm if checksum else None,
        checksum=checksum,
        checksum_type=ChecksumType(kind) if kind in list(ChecksumType) else None,
        token=answer.get("Metadata", {}).get(TOKEN),
        version_id=answer.get("VersionId"),
        checksums=_checksums_of(answer),
    )


def _refused_of(fault: Fault, arguments: Mapping[str, Any]) -> list[str]:
    """Return the arguments of complete that a refusal may be of, and that can be left out, one after the other.

    They are those that it names. A store that does not support the request and names nothing may mean any of them.
    Checksums always stay: a refusal that names one may be of its value.
    """
    if not fault.may_be_unsupported:
        return []
    optional = [name for name in (_SIZE, _CONDITION) if name in arguments]
    named = [name for name in optional if HEADERS[name] in fault.named]
    return named if named or fault.names_checksum or fault.kind is not FaultKind.UNSUPPORTED else optional


def _checksums_of(answer: Mapping[str, Any]) -> dict[str, str]:
    return {name: answer[f"Checksum{name}"] for name in _CHECKSUMS if f"Checksum{name}" in answer}


def _arguments_of_copy(part: Part, origin: CopySource, of_requests: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of the call that copies a part's range of an object.

    `of_requests` are the headers of every request to the bucket: of them, the customer key may be the object's too.
    """
    arguments: dict[str, Any] = {
        "CopySource": copy_source(origin.bucket, origin.key, origin.version_id),
        "CopySourceIfMatch": origin.etag,
        "PartNumber": part.number,
    }
    if part.size < origin.size:  # of an object of up to 5 MB, S3 copies no range
        arguments["CopySourceRange"] = f"bytes={part.offset}-{part.offset + part.size - 1}"
    if origin.owner is not None:
        arguments["ExpectedSourceBucketOwner"] = origin.owner
    if origin.customer_key:
        arguments["headers"] = {
            name.replace("x-amz-", "x-amz-copy-source-", 1): value
            for name, value in of_requests.items()
            if name.startswith(CUSTOMER_KEY)
        }
    return arguments


def _response_of_copy(answer: Mapping[str, Any]) -> PutResponse:
    """Read the response.

    Raises:
        Fault: UNSUPPORTED, with status 200, if it is not a response to a copy. A store that does not know of copies
            takes the request for a part without bytes.
    """
    etag = answer.get("ETag")
    if not isinstance(etag, str) or not etag:
        raise Fault(
            FaultKind.UNSUPPORTED,
            "the store was asked to copy a part, and its response does not confirm it",
            status=200,
        )
    found = {a.header: answer.get(f"Checksum{a.s3_name}") for a in Algorithm if a.is_s3_checksum}
    return PutResponse(etag, {header: value for header, value in found.items() if value})


def _fault_of_copy(fault: Fault) -> Fault:
    """Say what the failure of a request means for a copy, which has two objects that may be missing."""
    if fault.code in _OTHER_OBJECT or fault.status == 412:
        kind, message = FaultKind.EXISTS, f"the object to copy from was replaced or deleted ({fault})"
    elif fault.kind in _NOT_COPIED:
        kind, message = FaultKind.UNSUPPORTED, str(fault)
    else:
        return fault
    return Fault(kind, message, status=fault.status, code=fault.code)
