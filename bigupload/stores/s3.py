"""Direct signing: an S3 key reached with credentials, through boto3.

boto3 is blocking and slow to import, so it is imported in the thread that first needs it. Its own retries are off:
the engine decides, and a repeated complete must not be a surprise. What botocore raises is translated in `_call`.
"""

from __future__ import annotations

import functools
import os
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import anyio.to_thread

from bigupload import errors
from bigupload._http import CONNECT_TIMEOUT
from bigupload.checksums import Algorithm, ChecksumType
from bigupload.manifest import PartRecord, Target
from bigupload.options import S3Options
from bigupload.planning import S3_LIMITS, Limits, Plan
from bigupload.ports import Created, OpenUpload, PartToSign, SignedRequest, StoredPart
from bigupload.proof import ObjectFacts
from bigupload.retry import Fault, FaultKind
from bigupload.stores._botocore import fault_of_botocore, refuse_region_redirect

if TYPE_CHECKING:
    import boto3.session
    from mypy_boto3_s3.client import S3Client

R = TypeVar("R")

TOKEN = "bigupload-token"  # noqa: S105 - the name of a metadata key
URL_LIFETIME = 3600
"""Seconds that a presigned URL is valid."""
_ANSWER_WITHIN = 60.0
_COMPLETE_WITHIN = 300.0
"""Seconds: complete may work for minutes before it answers, everything else answers soon or not at all."""


class S3Store:
    """One bucket and key. Implements `ports.MultipartStore`."""

    limits: Limits = S3_LIMITS

    def __init__(
        self,
        bucket: str,
        key: str,
        options: S3Options,
        *,
        recorded: S3Options | None = None,
        target: Target | None = None,
    ) -> None:
        """`recorded` and `target` are what the manifest is to have where that is not how the store is reached."""
        self._bucket = bucket
        self._key = key
        self._options = options
        self._recorded = recorded or options
        self._session: boto3.session.Session | None = None
        self._clients: dict[float, S3Client] = {}
        self._making = anyio.Lock()
        self._region = options.region
        self._url = f"s3://{bucket}/{key}"
        self.target = target or Target(bucket=bucket, key=key, endpoint=options.endpoint_url, region=options.region)

    @property
    def ca_bundle(self) -> Path | None:
        """The certificates by which this store is known, instead of the system's; boto3 looks there as well."""
        named = os.environ.get("AWS_CA_BUNDLE")
        return self._options.ca_bundle or (Path(named) if named else None)

    def options(self) -> dict[str, Any]:
        return self._recorded.to_json()

    def go_on_with(self, recorded: Mapping[str, Any]) -> list[str]:
        self._options, differing = self._options.with_object_of(recorded)
        return differing

    def url(self) -> str:
        return self._url

    def close(self) -> None:
        """Close the connections that boto3 keeps: they would last until the garbage collector comes to its cycles.

        Idempotent; a call after it opens new ones.
        """
        while self._clients:
            self._clients.popitem()[1].close()

    # -- the client

    async def _client(self, within: float = _ANSWER_WITHIN) -> S3Client:
        """One a timeout, because boto3 knows timeouts of clients only."""
        async with self._making:
            if within not in self._clients:
                make = functools.partial(self._make_client, within)
                self._clients[within] = await self._in_thread(make, "to read the AWS configuration")
            return self._clients[within]

    def _make_client(self, within: float) -> S3Client:
        import boto3
        from botocore.config import Config

        options = self._options
        if self._session is None:  # one for both clients: what it has read of AWS takes time and memory
            self._session = boto3.session.Session(
                profile_name=options.profile,
                region_name=options.region,
                aws_access_key_id=options.access_key,
                aws_secret_access_key=options.secret_key,
                aws_session_token=options.session_token,
            )
        session = self._session
        region = self._region or session.region_name or "us-east-1"
        config = Config(
            signature_version="s3v4",  # the default presign can be SigV2
            s3={"addressing_style": options.addressing},
            retries={"total_max_attempts": 1},
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=within,
            # The engine computes its own; botocore's would be bound into part URLs.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            user_agent_extra="bigupload",
        )
        client: S3Client = session.client(
            "s3",
            endpoint_url=options.endpoint_url,
            region_name=region,
            config=config,
            verify=str(options.ca_bundle) if options.ca_bundle else None,
        )
        if options.addressing == "auto" and str(client.meta.endpoint_url).endswith(".amazonaws.com"):
            # Only this keeps botocore from presigning for the global host, which redirects to a new bucket for hours.
            typing.cast("Any", client.meta.config).s3["addressing_style"] = "virtual"
        # A redirected create would succeed, and every URL signed for the wrong region then fail.
        client.meta.events.register("request-created.s3", refuse_region_redirect)
        signed = client.generate_presigned_url("get_object", Params={"Bucket": self._bucket, "Key": self._key})
        self._url = signed.partition("?")[0]
        return client

    async def _call(self, what: str, method: str, *, within: float = _ANSWER_WITHIN, **arguments: Any) -> Any:
        client = await self._client(within)
        try:
            return await self._in_thread(functools.partial(getattr(client, method), **arguments), what)
        except errors.WrongRegion as e:
            if self._region is not None or not e.region:
                raise
            # No region was asked for: the bucket's own is the right one.
            self.close()
            self._region = e.region
            return await self._call(what, method, within=within, **arguments)

    async def _in_thread(self, function: Callable[[], R], what: str) -> R:
        """Never abandoned: a call that is in its thread has an outcome, and someone waits for it."""

        def attempt() -> tuple[R, None] | tuple[None, Exception]:
            # Translated here, and not as a context of what is raised: botocore's own texts can hold URLs, and its
            # traceback keeps the connection open (in cycles, hence the clearing).
            try:
                return function(), None
            except Exception as e:
                error = fault_of_botocore(e, what, self._bucket)
                context: BaseException | None = e
                while context is not None:
                    traceback.clear_frames(context.__traceback__)
                    context = context.__context__
                return None, error

        result, error = await anyio.to_thread.run_sync(attempt)
        if error is not None:
            raise error
        return typing.cast("R", result)

    async def ensure_bucket(self) -> None:
        """Make the bucket where it is missing."""
        try:
            await self._call("to look at the bucket", "head_bucket", Bucket=self._bucket)
        except Fault as fault:
            if fault.status != 404:  # HEAD has no body, so that no code tells NoSuchBucket
                raise fault.public() from fault
            await self._call("to make the bucket", "create_bucket", Bucket=self._bucket)

    # -- the port

    async def precheck(self) -> None:
        if self._options.if_none_match and await self.stat(Algorithm.NONE) is not None:
            raise errors.TargetExists(f"{self.target} exists, and replacing it was ruled out (--if-none-match)")

    async def create(self, plan: Plan, algorithm: Algorithm, *, declare: bool, token: str) -> Created:
        options = self._options
        arguments: dict[str, Any] = {
            "Bucket": self._bucket,
            "Key": self._key,
            "Metadata": {**options.metadata, TOKEN: token},
        }
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
        return Created(answer["UploadId"], declared)

    async def sign(self, upload_id: str, parts: Sequence[PartToSign]) -> list[SignedRequest]:
        client = await self._client()
        return await self._in_thread(lambda: [self._sign(client, upload_id, part) for part in parts], "to sign parts")

    def _sign(self, client: S3Client, upload_id: str, part: PartToSign) -> SignedRequest:
        arguments: dict[str, Any] = {
            "Bucket": self._bucket,
            "Key": self._key,
            "UploadId": upload_id,
            "PartNumber": part.number,
            "ContentLength": part.size,
        }
        for header, value in part.headers.items():
            arguments[_PARAMETERS[header]] = value
        url = client.generate_presigned_url("upload_part", Params=arguments, ExpiresIn=URL_LIFETIME)
        return SignedRequest(url, part.headers, URL_LIFETIME)

    async def list_parts(self, upload_id: str, algorithm: Algorithm) -> list[StoredPart]:
        rows: list[StoredPart] = []
        marker = 0
        while True:
            page = await self._call(
                "to list the parts",
                "list_parts",
                Bucket=self._bucket, Key=self._key, UploadId=upload_id, PartNumberMarker=marker,
            )  # fmt: skip
            for row in page.get("Parts", ()):
                checksum = row.get(f"Checksum{algorithm.s3_name}")
                rows.append(StoredPart(row["PartNumber"], row["Size"], row["ETag"], checksum))
            following = page.get("NextPartNumberMarker", 0)
            if not page.get("IsTruncated") or following <= marker:  # a page that leads nowhere would loop for ever
                return rows
            marker = following

    async def find_open(self) -> list[OpenUpload]:
        found: list[OpenUpload] = []
        markers: dict[str, Any] = {}
        while True:
            page = await self._call(
                "to list the open uploads", "list_multipart_uploads", Bucket=self._bucket, Prefix=self._key, **markers
            )
            for row in page.get("Uploads", ()):
                if row["Key"] == self._key:
                    found.append(
                        OpenUpload(
                            row["UploadId"],
                            row["Initiated"].isoformat(),
                            row.get("ChecksumAlgorithm"),
                            row.get("ChecksumType"),
                        )
                    )
            following = {
                "KeyMarker": page.get("NextKeyMarker") or "",
                "UploadIdMarker": page.get("NextUploadIdMarker") or "",
            }
            if not page.get("IsTruncated") or following == markers or not following["KeyMarker"]:
                return found
            markers = following

    async def stat(self, algorithm: Algorithm) -> ObjectFacts | None:
        answer = await self._head()
        return None if answer is None else _facts(answer, algorithm)

    async def stat_any(self) -> ObjectFacts | None:
        """As `stat`, with whichever checksum the object has, CRC64NVME before the others."""
        answer = await self._head()
        if answer is None:
            return None
        had = [a for a in Algorithm if a.is_s3_checksum and f"Checksum{a.s3_name}" in answer]
        return _facts(answer, had[0] if had else Algorithm.NONE)

    async def first_part_size(self) -> int | None:
        """Bytes of the object's first part, where the store remembers how it was uploaded."""
        answer = await self._head(PartNumber=1)
        return None if answer is None else answer.get("ContentLength")

    async def _head(self, **arguments: Any) -> Mapping[str, Any] | None:
        try:
            answer: Mapping[str, Any] = await self._call(
                "to look at the object",
                "head_object",
                Bucket=self._bucket, Key=self._key, ChecksumMode="ENABLED", **arguments,
            )  # fmt: skip
        except Fault as fault:
            if fault.kind is FaultKind.GONE or fault.status == 404:
                return None
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
            Bucket=self._bucket, Key=self._key, UploadId=upload_id, MultipartUpload={"Parts": rows},
        )  # fmt: skip
        try:
            answer = await complete(**arguments)
        except Fault as fault:
            if fault.kind is not FaultKind.UNSUPPORTED or "IfNoneMatch" not in arguments:
                raise
            del arguments["IfNoneMatch"]  # this store knows no conditions: the look before the upload must do
            answer = await complete(**arguments)
        return _facts(answer, algorithm)

    async def abort(self, upload_id: str) -> None:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html: parts that were arriving may
        survive an abort, so list until there is nothing and abort again."""
        for _ in range(_MOST_ABORTS):
            try:
                await self._call(
                    "to abort", "abort_multipart_upload", Bucket=self._bucket, Key=self._key, UploadId=upload_id
                )
                if not await self.list_parts(upload_id, Algorithm.NONE):
                    return
            except Fault as fault:
                if fault.kind is FaultKind.GONE:
                    return
                raise
        raise errors.StoreUnavailable("parts of the aborted upload are still there: run abort again later")


_MOST_ABORTS = 10
_PARAMETERS = {
    "content-md5": "ContentMD5",
    **{a.header: f"Checksum{a.s3_name}" for a in Algorithm if a.is_s3_checksum},
}


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
    )
