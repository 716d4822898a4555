"""Translate botocore's exceptions into `Fault`s and public errors, once, at this edge.

Of botocore's own texts only an S3 code, an S3 message and a host are passed on: they can hold URLs with signatures.
botocore is imported only when there is an exception to translate.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind, classify
from bigupload.http.http_errors import (
    PROXY_AUTH_REQUIRED,
    fault_of_proxy,
    out_of_descriptors,
    retry_after,
    skew_message,
    tls_connection_lost,
    why_unreachable,
)
from bigupload.stores.s3.access_points import NAME_RULES, is_valid_name
from bigupload.support.descriptors import OUT_OF_DESCRIPTORS
from bigupload.units import one_line

WRONG_REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d{3})")
"""The only words in which http.client tells that a proxy refused CONNECT."""

_NO_TLS = re.compile("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE")
"""What OpenSSL calls a response that is no TLS."""


def refuse_region_redirect(request: Any, **_: Any) -> None:
    """Handle botocore's `request-created` event: it would send the request to the bucket's region by itself.

    Raises:
        WrongRegion: botocore redirected the request.
    """
    if request.context.get("s3_redirect", {}).get("redirected"):
        region = request.context.get("signing", {}).get("region")
        if region == request.context.get("client_region"):  # botocore takes any 400 of a HEAD for a wrong region
            return
        raise wrong_region(region)


def wrong_region(region: str | None) -> errors.WrongRegion:
    """Make the error that names the bucket's region; None: the store does not say which one it is."""
    where = f"in region {region}: use `region='{region}'`" if region else "in another region: name it as `region`"
    error = errors.WrongRegion(f"the bucket is {where}")
    error.region = region
    return error


def no_bucket(bucket: str) -> errors.BucketNotFound:
    """Make the error for a bucket that is not there."""
    advice = "create it, or check the name" if is_valid_name(bucket) else f"its name is invalid (S3: {NAME_RULES})"
    return errors.BucketNotFound(f"there is no bucket {bucket!r} at this store: {advice}")


def fault_of_botocore(e: Exception, what: str, bucket: str) -> Exception:
    """Translate the exception of a failed call.

    Args:
        e: The exception.
        what: What was requested, for people: "to list the parts".
        bucket: The bucket's name.

    Returns:
        A Fault, if a retry may help; else a public error. An exception of another kind is returned as it is.
    """
    if isinstance(e, errors.BigUploadError | Fault):
        return e
    if out_of_descriptors(e):  # the first import of botocore needs descriptors, too
        return Fault(FaultKind.BROKEN, OUT_OF_DESCRIPTORS)
    import botocore.exceptions as b

    if isinstance(e, b.ClientError):
        return refusal(e.response, what, bucket)
    if isinstance(e, b.ProfileNotFound):
        files = (os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"), "the credentials file")
        name = one_line(str(e.kwargs.get("profile")))
        return errors.UsageError(
            f"there is no profile {name} in {' or '.join(files)}: name another `profile`, or add it"
        )
    if isinstance(e, b.ParamValidationError | b.InvalidRegionError | b.ConfigParseError):
        return errors.UsageError(one_line(str(e)))
    if isinstance(e, ValueError) and "endpoint" in str(e).lower():
        return errors.UsageError("not an endpoint: write it like https://s3.example.com:9000")
    return _of_credentials(e) or _of_connection(e) or _of_response(e, what)


def _of_credentials(e: Exception) -> Exception | None:
    import botocore.exceptions as b

    if isinstance(e, b.NoCredentialsError | b.PartialCredentialsError):
        return errors.CredentialsError(
            "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a `profile` "
            "(or `no_sign_request=True`, for a store that wants none)"
        )
    unusable = (
        b.CredentialRetrievalError,
        b.SSOError,
        b.TokenRetrievalError,
        b.MetadataRetrievalError,
        b.InvalidConfigError,
    )
    if isinstance(e, unusable):
        return errors.CredentialsError(f"the AWS credentials can't be used: {one_line(str(e))}")
    return None


def _of_connection(e: Exception) -> Exception | None:
    import botocore.exceptions as b

    where = _host(e, "endpoint_url")
    if isinstance(e, b.SSLError) and tls_connection_lost(e):  # the store may have performed the request
        return Fault(FaultKind.BROKEN, f"the TLS connection to {where} broke before the store's response")
    if isinstance(e, b.SSLError) and _NO_TLS.search(str(e)):
        return errors.StoreRefused(f"{where} speaks no TLS: name it by http:// in `endpoint_url`")
    if isinstance(e, b.SSLError):
        return errors.StoreRefused(f"the certificate of {where} is not trusted: name its issuer's as `ca_bundle`")
    if isinstance(e, b.ProxyConnectionError):
        return _of_proxy(e)
    if isinstance(e, b.EndpointConnectionError | b.ConnectTimeoutError):
        return Fault(FaultKind.UNREACHABLE, why_unreachable(e, where))
    return None


def _of_proxy(e: Any) -> Fault:
    refused = _TUNNEL_REFUSED.search(str(e.kwargs.get("error")))
    if refused is not None:
        return fault_of_proxy(int(refused[1]), "the store")
    return Fault(FaultKind.UNREACHABLE, f"can't connect to the proxy {_host(e, 'proxy_url')}: check http(s)_proxy")


def _of_response(e: Exception, what: str) -> Exception:
    import botocore.exceptions as b
    from botocore.parsers import ResponseParserError

    if isinstance(e, ResponseParserError):  # no BotoCoreError: the page of a proxy, or half a response
        return Fault(FaultKind.BROKEN, f"the response to the request {what} is not S3's: a proxy may have sent it")
    if isinstance(e, b.HTTPClientError):  # closed, reset, timed out: the store may have performed the request
        return Fault(FaultKind.BROKEN, f"the store's response was lost ({type(e).__name__})")
    if isinstance(e, b.BotoCoreError):
        return errors.StoreRefused(f"the call {what} failed: {one_line(str(e))}")
    if isinstance(e, OSError | ssl.SSLError):
        return errors.UsageError(f"the AWS configuration can't be used: {e.strerror or type(e).__name__}")
    if isinstance(e, ValueError | LookupError | TypeError | AttributeError | RuntimeError | ArithmeticError):
        # botocore's parsers raise these for a malformed response. The store may have performed the request.
        return Fault(FaultKind.SERVER, f"the store's response to the request {what} can't be read ({type(e).__name__})")
    return e


def _host(e: Any, name: str) -> str:
    """Return the "host:port" of a URL that one of botocore's exceptions keeps. The rest of the URL may be secret."""
    try:
        text = e.kwargs[name]
        url = urlsplit(text if "://" in text else f"//{text}")
        host = f"[{url.hostname}]" if url.hostname and ":" in url.hostname else url.hostname
        return f"{host or 'the store'}{f':{url.port}' if url.port else ''}"
    except (AttributeError, KeyError, TypeError, ValueError):
        return "the store"


def refusal(response: Mapping[str, Any], what: str, bucket: str) -> Exception:
    """Translate a response that refuses a request.

    Args:
        response: The `response` of botocore's ClientError.
        what: What was requested, for people.
        bucket: The bucket's name.

    Returns:
        A Fault, or a public error.
    """
    error = response.get("Error", {})
    metadata = response.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    code = str(error.get("Code", ""))
    text = one_line(str(error.get("Message", "")))
    if code == str(status):  # botocore's words for a response without a body: "404", "Not Found"
        code = ""
    if code in ("NoSuchBucket", "InvalidBucketName"):
        return no_bucket(bucket)
    if status == 301 or code in WRONG_REGION:
        return wrong_region(error.get("Region") or headers.get("x-amz-bucket-region"))
    if status == PROXY_AUTH_REQUIRED:
        return fault_of_proxy(status, "the store")
    kind = classify(status, code)
    message = f"the store refused {what}: {status} {code}".rstrip()
    if text and text != code:
        message += f" ({text})"
    if kind is FaultKind.SKEWED:
        message = skew_message(headers.get("date"))
    return Fault(
        kind,
        message,
        status=status,
        code=code,
        retry_after=retry_after(headers.get("retry-after")),
    )
