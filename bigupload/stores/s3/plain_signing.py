"""Presign what is sent to a plainly configured bucket (`plain_access`), without botocore.

The URL is the one that botocore makes: `tests/stores/s3/test_plain_signing.py` compares the two.
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from bigupload.s3_parameters import REQUEST_HEADERS
from bigupload.stores.s3.plain_access import PlainAccess
from bigupload.stores.s3.presign import PARAMETER_OF, PartSigner, hmac_of, signing_key
from bigupload.stores.s3.presign_put import ObjectPut, PutSigner

_HEADER_OF = {
    **{parameter: header for header, parameter in [*PARAMETER_OF.items(), *REQUEST_HEADERS.items()]},
    "ACL": "x-amz-acl",
    "CacheControl": "cache-control",
    "ChecksumAlgorithm": "x-amz-checksum-algorithm",
    "ChecksumMode": "x-amz-checksum-mode",
    "ChecksumType": "x-amz-checksum-type",
    "ContentDisposition": "content-disposition",
    "ContentEncoding": "content-encoding",
    "ContentLanguage": "content-language",
    "ContentType": "content-type",
    "GrantFullControl": "x-amz-grant-full-control",
    "GrantRead": "x-amz-grant-read",
    "GrantReadACP": "x-amz-grant-read-acp",
    "GrantWriteACP": "x-amz-grant-write-acp",
    "IfNoneMatch": "if-none-match",
    "MpuObjectSize": "x-amz-mp-object-size",
    "ObjectLockLegalHoldStatus": "x-amz-object-lock-legal-hold",
    "ObjectLockMode": "x-amz-object-lock-mode",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "StorageClass": "x-amz-storage-class",
    "Tagging": "x-amz-tagging",
    "WebsiteRedirectLocation": "x-amz-website-redirect-location",
}
"""The header of each parameter of an object that is a text. Times are left to botocore, which formats them."""


class PlainSigner:
    """Signs for one bucket. Thread-safe, as `PutSigner` is."""

    def __init__(
        self,
        access: PlainAccess,
        always: Mapping[str, Any],
        lifetime: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Sign nothing yet.

        Args:
            access: How the bucket is reached.
            always: The parameters of every request: `s3_parameters.REQUEST`.
            lifetime: Seconds that URLs are valid.
            clock: The time, in seconds since the epoch.
        """
        self.access = access
        self._always = always
        self._lifetime = lifetime
        self._clock = clock
        self._host = urlsplit(access.base).netloc
        self._puts = PutSigner(self._presign_put, lambda put: self.headers_of(put.parameters), clock)
        self._parts = PartSigner(self._presign_part, clock)

    def url(self, key: str) -> str:
        """Return a URL without its query."""
        return f"{self.access.base}/{quote(key, safe='/~')}"

    @staticmethod
    def takes(put: ObjectPut) -> bool:
        """Return whether all that is sent with an object is known here."""
        return all(map(is_known_header, put.common))

    def sign_put(self, put: ObjectPut) -> tuple[str, dict[str, str]]:
        """Return the URL and the headers to send. They are those of `S3Bucket.presign_put`."""
        return self._puts.sign(put, self.access.keys)

    def sign_part(self, parameters: Mapping[str, Any]) -> str:
        """Return the URL of a part, as `S3Bucket.presign_parts` does."""
        return self._parts.sign({**parameters, **self._always}, self.access.keys)

    def _presign_put(self, put: ObjectPut) -> str:
        return self.presign("PUT", put.key, self.headers_of(put.parameters))

    def _presign_part(self, parameters: Mapping[str, Any]) -> str:
        own = {name: value for name, value in parameters.items() if name not in ("Key", "PartNumber", "UploadId")}
        query = [f"uploadId={quote(parameters['UploadId'], safe='')}", f"partNumber={parameters['PartNumber']}"]
        return self.presign("PUT", parameters["Key"], self.headers_of(own), query)

    def headers_of(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Return the headers that botocore makes of parameters, by names in lower case."""
        whole = {**parameters, **self._always}
        headers = {_HEADER_OF[name]: str(value) for name, value in whole.items() if name in _HEADER_OF}
        return headers | {f"x-amz-meta-{name.lower()}": value for name, value in whole.get("Metadata", {}).items()}

    def presign(self, method: str, key: str, headers: Mapping[str, str], query: Iterable[str] = ()) -> str:
        """Return a presigned URL.

        Args:
            method: The request's method.
            key: The object's key.
            headers: What the signature covers, by names in lower case. Host is added.
            query: The request's own pairs, quoted.
        """
        keys = self.access.keys
        date, scope = self._now()
        lines, names = _lines({"host": self._host, **headers})
        pairs = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{keys.access_key}/{scope}",
            "X-Amz-Date": date,
            "X-Amz-Expires": str(self._lifetime),
            "X-Amz-SignedHeaders": names,
            **({"X-Amz-Security-Token": keys.token} if keys.token else {}),
        }
        whole = [*query, *(f"{name}={quote(value, safe='')}" for name, value in pairs.items())]
        url = self.url(key)
        request = [method, urlsplit(url).path, "&".join(sorted(whole)), lines, names, "UNSIGNED-PAYLOAD"]
        return f"{url}?{'&'.join(whole)}&X-Amz-Signature={self._signature(request, date, scope)}"

    def authorize(
        self, method: str, key: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[str, dict[str, str]]:
        """Sign a request that this process sends.

        Args:
            method: The request's method.
            key: The object's key. Empty: the request is of the bucket.
            query: Its pairs, quoted and in their order.
            headers: The request's headers, by names in lower case.
            body: Its body.

        Returns:
            The request's target, and all headers to send.
        """
        keys = self.access.keys
        date, scope = self._now()
        target, digest = (
            urlsplit(self.url(key) if key else self.access.base).path or "/",
            hashlib.sha256(body).hexdigest(),
        )
        whole = {"host": self._host, **headers, "x-amz-content-sha256": digest, "x-amz-date": date}
        if keys.token:
            whole["x-amz-security-token"] = keys.token
        lines, names = _lines(whole)
        signature = self._signature([method, target, query, lines, names, digest], date, scope)
        credential = f"Credential={keys.access_key}/{scope}"
        whole["authorization"] = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
        return f"{target}?{query}" if query else target, whole

    def _now(self) -> tuple[str, str]:
        """The date and scope of a signature made now."""
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
        return date, f"{date[:8]}/{self.access.region}/s3/aws4_request"

    def _signature(self, request: Sequence[str], date: str, scope: str) -> str:
        digest = hashlib.sha256("\n".join(request).encode()).hexdigest()
        text = "\n".join(["AWS4-HMAC-SHA256", date, scope, digest])
        return hmac_of(signing_key(self.access.keys.secret_key, scope), text).hex()


def is_known_header(parameter: str) -> bool:
    """Return whether it is known which header a parameter is."""
    return parameter in _HEADER_OF or parameter == "Metadata"


def _lines(headers: Mapping[str, str]) -> tuple[str, str]:
    """Headers as they are signed, each in a line, and their names."""
    names = sorted(headers)
    return "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names), ";".join(names)
