"""Verification of AWS Signature Version 4, as S3 does it.

Both ways to sign: the Authorization header, and the query of a presigned URL. The clock and the credentials are passed
in, nothing here does I/O. The body's hash is not verified here: `VerifiedSignature.payload_hash` says what was signed.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, unquote_plus

from .wire import S3Error

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
STREAMING_UNSIGNED = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
MAX_SKEW_SECONDS = 15 * 60
MAX_EXPIRES_SECONDS = 7 * 24 * 3600
_UNRESERVED = "-_.~"


@dataclass(frozen=True)
class IssuedCredentials:
    """Credentials that a caller may sign with. `expires_at` is in the verifier's clock (seconds since the epoch)."""

    access_key: str
    secret_key: str
    session_token: str | None = None
    expires_at: float | None = None


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it arrived: the target's path and query still encoded, headers in order."""

    method: str
    raw_path: str
    raw_query: str
    headers: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class VerifiedSignature:
    """A request whose signature is right."""

    access_key: str
    region: str
    payload_hash: str
    presigned: bool


@dataclass(frozen=True)
class _Claim:
    """The fields of a request's signature, as the request has them."""

    access_key: str
    date: str
    region: str
    timestamp: str
    signed_headers: tuple[str, ...]
    signature: str
    payload_hash: str
    token: str | None
    expires: int | None  # None: signed in the header


def parse_query(raw_query: str) -> list[tuple[str, str]]:
    """Decoded pairs in order; `?uploads` is `("uploads", "")`."""
    pairs = (item.partition("=") for item in raw_query.split("&") if item)
    return [(unquote_plus(name), unquote_plus(value)) for name, _, value in pairs]


def verify(
    request: ReceivedRequest,
    *,
    credentials: Callable[[str], IssuedCredentials | None],
    now: float,
) -> VerifiedSignature | None:
    """The verified identity, or None for an anonymous request. Raises `S3Error` as S3 would respond."""
    query = dict(parse_query(request.raw_query))
    headers = _fold(request.headers)
    in_query = "X-Amz-Signature" in query or "X-Amz-Algorithm" in query
    if in_query and "authorization" in headers:
        raise S3Error(
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
            "parameter or the Authorization header should be specified",
        )
    if in_query:
        claim = _from_query(query, headers)
    elif "authorization" in headers:
        claim = _from_header(headers)
    elif "Signature" in query and "AWSAccessKeyId" in query:
        raise S3Error(
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
        )
    else:
        return None

    _check_time(claim, now)
    known = credentials(claim.access_key)
    if known is None:
        raise S3Error("InvalidAccessKeyId", fields={"AWSAccessKeyId": claim.access_key})
    _check_token(claim, known, now)
    _check_signed_headers(claim, headers)
    _check_signature(request, claim, known.secret_key, headers)
    return VerifiedSignature(claim.access_key, claim.region, claim.payload_hash, presigned=claim.expires is not None)


def _fold(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Names in lower case, values trimmed and their inner space collapsed, repeated headers joined by commas."""
    folded: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        clean = re.sub(r" +", " ", value.strip())
        folded[lower] = f"{folded[lower]},{clean}" if lower in folded else clean
    return folded


def _scope(credential: str, error: str) -> tuple[str, str, str]:
    """access key, date, region"""
    pieces = credential.rsplit("/", 4)
    if len(pieces) != 5 or pieces[3:] != ["s3", "aws4_request"]:
        raise S3Error(error, f"Invalid credential scope: {'/'.join(pieces[1:])}")
    return pieces[0], pieces[1], pieces[2]


def _from_header(headers: dict[str, str]) -> _Claim:
    malformed = "AuthorizationHeaderMalformed"
    algorithm, _, rest = headers["authorization"].partition(" ")
    if algorithm != ALGORITHM:
        raise S3Error("InvalidRequest", "The authorization mechanism you have provided is not supported.")
    fields = dict(item.strip().partition("=")[::2] for item in rest.split(","))
    if not {"Credential", "SignedHeaders", "Signature"} <= fields.keys():
        raise S3Error(malformed)
    access_key, date, region = _scope(fields["Credential"], malformed)
    if "x-amz-content-sha256" not in headers:
        raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    timestamp = headers.get("x-amz-date")
    if timestamp is None:
        raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
    return _Claim(
        access_key=access_key,
        date=date,
        region=region,
        timestamp=timestamp,
        signed_headers=tuple(fields["SignedHeaders"].split(";")),
        signature=fields["Signature"],
        payload_hash=headers["x-amz-content-sha256"],
        token=headers.get("x-amz-security-token"),
        expires=None,
    )


def _from_query(query: dict[str, str], headers: dict[str, str]) -> _Claim:
    error = "AuthorizationQueryParametersError"
    needed = {"Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"}
    if any(f"X-Amz-{name}" not in query for name in needed):
        raise S3Error(
            error,
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, "
            "X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        )
    if query["X-Amz-Algorithm"] != ALGORITHM:
        raise S3Error(error, f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    access_key, date, region = _scope(query["X-Amz-Credential"], error)
    if not query["X-Amz-Expires"].isdecimal():
        raise S3Error(error, "X-Amz-Expires should be a number")
    expires = int(query["X-Amz-Expires"])
    if not 0 < expires <= MAX_EXPIRES_SECONDS:
        raise S3Error(
            error,
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires "
            "must be less than 604800 seconds",
        )
    payload = headers.get("x-amz-content-sha256") or query.get("X-Amz-Content-Sha256") or UNSIGNED_PAYLOAD
    return _Claim(
        access_key=access_key,
        date=date,
        region=region,
        timestamp=query["X-Amz-Date"],
        signed_headers=tuple(query["X-Amz-SignedHeaders"].split(";")),
        signature=query["X-Amz-Signature"],
        payload_hash=payload,
        token=query.get("X-Amz-Security-Token"),
        expires=expires,
    )


def _iso(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_time(claim: _Claim, now: float) -> None:
    try:
        signed_at = dt.datetime.strptime(claim.timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC).timestamp()
    except ValueError:
        raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header") from None
    if not claim.timestamp.startswith(claim.date):
        raise S3Error("SignatureDoesNotMatch")
    if claim.expires is None:
        if abs(now - signed_at) > MAX_SKEW_SECONDS:
            raise S3Error(
                "RequestTimeTooSkewed",
                fields={
                    "RequestTime": claim.timestamp,
                    "ServerTime": _iso(now),
                    "MaxAllowedSkewMilliseconds": MAX_SKEW_SECONDS * 1000,
                },
            )
        return
    if signed_at - now > MAX_SKEW_SECONDS:
        raise S3Error("AccessDenied", "Request is not yet valid")
    if now > signed_at + claim.expires:
        raise S3Error(
            "AccessDenied",
            "Request has expired",
            fields={
                "X-Amz-Expires": claim.expires,
                "Expires": _iso(signed_at + claim.expires),
                "ServerTime": _iso(now),
            },
        )


def _check_token(claim: _Claim, known: IssuedCredentials, now: float) -> None:
    if known.session_token is None:
        if claim.token is not None:
            raise S3Error("InvalidToken", fields={"Token-0": claim.token})
        return
    if claim.token is None:
        # A session's access key means nothing without its token.
        raise S3Error("InvalidAccessKeyId", fields={"AWSAccessKeyId": claim.access_key})
    if claim.token != known.session_token:
        raise S3Error("InvalidToken", fields={"Token-0": claim.token})
    if known.expires_at is not None and now >= known.expires_at:
        raise S3Error("ExpiredToken", fields={"Token-0": claim.token})


def _check_signed_headers(claim: _Claim, headers: dict[str, str]) -> None:
    if "host" not in claim.signed_headers:
        raise S3Error("AccessDenied", "The host header must be signed")
    unsigned = sorted(name for name in headers if name.startswith("x-amz-") and name not in claim.signed_headers)
    if unsigned:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            fields={"HeadersNotSigned": ", ".join(unsigned)},
        )


def _check_signature(request: ReceivedRequest, claim: _Claim, secret_key: str, headers: dict[str, str]) -> None:
    canonical = "\n".join(
        [
            request.method,
            quote(unquote(request.raw_path), safe="/" + _UNRESERVED),
            _canonical_query(request.raw_query),
            # A signed header that was not sent counts as empty, so the signature can't match.
            *(f"{name}:{headers.get(name, '')}" for name in claim.signed_headers),
            "",
            ";".join(claim.signed_headers),
            claim.payload_hash,
        ]
    )
    scope = f"{claim.date}/{claim.region}/s3/aws4_request"
    hashed = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    to_sign = f"{ALGORITHM}\n{claim.timestamp}\n{scope}\n{hashed}"
    key = f"AWS4{secret_key}".encode()
    for piece in (claim.date, claim.region, "s3", "aws4_request"):
        key = hmac.digest(key, piece.encode(), "sha256")
    expected = hmac.digest(key, to_sign.encode(), "sha256").hex()
    if not hmac.compare_digest(expected, claim.signature):
        raise S3Error(
            "SignatureDoesNotMatch",
            fields={
                "AWSAccessKeyId": claim.access_key,
                "StringToSign": to_sign,
                "SignatureProvided": claim.signature,
                "CanonicalRequest": canonical.encode("ascii", "backslashreplace").decode(),
            },
        )


def _canonical_query(raw_query: str) -> str:
    encoded = [
        (quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED))
        for name, value in parse_query(raw_query)
        if name != "X-Amz-Signature"
    ]
    return "&".join(f"{name}={value}" for name, value in sorted(encoded))
