"""Direct signing: an S3 key reached with credentials, through botocore (`_bucket.S3Bucket`)."""

from __future__ import annotations

import email.utils
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

from bigupload import errors
from bigupload.core.checksums import Algorithm, ChecksumType
from bigupload.core.integrity import ObjectFacts
from bigupload.core.manifest import PartRecord, Target
from bigupload.core.object_claims import ObjectAttributes
from bigupload.core.part_plan import S3_LIMITS, Limits, Plan
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.session import CaBundle
from bigupload.options import S3Options
from bigupload.ports import Created, ListedPart, OpenUpload, SignedRequest, UnsignedPart
from bigupload.stores.s3.client import MOST_PAGES, URL_LIFETIME, S3Bucket, metadata_of
from bigupload.stores.s3.client import UploadPages as UploadPages

TOKEN = "bigupload-token"  # noqa: S105 - the name of a metadata key
MAX_LISTED_UPLOADS = 100_000
"""Open uploads that are kept in memory at once."""
_COMPLETE_WITHIN = 300.0
"""Seconds: complete may work for minutes before it answers."""


@dataclass(frozen=True, slots=True)
class OpenPage:
    """Of ListMultipartUploads: rows of (key, upload id, when it was begun)."""

    uploads: Sequence[tuple[str, str, datetime]]
    now: datetime | None
    """The store's clock, where it tells."""


@dataclass(frozen=True, slots=True)
class ObjectPart:
    """A part of an object, as HEAD knows it: `size` in bytes, and of how many, where the store says."""

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
    ) -> None:
        """`recorded` and `target` are what the manifest is to have where that is not how the store is reached.

        `through`: the connection to the bucket where many keys share it; it is not this store's to close.
        """
        self._key = key
        self._options = options
        self._recorded = recorded or options
        self._bucket = through or S3Bucket(bucket, options)
        self._shared = through is not None
        self.target = target or Target(bucket=bucket, key=key, endpoint=options.endpoint_url, region=options.region)

    @property
    def ca_bundle(self) -> CaBundle:
        """The certificates by which this store is known, instead of the system's."""
        return self._bucket.ca_bundle

    def options(self) -> dict[str, Any]:
        recorded = self._recorded.to_json()
        region = self._bucket.region
        if region is not None and not self._recorded.local:
            # AWS_DEFAULT_REGION may name another partition tomorrow, where another may have a bucket of this name.
            recorded.setdefault("region", region)
        return recorded

    def restore_options(self, recorded: Mapping[str, Any]) -> list[str]:
        self._options, differing = self._options.with_object_of(recorded)
        return differing

    def url(self) -> str:
        return self._bucket.url(self._key)

    async def aclose(self) -> None:
        """Close its connections. Idempotent; a call after it opens new ones."""
        if not self._shared:
            await self._bucket.aclose()

    async def ensure_bucket(self) -> None:
        """Make the bucket where it is missing."""
        await self._bucket.ensure()

    async def _call(self, what: str, method: str, **arguments: Any) -> Any:
        return await self._bucket.call(what, method, Key=self._key, **arguments)

    # -- the port

    async def precheck(self) -> None:
        if self._options.if_none_match and await self._head() is not None:
            raise errors.TargetExists(f"{self.target} exists, and replacing it was ruled out (--if-none-match)")

    async def create(
        self, plan: Plan, algorithm: Algorithm, *, declare: bool, token: str, first: Sequence[UnsignedPart] = ()
    ) -> Created:
        options = self._options
        arguments: dict[str, Any] = {"Metadata": {**options.metadata, TOKEN: token}}
        optional = {
            "ContentType": options.content_type,
            "StorageClass": options.storage_class,
            "ServerSideEncryption": options.sse or ("aws:kms" if options.sse_kms_key_id else None),
            "SSEKMSKeyId": options.sse_kms_key_id,
            "Tagging": "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in options.tags.items()),
        }
        arguments |= {name: value for name, value in optional.items() if value}
        declared = algorithm.type if declare and algorithm.is_s3_checksum else None
        if declared is not None:
            arguments |= {"ChecksumAlgorithm": algorithm.s3_name, "ChecksumType": declared.value}
        answer = await self._call("to start the upload", "create_multipart_upload", **arguments)
        return Created(_told(answer, "UploadId", str), declared)

    async def sign(self, upload_id: str, parts: Sequence[UnsignedPart]) -> list[SignedRequest]:
        urls = await self._bucket.presign_parts([self._parameters(upload_id, part) for part in parts])
        return [SignedRequest(url, part.headers, URL_LIFETIME) for url, part in zip(urls, parts, strict=True)]

    def _parameters(self, upload_id: str, part: UnsignedPart) -> dict[str, Any]:
        """What a part's URL is bound to."""
        bound = {_PARAMETERS[header]: value for header, value in part.headers.items()}
        return bound | {
            "Key": self._key,
            "UploadId": upload_id,
            "PartNumber": part.number,
            "ContentLength": part.size,
        }

    async def list_parts(self, upload_id: str, algorithm: Algorithm) -> list[ListedPart]:
        rows: list[ListedPart] = []
        marker = 0
        for _ in range(MOST_PAGES):
            try:
                page = await self._call("to list the parts", "list_parts", UploadId=upload_id, PartNumberMarker=marker)
            except Fault as fault:
                _advise(fault, _NO_LIST)
                raise
            _told(page, "UploadId", str)
            for row in page.get("Parts", ()):
                checksum = row.get(f"Checksum{algorithm.s3_name}")
                number, size, etag = _told(row, "PartNumber", int), _told(row, "Size", int), _told(row, "ETag", str)
                rows.append(ListedPart(number, size, etag, checksum, row.get("LastModified")))
            if len(rows) > _MOST_ROWS:
                raise Fault(FaultKind.FINAL, "the store lists more parts than an upload can have")
            if not page.get("IsTruncated"):
                return rows
            # A store that does not say how to go on is asked for what comes after the last part that it told of.
            following = page.get("NextPartNumberMarker", 0)
            if following <= marker:
                following = max((row["PartNumber"] for row in page.get("Parts", ())), default=0)
            if not marker < following <= self.limits.max_parts:
                break
            marker = following
        # Half a list is none: parts would be sent again, and an upload given up for want of the new ones.
        raise Fault(FaultKind.FINAL, "the store's list of parts does not end")

    async def find_open(self) -> list[OpenUpload]:
        found: list[OpenUpload] = []
        async for row in self._bucket.open_uploads(self._key):
            if row.get("Key") != self._key:
                continue
            initiated = _told(row, "Initiated", datetime).isoformat()
            declared = row.get("ChecksumAlgorithm"), row.get("ChecksumType")
            found.append(OpenUpload(_told(row, "UploadId", str), initiated, *declared))
            if len(found) > MAX_LISTED_UPLOADS:
                raise Fault(FaultKind.FINAL, f"the store lists more open uploads of {self._key} than anyone can have")
        return found

    async def next_open(self, pages: UploadPages) -> OpenPage:
        """The next page of the open uploads of all keys that begin with this one. Raises as `next_open_uploads`, and
        may be asked again as that."""
        page = await self._bucket.next_open_uploads(self._key, pages)
        headers = page.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        rows = [
            (_told(row, "Key", str), _told(row, "UploadId", str), _told(row, "Initiated", datetime))
            for row in page.get("Uploads", ())
        ]
        # A store that ignores the prefix would have other keys' uploads given up.
        return OpenPage([row for row in rows if row[0].startswith(self._key)], _date(headers.get("date")))

    def at(self, key: str) -> S3Store:
        """The store of another key of this bucket, over the same connections, which stay this one's to close."""
        return S3Store(self._bucket.name, key, self._options, through=self._bucket)

    async def stat(self, upload_id: str, algorithm: Algorithm) -> ObjectFacts | None:
        answer = await self._head()
        return None if answer is None else _facts(answer, algorithm)

    async def attributes(self) -> ObjectAttributes | None:
        """All that the store says of the object's bytes; None where there is none."""
        answer = await self._head()
        if answer is None:
            return None
        modified = answer.get("LastModified")
        return ObjectAttributes(
            etag=answer.get("ETag", ""),
            size=answer.get("ContentLength", 0),
            checksums={name: answer[f"Checksum{name}"] for name in _CHECKSUMS if f"Checksum{name}" in answer},
            checksum_type=answer.get("ChecksumType"),
            modified="" if modified is None else modified.isoformat(),
        )

    async def part(self, number: int) -> ObjectPart | None:
        """One part of the object; the whole object, or None, where the store does not remember its parts."""
        try:
            answer = await self._head(PartNumber=number)
        except Fault as fault:
            if fault.status in (400, 416, 501):  # a store that knows no part numbers
                return None
            raise
        if answer is None:
            return None
        return ObjectPart(answer.get("ETag", ""), answer.get("ContentLength", 0), answer.get("PartsCount"))

    async def sign_read(self) -> SignedRequest:
        """A GET of the object, to which Range and If-Match may be added."""
        (url,) = await self._bucket.presign("get_object", [{"Key": self._key}])
        return SignedRequest(url, {}, URL_LIFETIME)

    async def _head(self, **arguments: Any) -> Mapping[str, Any] | None:
        try:
            answer: Mapping[str, Any] = await self._call(
                "to look at the object", "head_object", ChecksumMode="ENABLED", **arguments
            )
            _told(answer, "ETag", str)
        except Fault as fault:
            if fault.kind is FaultKind.GONE or fault.status == 404:
                return None
            if fault.status == 400:
                # A response to HEAD has no body that would name the reason. It is no AccessDenied: that one means that
                # the object may be there all the same, and an upload goes on without having seen it.
                raise Fault(
                    FaultKind.REFUSED,
                    "the store refused to show the object: 400, without a reason. Either the credentials have expired: "
                    "renew them; or the object is encrypted with its owner's key (SSE-C): nobody else can check it",
                    status=400,
                    error=errors.CredentialsError,
                ) from fault
            raise
        return answer

    async def complete(
        self, upload_id: str, parts: Sequence[PartRecord], *, size: int, algorithm: Algorithm, checksum: str | None
    ) -> ObjectFacts:
        name = f"Checksum{algorithm.s3_name}"
        rows = [
            {"PartNumber": p.number, "ETag": p.etag} | ({name: p.checksum} if checksum is not None else {})
            for p in parts
        ]
        arguments: dict[str, Any] = {"MpuObjectSize": size}
        if checksum is not None:
            # S3 takes a composite with its "-N", and computes that itself where it is left out.
            arguments |= {"ChecksumType": algorithm.type.value}
            if algorithm.type is ChecksumType.FULL_OBJECT:
                arguments[name] = checksum
        if self._options.if_none_match:
            arguments["IfNoneMatch"] = "*"
        complete = functools.partial(
            self._call,
            "to complete the upload",
            "complete_multipart_upload",
            within=_COMPLETE_WITHIN,
            UploadId=upload_id,
            MultipartUpload={"Parts": rows},
        )
        try:
            answer = await complete(**arguments)
        except Fault as fault:
            if fault.kind is not FaultKind.UNSUPPORTED or "IfNoneMatch" not in arguments:
                raise
            del arguments["IfNoneMatch"]  # this store knows no conditions: the look before the upload must do
            answer = await complete(**arguments)
        _told(answer, "ETag", str)
        return _facts(answer, algorithm)

    async def abort(self, upload_id: str) -> None:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html: parts that were arriving may
        survive an abort, so list until there is nothing and abort again."""
        for _ in range(_MOST_ABORTS):
            try:
                await self._call("to abort", "abort_multipart_upload", UploadId=upload_id)
            except Fault as fault:
                if fault.kind is FaultKind.GONE:
                    return
                _advise(fault, _NO_ABORT)
                raise
            try:
                if not await self.list_parts(upload_id, Algorithm.NONE):
                    return
            except Fault as fault:
                if fault.kind in (FaultKind.GONE, FaultKind.UNSUPPORTED):
                    return
                raise
        raise errors.StoreUnavailable("parts of the aborted upload are still there: run abort again later")


T = TypeVar("T")

_NO_LIST = (
    "this store cannot list the parts of an upload, so no upload to it can be resumed. Upload the file again with "
    "--no-resume"
)
_NO_ABORT = (
    "this store cannot abort an upload: delete the manifest to forget it. Its parts stay in the store until the store "
    "itself removes them"
)
_MOST_ABORTS = 10
_MOST_ROWS = 100_000
"""Of parts: ten thousand, some of them several times."""
_CHECKSUMS = [algorithm.s3_name for algorithm in Algorithm if algorithm.is_s3_checksum]
_PARAMETERS = {
    "content-md5": "ContentMD5",
    **{a.header: f"Checksum{a.s3_name}" for a in Algorithm if a.is_s3_checksum},
}


def _advise(fault: Fault, advice: str) -> None:
    """Raises Fault(UNSUPPORTED) with `advice` where the store does not have the operation."""
    if fault.kind is FaultKind.UNSUPPORTED:
        raise Fault(FaultKind.UNSUPPORTED, f"{fault}: {advice}", status=fault.status, code=fault.code) from fault


def _told(answer: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """What every store says in this answer. Raises Fault(BROKEN): a 200 without it is somebody else's page (a captive
    portal's, a proxy's), and says nothing of what the store did."""
    told = answer.get(name)
    if not isinstance(told, kind) or told == "":
        raise Fault(FaultKind.BROKEN, f"the store's answer has no {name}: something else may have answered")
    return told


def _date(header: str | None) -> datetime | None:
    """https://www.rfc-editor.org/rfc/rfc9110#name-date: always GMT."""
    try:
        date = email.utils.parsedate_to_datetime(header or "")
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def _facts(answer: Mapping[str, Any], algorithm: Algorithm) -> ObjectFacts:
    checksum = answer.get(f"Checksum{algorithm.s3_name}")
    kind = answer.get("ChecksumType")
    return ObjectFacts(
        etag=answer.get("ETag", ""),
        size=answer.get("ContentLength"),
        algorithm=algorithm if checksum else None,
        checksum=checksum,
        checksum_type=ChecksumType(kind) if kind in list(ChecksumType) else None,
        token=metadata_of(answer).get(TOKEN),
    )
