"""Fields of a store's responses, which something else may have sent in its place."""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from bigupload.core.retry_policy import Fault, FaultKind

T = TypeVar("T")


def told(answer: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """Return a field that every store's response has.

    Raises:
        Fault: BROKEN if it is missing. A 200 without it is another page, for example a captive portal's or a proxy's,
            and does not say what the store did.
    """
    told = answer.get(name)
    if not isinstance(told, kind) or told == "":
        raise Fault(FaultKind.BROKEN, f"the store's response has no {name}: something else may have responded")
    return told


def metadata_of(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return the object's user-defined metadata with its keys in lower case.

    The keys are sent as header names, which have no case, so some stores return `X-Amz-Meta-Tok` for `tok`. S3 itself
    stores them in lower case: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
    """
    return {key.lower(): value for key, value in answer.get("Metadata", {}).items()}


def date_of(header: str | None) -> datetime | None:
    """Parse a Date header, which is always in GMT: https://www.rfc-editor.org/rfc/rfc9110#name-date."""
    try:
        date = email.utils.parsedate_to_datetime(header or "")
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
