"""Every use of a private attribute of botocore. `tests/stores/s3/test_compat.py` fails when botocore changes one.

botocore has no public way to do these things.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Send = Callable[[Any], Any]
"""Sends one of botocore's prepared requests, and returns its response before the body is parsed."""


def wrap_send(client: Any, wrapper: Callable[[Send, Any], Any]) -> None:
    """Call `wrapper(send, request)` in place of a client's own `send(request)`."""
    session = client._endpoint.http_session
    send: Send = session.send
    session.send = lambda request: wrapper(send, request)


def headers_of_put(client: Any, parameters: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the headers that botocore makes of PutObject's parameters.

    Its serializers are public but not documented. Presigning a URL uses them and does not hand the headers out.
    """
    from botocore.serialize import create_serializer

    model = client.meta.service_model.operation_model("PutObject")
    serializer = create_serializer(client.meta.service_model.metadata["protocol"], include_validation=False)
    headers: Mapping[str, str] = serializer.serialize_to_request(dict(parameters), model)["headers"]
    return {name: str(value) for name, value in headers.items()}


def set_body(response: Any, body: bytes) -> None:
    """Give a response its body, so that botocore does not read it from the connection."""
    response._content = body


def refresh_early(credentials: Any, seconds: float) -> None:
    """Refresh temporary credentials that expire within `seconds`. Blocking. botocore itself does that much later.

    Raises:
        Exception: What the source of the credentials raised, if they have expired already.
    """
    window = credentials._advisory_refresh_timeout
    credentials._advisory_refresh_timeout = seconds
    try:
        credentials.get_frozen_credentials()
    finally:
        credentials._advisory_refresh_timeout = window


def seconds_left(credentials: Any) -> float | None:
    """Return for how many seconds temporary credentials are valid; None: they do not expire, or are not fetched yet."""
    if getattr(credentials, "_expiry_time", None) is None:
        return None
    left: float = credentials._seconds_remaining()
    return left


def use_virtual_addressing(client: Any) -> None:
    """Make presigned URLs name the bucket in the host and the region, as requests do.

    With "auto" addressing, botocore presigns for the global host, which redirects requests to a new bucket for hours.
    """
    client.meta.config.s3["addressing_style"] = "virtual"
