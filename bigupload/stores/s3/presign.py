"""Presign part URLs exactly as botocore does, ten times as fast.

botocore resolves the endpoint, the addressing and the region again for every URL. The parts of one upload differ only
in number, length, checksum and date. So botocore signs the first URL, and this module signs the same part for the same
second. If the two URLs are equal, this module signs the rest; otherwise botocore signs all of them. So an error in this
module's reading of https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html does no harm.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from bigupload.core.checksums import UPLOAD_ALGORITHMS
from bigupload.s3_parameters import REQUEST_HEADERS

PARAMETER_OF = {
    "content-length": "ContentLength",
    "content-md5": "ContentMD5",
    **{algorithm.header: f"Checksum{algorithm.s3_name}" for algorithm in UPLOAD_ALGORITHMS if algorithm.is_s3_checksum},
}
"""For each header of one part: the parameter of UploadPart that is its value."""
_SIGNED = {**PARAMETER_OF, **REQUEST_HEADERS}
"""The same for all signed headers."""
_OF_ONE_PART = {"PartNumber", *PARAMETER_OF.values()}
_MOST_UPLOADS = 256


class SigningKeys(Protocol):
    """The credentials that signing needs: botocore's ReadOnlyCredentials."""

    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...
    @property
    def token(self) -> str | None: ...


class PartSigner:
    """Sign part URLs for one client. Thread-safe: two threads at once compute the same."""

    def __init__(self, presign: Callable[[Mapping[str, Any]], str], clock: Callable[[], float] = time.time) -> None:
        """Make a signer.

        Args:
            presign: botocore's presigning of UploadPart with the given parameters.
            clock: The time, in seconds since the epoch.
        """
        self._presign = presign
        self._clock = clock
        self._patterns: dict[tuple[Any, ...], _Pattern | None] = {}

    def sign(self, parameters: Mapping[str, Any], credentials: SigningKeys | None) -> str:
        """Return the URL for one part. If there are no credentials, botocore raises the error."""
        if credentials is None:
            return self._presign(parameters)
        kind = _kind(parameters)
        pattern = self._patterns.get(kind)
        if pattern is not None and pattern.of_session == bool(credentials.token):
            date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
            return pattern.url(parameters, credentials, date)
        url = self._presign(parameters)
        if len(self._patterns) >= _MOST_UPLOADS:
            self._patterns.clear()
        self._patterns[kind] = _Pattern.of(url, parameters, credentials)
        return url

    def knows(self, parameters: Mapping[str, Any]) -> bool:
        """Return whether `sign` will probably not need botocore."""
        return self._patterns.get(_kind(parameters)) is not None


def _kind(parameters: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a key that is equal for all parts whose URLs differ only in the parameters of one part."""
    return (
        tuple(sorted((name, value) for name, value in parameters.items() if name not in _OF_ONE_PART)),
        *sorted(parameters),
    )


class UrlPattern:
    """What a URL presigned with SigV4 says: its parts, from which other URLs of its kind are made.

    Raises:
        KeyError: It is not signed with SigV4.
        ValueError: As KeyError.
    """

    def __init__(self, url: str) -> None:
        self.base, _, query = url.partition("?")
        where = urlsplit(self.base)
        self.path, self.host = where.path, where.netloc
        self._pairs = [pair.partition("=")[::2] for pair in query.split("&")]
        told = dict(self._pairs)
        self.date = told["X-Amz-Date"]
        self._scope = "/".join(told["X-Amz-Credential"].replace("%2F", "/").rsplit("/", 3)[1:])  # after the date
        self.signed = told["X-Amz-SignedHeaders"].replace("%3B", ";").split(";")
        self.of_session = "X-Amz-Security-Token" in told
        """Whether the credentials have a session token, which the URLs contain."""

    def scope(self, date: str) -> str:
        """The scope of a signature made at `date`."""
        return f"{date[:8]}/{self._scope}"

    def query(self, credentials: SigningKeys, date: str, **own: str) -> list[str]:
        """The query's pairs for a date, without the signature. `own`: values that differ from this URL's."""
        values = {
            "X-Amz-Credential": _quoted(f"{credentials.access_key}/{self.scope(date)}"),
            "X-Amz-Date": date,
            "X-Amz-Security-Token": _quoted(credentials.token or ""),
            **own,
        }
        return [f"{name}={values.get(name, value)}" for name, value in self._pairs if name != "X-Amz-Signature"]


class _Pattern:
    """The common content of the URLs of one upload's parts."""

    def __init__(self, url: str) -> None:
        self._pattern = UrlPattern(url)
        self.date = self._pattern.date
        self.of_session = self._pattern.of_session

    @classmethod
    def of(cls, url: str, parameters: Mapping[str, Any], credentials: SigningKeys) -> _Pattern | None:
        """Return None if this module would sign another URL than `url`."""
        try:
            pattern = cls(url)
            return pattern if pattern.url(parameters, credentials, pattern.date) == url else None
        except (KeyError, ValueError):  # not signed with SigV4
            return None

    def url(self, parameters: Mapping[str, Any], credentials: SigningKeys, date: str) -> str:
        pattern = self._pattern
        scope = pattern.scope(date)
        query = pattern.query(credentials, date, partNumber=str(parameters["PartNumber"]))
        headers = [
            f"{name}:{pattern.host if name == 'host' else parameters[_SIGNED[name]]}\n" for name in pattern.signed
        ]
        request = "\n".join(
            [
                "PUT",
                pattern.path,
                "&".join(sorted(query)),
                "".join(headers),
                ";".join(pattern.signed),
                "UNSIGNED-PAYLOAD",
            ]
        )
        digest = hashlib.sha256(request.encode()).hexdigest()
        key = signing_key(credentials.secret_key, scope)
        signature = hmac_of(key, "\n".join(["AWS4-HMAC-SHA256", date, scope, digest])).hex()
        return f"{pattern.base}?{'&'.join(query)}&X-Amz-Signature={signature}"


@functools.lru_cache(maxsize=8)
def _quoted(text: str) -> str:
    return quote(text, safe="")


@functools.lru_cache(maxsize=8)
def signing_key(secret: str, scope: str) -> bytes:
    """Return the signing key of a date. It is derived once a day."""
    return functools.reduce(hmac_of, scope.split("/"), f"AWS4{secret}".encode())


def hmac_of(key: bytes, text: str) -> bytes:
    """Return the HMAC that SigV4 uses, of a text."""
    return hmac.digest(key, text.encode(), "sha256")
