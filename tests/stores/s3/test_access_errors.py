"""Exceptions of boto3 translated: what a person is told, and what of botocore's texts must not be passed on."""

from __future__ import annotations

import errno
import json

import botocore.exceptions as b
import botocore.parsers
import pytest

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.errors import BigUploadError, CredentialsError, UsageError
from bigupload.stores.s3.access import error_of_aws, no_answer
from tests.tools.cases import each_case

WHERE = "sts.example:9000"
URL = "https://sts.example:9000/?Action=AssumeRole&WebIdentityToken=hidden"
DENIED = {"Error": {"Code": "AccessDenied", "Message": "not\nyou"}, "ResponseMetadata": {"HTTPStatusCode": 403}}


@each_case(
    ("exception", "says"),
    [
        (b.EndpointConnectionError(endpoint_url=URL), f"{WHERE} does not respond"),
        (b.ConnectTimeoutError(endpoint_url="http://[::1]:1/k"), r"\[::1\]:1 does not respond"),
        (b.ReadTimeoutError(endpoint_url=URL), r"does not respond \(ReadTimeoutError\)"),
        (b.ConnectionClosedError(endpoint_url=URL), "does not respond"),
        (b.ProxyConnectionError(proxy_url="http://a:hidden@proxy:3128"), "proxy:3128"),
        (b.SSLError(endpoint_url=URL, error="hidden"), r"does not respond \(SSLError\)"),
        (b.EndpointConnectionError(endpoint_url="http://[::1"), "their service does not respond"),
        (botocore.parsers.ResponseParserError("hidden:\nb'<html>'"), "a proxy may have sent it"),
    ],
)
def test_a_service_that_cannot_be_reached_may_be_later(exception: Exception, says: str) -> None:
    fault, kind = error_of_aws(exception), FaultKind.BROKEN if "proxy may" in says else FaultKind.UNREACHABLE
    assert isinstance(fault, Fault)
    assert (fault.kind, type(fault.public())) == (kind, CredentialsError)
    with pytest.raises(CredentialsError, match=f"^the AWS credentials can't be fetched: .*{says}"):
        raise fault.public()
    assert ("hidden" in str(fault), "\n" in str(fault)) == (False, False)


@each_case(
    ("exception", "error", "says"),
    [
        (b.ProfileNotFound(profile="my\nown"), UsageError, "there is no profile my own in .* or the credentials file"),
        (b.ConfigParseError(path="/a\nb"), UsageError, "Unable to parse config file: /a b"),
        (b.InvalidRegionError(region_name="a_b"), UsageError, "a_b"),
        (b.ParamValidationError(report="no bucket's name"), UsageError, "no bucket's name"),
        (b.UnknownEndpointError(service_name="s3", region_name="r"), UsageError, "s3"),
        (PermissionError(errno.EACCES, "Permission denied", "/a\nb"), UsageError, r"Permission denied \(/a b\)"),
        (b.PartialCredentialsError(provider="env", cred_var="SECRET"), CredentialsError, "incomplete .*SECRET"),
        (b.NoCredentialsError(), CredentialsError, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a"),
        (b.ClientError(DENIED, "AssumeRole"), CredentialsError, r"AssumeRole was refused: AccessDenied \(not you\)"),
        (b.CredentialRetrievalError(provider="p", error_msg="a\nb"), CredentialsError, "^no AWS cr.*: p failed: a b$"),
        (b.CredentialRetrievalError(provider="custom-process", error_msg="\n"), CredentialsError,
         "the credential_process of the profile failed: it gives no reason$"),
        (b.SSOTokenLoadError(error_msg="log in"), CredentialsError, "can't be used: .*log in"),
        (b.NoRegionError(), CredentialsError, "can't be used: You must specify a region"),
        (EOFError("hidden"), CredentialsError, "asks for an MFA code, and there is no terminal to type it into$"),
        (KeyError("hidden"), CredentialsError, r"what their source gave can't be read \(KeyError\)"),
        (json.JSONDecodeError("hidden", "hidden", 0), CredentialsError, r"can't be read \(JSONDecodeError\)"),
        (RuntimeError("hidden"), CredentialsError, "have expired, also those that their source gave just now$"),
        (RecursionError("hidden"), CredentialsError, r"can't be read \(RecursionError\)"),
    ],
)  # fmt: skip
def test_what_no_retry_mends(exception: Exception, error: type[BigUploadError], says: str) -> None:
    found = error_of_aws(exception)
    assert type(found) is error
    with pytest.raises(error, match=says):
        raise found
    assert ("hidden" in str(found), "\n" in str(found)) == (False, False)


def test_a_process_without_descriptors_says_so() -> None:
    """The import of botocore needs some, too."""
    fault = error_of_aws(ImportError(OSError(errno.EMFILE, "Too many open files")))
    assert isinstance(fault, Fault)
    assert (fault.kind, "too many files" in str(fault)) == (FaultKind.BROKEN, True)


def test_other_exceptions_stay_what_they_are() -> None:
    for exception in (UsageError("a"), Fault(FaultKind.BUSY, "a"), ImportError("no boto3"), AssertionError("a")):
        assert error_of_aws(exception) is exception


def test_a_source_that_hangs_is_named() -> None:
    assert "within 120 s: check the credential_process" in str(no_answer(120, None))
