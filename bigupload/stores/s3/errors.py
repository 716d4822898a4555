"""botocore's exceptions as `Fault`s and public errors. Imports botocore only once one of its exceptions is there."""

from __future__ import annotations

import re
import ssl
from typing import Any
from urllib.parse import urlsplit

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind, classify
from bigupload.http.http_errors import (
    OUT_OF_DESCRIPTORS,
    PROXY_AUTH_REQUIRED,
    fault_of_proxy,
    out_of_descriptors,
    retry_after,
    skew_message,
    tls_connection_lost,
)
from bigupload.units import one_line

_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d{3})")
"""http.client says a proxy's refusal of CONNECT in these words alone."""


def refuse_region_redirect(request: Any, **_: Any) -> None:
    """A handler of `request-created`: botocore would follow the bucket to its region by itself."""
    if request.context.get("s3_redirect", {}).get("redirected"):
        region = request.context.get("signing", {}).get("region")
        if region == request.context.get("client_region"):  # a HEAD's 400, of which botocore takes that for the reason
            return
        raise wrong_region(region)


def wrong_region(region: str | None) -> errors.WrongRegion:
    """The error that names the bucket's region."""
    where = f"in region {region}: use --region {region}" if region else "in another region: name it with --region"
    error = errors.WrongRegion(f"the bucket is {where}")
    error.region = region
    return error


def fault_of_botocore(e: Exception, what: str, bucket: str) -> Exception:
    """What a failed call means: a Fault, or a public error. Nothing of botocore's text but an S3 code and message."""
    import botocore.exceptions as b
    from botocore.parsers import ResponseParserError

    if isinstance(e, errors.BigUploadError | Fault):
        return e
    if isinstance(e, b.ClientError):
        return _refusal(e, what, bucket)
    if isinstance(e, b.ProfileNotFound | b.ParamValidationError | b.InvalidRegionError | b.ConfigParseError):
        return errors.UsageError(one_line(str(e)))
    if isinstance(e, ValueError) and "endpoint" in str(e).lower():
        return errors.UsageError("not an endpoint: write it like https://s3.example.com:9000")
    if isinstance(e, b.NoCredentialsError | b.PartialCredentialsError):
        return errors.CredentialsError(
            "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a --profile "
            "(or --no-sign-request, for a store that wants none)"
        )
    if isinstance(
        e,
        b.CredentialRetrievalError
        | b.SSOError
        | b.TokenRetrievalError
        | b.MetadataRetrievalError
        | b.InvalidConfigError,
    ):
        return errors.CredentialsError(f"the AWS credentials can't be used: {one_line(str(e))}")
    if out_of_descriptors(e):
        return Fault(FaultKind.BROKEN, OUT_OF_DESCRIPTORS)
    if isinstance(e, b.SSLError) and tls_connection_lost(e):  # the store may have acted
        return Fault(FaultKind.BROKEN, f"the store's answer was lost ({type(e).__name__})")
    if isinstance(e, b.SSLError):
        return errors.StoreRefused(f"no trusted TLS connection to {_host(e)}: see --ca-bundle")
    if isinstance(e, b.ProxyConnectionError):
        return _proxy_fault(e)
    if isinstance(e, b.EndpointConnectionError | b.ConnectTimeoutError):
        return Fault(FaultKind.UNREACHABLE, f"{_host(e)} does not answer: check the endpoint and the network")
    if isinstance(e, ResponseParserError):  # no BotoCoreError: a page that is none of the store's, or half of one
        return Fault(FaultKind.BROKEN, f"what answered {what} was not the store")
    if isinstance(e, b.HTTPClientError):  # closed, reset, timed out: the store may have acted
        return Fault(FaultKind.BROKEN, f"the store's answer was lost ({type(e).__name__})")
    if isinstance(e, b.BotoCoreError):
        return errors.StoreRefused(f"the call {what} failed: {one_line(str(e))}")
    if isinstance(e, OSError | ssl.SSLError):
        return errors.UsageError(f"the AWS configuration can't be used: {e.strerror or type(e).__name__}")
    if isinstance(e, ResponseParserError | ValueError | LookupError | TypeError | AttributeError | RecursionError):
        # What botocore's parsers raise is whatever they stumble over. The store may have acted.
        return Fault(FaultKind.SERVER, f"the store's answer {what} can't be read ({type(e).__name__})")
    return e


def _host(e: Any, name: str = "endpoint_url") -> str:
    """The "host:port" of a URL that one of botocore's exceptions keeps. The rest of the URL may be secret."""
    try:
        url = urlsplit(e.kwargs[name] if "://" in e.kwargs[name] else f"//{e.kwargs[name]}")
        return f"{url.hostname or 'the store'}{f':{url.port}' if url.port else ''}"
    except (AttributeError, KeyError, TypeError, ValueError):
        return "the store"


def _proxy_fault(e: Any) -> Fault:
    refused = _TUNNEL_REFUSED.search(str(e.kwargs.get("error")))
    if refused is not None:
        return fault_of_proxy(int(refused[1]), "the store")
    return Fault(FaultKind.UNREACHABLE, f"can't connect to the proxy {_host(e, 'proxy_url')}: check http(s)_proxy")


def _refusal(e: Any, what: str, bucket: str) -> Exception:
    error = e.response.get("Error", {})
    metadata = e.response.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    code = str(error.get("Code", ""))
    text = one_line(str(error.get("Message", "")))
    if code == str(status):  # botocore's words for a response without a body: "404", "Not Found"
        code = ""
    if code in ("NoSuchBucket", "InvalidBucketName"):
        return errors.BucketNotFound(f"there is no bucket {bucket!r} at this store: create it, or check the name")
    region = error.get("Region") or headers.get("x-amz-bucket-region")
    if status == 301 or code in (
        "PermanentRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    ):
        return wrong_region(region)
    if status == PROXY_AUTH_REQUIRED:
        return fault_of_proxy(status, "the store")
    kind = classify(status, code)
    message = f"the store refused {what}: {status} {code}".rstrip()
    if text:
        message += f" ({text})"
    if kind is FaultKind.SKEWED:
        message = skew_message(headers.get("date"))
    refused = errors.CredentialsError if code in ("InvalidAccessKeyId", "ExpiredToken", "InvalidToken") else None
    return Fault(
        kind,
        message,
        status=status,
        code=code,
        retry_after=retry_after(headers.get("retry-after")),
        error=refused,
    )
