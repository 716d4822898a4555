"""botocore's exceptions translated: what a person is told, and what of botocore's texts must not be passed on."""

from __future__ import annotations

import botocore.exceptions as b
import pytest

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.stores.s3.errors import fault_of_botocore

WHERE = "bucket.minio.example:9000"
URL = "https://bucket.minio.example:9000/key?uploadId=u&X-Amz-Signature=hidden"


@pytest.mark.parametrize(
    ("exception", "kind", "says"),
    [
        (
            b.EndpointConnectionError(endpoint_url=URL),
            FaultKind.UNREACHABLE,
            f"{WHERE} does not answer",
        ),
        (b.ConnectTimeoutError(endpoint_url=URL), FaultKind.UNREACHABLE, f"{WHERE} does not answer"),
        (b.ConnectTimeoutError(endpoint_url="http://[::1]:1/k"), FaultKind.UNREACHABLE, r"\[::1\]:1 does not answer"),
        (
            b.ProxyConnectionError(proxy_url="http://user:hidden@proxy.example:3128"),
            FaultKind.UNREACHABLE,
            "can't connect to the proxy proxy.example:3128",
        ),
        (b.ReadTimeoutError(endpoint_url=URL), FaultKind.BROKEN, r"response was lost \(ReadTimeoutError\)"),
        (b.ConnectionClosedError(endpoint_url=URL), FaultKind.BROKEN, "response was lost"),
        (b.EndpointConnectionError(endpoint_url="http://[::1"), FaultKind.UNREACHABLE, "the store does not answer"),
        (KeyError("hidden"), FaultKind.SERVER, "can't be read"),
        (RuntimeError("hidden"), FaultKind.SERVER, r"response to the request to list the parts can't be read \(Run"),
        (ZeroDivisionError("hidden"), FaultKind.SERVER, "can't be read"),
    ],
)
def test_what_may_be_retried(exception: Exception, kind: FaultKind, says: str) -> None:
    fault = fault_of_botocore(exception, "to list the parts", "bucket")
    assert isinstance(fault, Fault)
    assert fault.kind is kind
    with pytest.raises(Fault, match=says):
        raise fault
    assert "hidden" not in str(fault)


@pytest.mark.parametrize(("status", "words"), [(404, "Not Found"), (503, "Service Unavailable")])
def test_a_response_without_a_body_has_no_code(status: int, words: str) -> None:
    """botocore makes up a code for it: the status once more."""
    parsed = {
        "Error": {"Code": str(status), "Message": words},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}},
    }
    fault = fault_of_botocore(b.ClientError(parsed, "HeadObject"), "to look at the object", "bucket")
    assert str(fault) == f"the store refused to look at the object: {status} ({words})"
    assert isinstance(fault, Fault)
    assert not fault.code


@pytest.mark.parametrize("reason", ["WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"])
def test_https_to_a_port_that_speaks_no_tls(reason: str) -> None:
    error = fault_of_botocore(b.SSLError(endpoint_url=URL, error=f"[SSL: {reason}] words"), "to list", "bucket")
    assert isinstance(error, errors.StoreRefused)
    assert str(error) == "bucket.minio.example:9000 speaks no TLS: name it by http:// in `endpoint_url`"


def test_a_certificate_that_is_not_trusted() -> None:
    error = fault_of_botocore(b.SSLError(endpoint_url=URL, error="self-signed"), "to list", "bucket")
    assert isinstance(error, errors.StoreRefused)
    assert str(error) == (
        "the certificate of bucket.minio.example:9000 is not trusted: name its issuer's as `ca_bundle`"
    )
