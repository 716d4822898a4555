"""Credentials that a program gives, and gives again before they expire. Pure: nothing is asked for here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import field
from datetime import datetime
from types import MethodType
from typing import Any, TypeAlias

from bigupload.errors import UsageError
from bigupload.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """An access key of S3, which may be temporary. Its text shows no secret.

    Raises:
        UsageError: A value is of the wrong type, or the time has no time zone.
    """

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    """Of temporary credentials."""
    expires_at: datetime | None = None
    """When they expire, with time zone. None: never, or nobody knows when."""

    def __post_init__(self) -> None:
        for name in ("access_key", "secret_key", "session_token"):
            value: Any = getattr(self, name)
            if not (isinstance(value, str) and value) and (name != "session_token" or value is not None):
                raise UsageError(f"{name} must be a text that is not empty")
        ends: Any = self.expires_at
        if ends is not None and (not isinstance(ends, datetime) or ends.utcoffset() is None):
            raise UsageError("expires_at must be a datetime with time zone, as datetime.now(UTC) gives it")


CredentialsSource: TypeAlias = Callable[[], Credentials | Awaitable[Credentials]]
"""A function, async or not, that returns credentials which are valid now."""


def identity_of(source: CredentialsSource | None) -> tuple[int, ...]:
    """Return what equal functions have in common, for as long as one of them is kept.

    Python makes another object for a method at each access: `vault.issue is not vault.issue`.
    """
    if isinstance(source, MethodType):
        return id(source.__self__), id(source.__func__)
    return (id(source),)
