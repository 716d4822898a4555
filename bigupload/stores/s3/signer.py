"""Signs requests to one bucket with AWS Signature Version 4: in the header, and as presigned URLs.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
`tests/stores/s3/test_signer.py` compares with botocore's signatures.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, quote, urlsplit

from bigupload.errors import CredentialsError
from bigupload.http.origins import origin_of, split_url

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNRESERVED = "-_.~"


class SigningKeys(Protocol):
    """The credentials that signing needs: botocore's ReadOnlyCredentials has these attributes."""

    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...
    @property
    def token(self) -> str | None: ...


class _Moment(NamedTuple):
    """The shared parts of all signatures of one second by the same keys."""

    date: str
    scope: str
    key: bytes
    query: str
    """The query of a presigned URL up to the names of the signed headers, in canonical order."""


class S3Signer:
    """Signs for one bucket. Thread-safe: two threads at once compute the same."""

    def __init__(
        self,
        base: str,
        region: str,
        *,
        lifetime: int,
        service: str = "s3",
        token: str = "X-Amz-Security-Token",  # noqa: S107 - a name
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Sign nothing yet.

        Args:
            base: The bucket's URL, to which a slash and a key are appended.
            region: The region that signatures are for.
            lifetime: Seconds that presigned URLs are valid.
            service: The service that signatures are for.
            token: The name of a session token, in a query and as a header.
            clock: The time, in seconds since the epoch.
        """
        self.base = base
        self._origin, self._path = split_url(f"{base}/")
        self._path = self._path.removesuffix("/")
        self._host = origin_of(base).header
        self.region = region
        self._lifetime = lifetime
        self._service = service
        self._token = token
        self._clock = clock
        self._moment: tuple[tuple[int, str, str, str | None], _Moment] | None = None

    def lasting(self, lifetime: int) -> S3Signer:
        """Return a signer whose presigned URLs are valid for `lifetime` seconds."""
        other = copy.copy(self)
        other._lifetime, other._moment = lifetime, None
        return other

    def presign(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], keys: SigningKeys | None
    ) -> str:
        """Return a presigned URL.

        Args:
            method: The request's method.
            key: The object's key.
            query: The request's own pairs, whose names are in lower case or begin so.
            headers: The headers that the signature covers, by names in lower case. Host is added.
            keys: The credentials; None: the URL is not signed.
        """
        path = self._path_of(key)
        own = "&".join(f"{name}={quote(query[name], safe=_UNRESERVED)}" for name in sorted(query)) if query else ""
        if keys is None:
            return f"{self._origin}{path}?{own}" if own else f"{self._origin}{path}"
        moment = self._at(keys)
        lines, names = _canonical({**headers, "host": self._host})
        whole = f"{moment.query}{names.replace(';', '%3B')}" + (f"&{own}" if own else "")
        request = f"{method}\n{path}\n{whole}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
        return f"{self._origin}{path}?{whole}&X-Amz-Signature={_signature(moment, request)}"

    def authorize(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
        keys: SigningKeys | None,
    ) -> tuple[str, dict[str, str]]:
        """Sign a request that this process sends.

        The arguments are those of `presign`. With an empty key, the request is for the bucket.

        Returns:
            The URL, and all headers to send but Host.
        """
        path = self._path_of(key) if key else self._path or "/"
        pairs = "&".join(f"{name}={quote(query[name], safe=_UNRESERVED)}" for name in sorted(query))
        url = f"{self._origin}{path}?{pairs}" if pairs else f"{self._origin}{path}"
        if keys is None:
            return url, dict(headers)
        moment, digest = self._at(keys), hashlib.sha256(body).hexdigest()
        sent = {**headers, "x-amz-content-sha256": digest, "x-amz-date": moment.date}
        if keys.token:
            sent[self._token.lower()] = keys.token
        lines, names = _canonical({**sent, "host": self._host})
        signature = _signature(moment, f"{method}\n{path}\n{pairs}\n{lines}\n{names}\n{digest}")
        credential = f"Credential={keys.access_key}/{moment.scope}"
        sent["authorization"] = f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}"
        return url, sent

    def url(self, key: str) -> str:
        """Return an object's URL without a signature."""
        return f"{self._origin}{self._path_of(key)}"

    def _path_of(self, key: str) -> str:
        return f"{self._path}/{quote(key, safe='/~')}"

    def _at(self, keys: SigningKeys) -> _Moment:
        """Return the shared parts of this second's signatures, computed once: a job signs thousands a second."""
        of = (int(self._clock()), keys.access_key, keys.secret_key, keys.token)
        known = self._moment
        if known is None or known[0] != of:
            _check(keys)
            date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(of[0]))
            scope = f"{date[:8]}/{self.region}/{self._service}/aws4_request"
            pairs = {
                "X-Amz-Algorithm": _ALGORITHM,
                "X-Amz-Credential": f"{keys.access_key}/{scope}",
                "X-Amz-Date": date,
                "X-Amz-Expires": str(self._lifetime),
                **({self._token: keys.token} if keys.token else {}),
                "X-Amz-SignedHeaders": "",
            }
            query = "&".join(f"{name}={quote(value, safe=_UNRESERVED)}" for name, value in pairs.items())
            known = self._moment = of, _Moment(date, scope, _signing_key(keys.secret_key, scope), query)
        return known[1]


def validity(url: str) -> tuple[float, float] | None:
    """Return from when until when a presigned URL is valid, in seconds since the epoch; None: it is not signed."""
    given = parse_qs(urlsplit(url).query)
    try:
        signed = datetime.strptime(given["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        return signed, signed + int(given["X-Amz-Expires"][0])
    except (KeyError, ValueError):
        return None


def _check(keys: SigningKeys) -> None:
    """Raises CredentialsError for what no store gives out, as the end of the line in a file that a shell has read."""
    named = {"access key": keys.access_key, "secret key": keys.secret_key, "session token": keys.token or ""}
    for name, value in named.items():
        if not value.isprintable():
            raise CredentialsError(f"the {name} holds a control character, such as a line break: leave it out")
        if value != value.strip():
            raise CredentialsError(f"the {name} begins or ends with a space: leave it out")


def _canonical(headers: Mapping[str, Any]) -> tuple[str, str]:
    """Headers as they are signed, each in a line, and their names."""
    names = sorted(headers)
    return "".join([f"{name}:{' '.join(headers[name].split())}\n" for name in names]), ";".join(names)


def _signature(moment: _Moment, request: str) -> str:
    digest = hashlib.sha256(request.encode()).hexdigest()
    return _hmac(moment.key, f"{_ALGORITHM}\n{moment.date}\n{moment.scope}\n{digest}").hex()


@functools.lru_cache(maxsize=8)
def _signing_key(secret: str, scope: str) -> bytes:
    """The signing key of a date. It is derived once a day."""
    return functools.reduce(_hmac, scope.split("/"), f"AWS4{secret}".encode())


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
