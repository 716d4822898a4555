"""Translate a store's errors into the service's. The client gets advice; the store's message is logged."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service.problems import Problem, Refused
from bigupload.stores.s3.renewal import CREDENTIALS_EXPIRING

_RETRY_SOON = 5.0
"""The value of Retry-After, in seconds."""

_PROBLEMS = {
    FaultKind.GONE: Problem.UPLOAD_GONE,
    FaultKind.CORRUPTED: Problem.CHECKSUM_MISMATCH,
    FaultKind.INVALID_PART: Problem.PART_NOT_STORED,
}


@contextlib.contextmanager
def store_faults_as_refusals() -> Iterator[None]:
    """Raise Refused in place of a Fault or a public error of the store, which becomes its cause."""
    try:
        yield
    except (Fault, errors.BigUploadError) as e:
        raise refusal_of(e) from e


def refusal_of(error: Fault | errors.BigUploadError) -> Refused:
    """Return the error for the client that a store's error becomes."""
    if isinstance(error, errors.StoreUnavailable | errors.StoreUnreachable):
        return Refused(Problem.STORE_UNAVAILABLE, retry_after=_RETRY_SOON)
    if not isinstance(error, Fault):
        return Refused(Problem.STORE_REFUSED)
    if error.code == CREDENTIALS_EXPIRING:
        return Refused(Problem.CREDENTIALS_EXPIRING, retry_after=_RETRY_SOON)
    if error.kind.is_retried:
        return Refused(Problem.STORE_UNAVAILABLE, retry_after=max(error.retry_after or 0.0, _RETRY_SOON))
    return Refused(_PROBLEMS.get(error.kind, Problem.STORE_REFUSED))


async def quietly(call: Callable[..., Awaitable[object]], *arguments: object, **named: object) -> None:
    """Ask the store for what must neither hide a failure nor make one."""
    with contextlib.suppress(Fault, errors.BigUploadError):
        await call(*arguments, **named)
