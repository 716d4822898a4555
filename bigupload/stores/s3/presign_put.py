"""Presign PutObject exactly as botocore does, fifty times as fast: the same idea as `presign`, for whole objects.

The objects of one job differ in key, length, checksum and date. botocore signs the first of each kind and says which
headers it covers; this module signs the same object for the same second. If the two URLs are equal, this module signs
the rest of the kind; otherwise botocore signs all of them.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from bigupload.records import dataclass
from bigupload.stores.s3.presign import PARAMETER_OF, SigningKeys, UrlPattern, hmac_of, signing_key

_MOST_KINDS = 256
_NOT_SENT = ("host", "content-length")
"""Signed headers that HTTP itself sends."""


@dataclass(frozen=True, slots=True)
class ObjectPut:
    """What a PutObject's URL is signed for."""

    key: str
    size: int
    """Bytes of the body."""
    headers: Mapping[str, str]
    """The headers that prove its content, by their names in lower case."""
    common: Mapping[str, Any]
    """The other parameters of PutObject, by botocore's names. Many objects share one mapping."""
    kind: object
    """Equal for all objects whose `common` is equal; hashable."""

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters of PutObject but the bucket, by botocore's names."""
        own = {PARAMETER_OF[name]: value for name, value in self.headers.items()}
        return {**self.common, **own, "Key": self.key, "ContentLength": self.size}


class PutSigner:
    """Sign the URLs of PutObject for one client. Thread-safe: two threads at once compute the same."""

    def __init__(
        self,
        presign: Callable[[ObjectPut], str],
        headers_of: Callable[[ObjectPut], Mapping[str, str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Make a signer.

        Args:
            presign: botocore's presigning of an object.
            headers_of: The headers that botocore makes of an object's parameters.
            clock: The time, in seconds since the epoch.
        """
        self._presign = presign
        self._headers_of = headers_of
        self._clock = clock
        self._patterns: dict[object, _PutPattern | None] = {}

    def sign(self, put: ObjectPut, credentials: SigningKeys | None) -> tuple[str, dict[str, str]]:
        """Return the URL and all headers to send. If there are no credentials, botocore raises the error."""
        kind = _kind(put)
        pattern = self._patterns.get(kind)
        if pattern is not None and credentials is not None and pattern.of_session == bool(credentials.token):
            return pattern.sign(put, credentials, int(self._clock()))
        url, headers = self._presign(put), _lower(self._headers_of(put))
        if credentials is not None:
            if len(self._patterns) >= _MOST_KINDS:
                self._patterns.clear()
            self._patterns[kind] = _PutPattern.of(url, headers, put, credentials)
        return url, {name: value for name, value in headers.items() if name not in _NOT_SENT}

    def knows(self, put: ObjectPut) -> bool:
        """Return whether `sign` will probably not need botocore."""
        return self._patterns.get(_kind(put)) is not None


def _kind(put: ObjectPut) -> tuple[object, ...]:
    return (put.kind, *put.headers)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class _PutPattern:
    """The common content of the requests of one kind."""

    def __init__(self, url: str, headers: Mapping[str, str], put: ObjectPut) -> None:
        self._pattern = UrlPattern(url)
        quoted = _quoted_key(put.key)
        if not self._pattern.base.endswith(quoted):
            raise ValueError("botocore writes the key in another way")
        self._base = self._pattern.base.removesuffix(quoted)
        self._path = self._pattern.path.removesuffix(quoted)
        signed = self._pattern.signed
        if set(headers) - set(signed) - set(_NOT_SENT):
            raise ValueError("botocore leaves a header out of the signature")
        common = {name: value for name, value in headers.items() if name not in (*put.headers, *_NOT_SENT)}
        self._sent = common
        own = (*put.headers, "content-length")
        values = {**{name: " ".join(value.split()) for name, value in common.items()}, "host": self._pattern.host}
        self._lines = "".join(
            f"{name}:{{{own.index(name)}}}\n" if name in own else f"{name}:{_escaped(values[name])}\n"
            for name in signed
        )
        self._names = ";".join(signed)
        self._second = -1
        self._prepared: tuple[Any, ...] = ()

    @property
    def of_session(self) -> bool:
        """Whether the credentials have a session token, which the URLs contain."""
        return self._pattern.of_session

    @classmethod
    def of(cls, url: str, headers: Mapping[str, str], put: ObjectPut, credentials: SigningKeys) -> _PutPattern | None:
        """Return None if this module would sign another URL than `url`."""
        try:
            pattern = cls(url, headers, put)
            made = pattern._sign(put, pattern._of_date(pattern._pattern.date, credentials))
        except (KeyError, ValueError, IndexError):  # not signed with SigV4, or by other rules
            return None
        return pattern if made == url else None

    def sign(self, put: ObjectPut, credentials: SigningKeys, second: int) -> tuple[str, dict[str, str]]:
        keys = (credentials.access_key, credentials.secret_key, credentials.token)
        prepared = self._prepared
        if not prepared or prepared[0] != second or prepared[1] != keys:
            date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
            prepared = self._prepared = (second, keys, self._of_date(date, credentials))
        return self._sign(put, prepared[2]), {**self._sent, **put.headers}

    def _of_date(self, date: str, credentials: SigningKeys) -> tuple[str, str, str, bytes]:
        """What all URLs of one second share: query, canonical query, the text to sign up to its digest, and the key."""
        query = self._pattern.query(credentials, date)
        scope = self._pattern.scope(date)
        head = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n"
        return "&".join(query), "&".join(sorted(query)), head, signing_key(credentials.secret_key, scope)

    def _sign(self, put: ObjectPut, prepared: tuple[str, str, str, bytes]) -> str:
        query, canonical, head, key = prepared
        quoted = _quoted_key(put.key)
        lines = self._lines.format(*put.headers.values(), put.size)
        request = f"PUT\n{self._path}{quoted}\n{canonical}\n{lines}\n{self._names}\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(request.encode()).hexdigest()
        return f"{self._base}{quoted}?{query}&X-Amz-Signature={hmac_of(key, head + digest).hex()}"


def _escaped(value: str) -> str:
    return value.replace("{", "{{").replace("}", "}}")


@functools.lru_cache(maxsize=128)
def _quoted_key(key: str) -> str:
    return quote(key, safe="/~")
