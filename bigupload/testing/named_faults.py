"""Faults by name, for tests that say what goes wrong and not how: `bigupload_faults("slow down", part=2)`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bigupload.testing.faults import (
    Conflict,
    CutResponse,
    ErrorIn200,
    FlipBit,
    LostResponse,
    Reset,
    Stall,
    Status,
    StoreFault,
    WrongEtag,
)

if TYPE_CHECKING:  # importing it needs the server
    from bigupload.testing.strict_s3 import StrictS3

_SENDING = ("UploadPart", "PutObject")
_COMPLETING = ("CompleteMultipartUpload",)
_WITH_BODY = (*_SENDING, *_COMPLETING, "CreateBucket", "DeleteObjects")
_WITH_ETAG = (*_SENDING, *_COMPLETING, "UploadPartCopy", "ListParts", "ListObjectsV2", "GetObject", "HeadObject")


@dataclasses.dataclass(frozen=True)
class NamedFault:
    """A fault that has a name.

    Attributes:
        fault: The fault of one request.
        ops: The operations whose next request meets it, unless a test names another.
        says: A description, in a sentence.
        only: The operations that it can happen to. Empty: all.
    """

    fault: StoreFault
    ops: tuple[str, ...]
    says: str
    only: tuple[str, ...] = ()


FAULTS: Mapping[str, NamedFault] = {
    "slow down": NamedFault(Status(503, "SlowDown"), _SENDING, "The store is busy: 503."),
    "internal error": NamedFault(Status(500, "InternalError"), _SENDING, "The store fails: 500."),
    "bad gateway": NamedFault(Status(502), _SENDING, "A load balancer fails: 502, without a body."),
    "request timeout": NamedFault(Status(400, "RequestTimeout"), _SENDING, "The body came too slowly: 400."),
    "access denied": NamedFault(Status(403, "AccessDenied"), _SENDING, "The request is not allowed: 403."),
    "expired url": NamedFault(
        Status(403, "AccessDenied", "Request has expired"), _SENDING, "The presigned URL has expired: 403."
    ),
    "expired token": NamedFault(Status(400, "ExpiredToken"), _SENDING, "The session's credentials have expired: 400."),
    "no such upload": NamedFault(
        Status(404, "NoSuchUpload"), ("UploadPart",), "Somebody has aborted the multipart upload: 404."
    ),
    "reset": NamedFault(Reset(), _SENDING, "The connection is reset after `after_bytes` of the body."),
    "stall": NamedFault(
        Stall(),
        _SENDING,
        "The store stops reading after `after_bytes` of the body, until the fake's `release()`.",
        only=(*_WITH_BODY, "CreateMultipartUpload", "UploadPartCopy"),  # the fake reads their empty bodies, too
    ),
    "lost response": NamedFault(LostResponse(), _SENDING, "The store does it all, and the response is lost."),
    "flip bit": NamedFault(
        FlipBit(), _SENDING, "A bit of the body changes on its way: the bit at byte `at`.", only=_WITH_BODY
    ),
    "flip stored bit": NamedFault(
        FlipBit(stored=True), _SENDING, "A bit changes on the store's disk, at byte `at`.", only=_SENDING
    ),
    "wrong etag": NamedFault(
        WrongEtag(), _SENDING, "The response has an ETag that is not the part's.", only=_WITH_ETAG
    ),
    "error in 200": NamedFault(ErrorIn200(), _COMPLETING, "Complete responds with 200, and an error in its body."),
    "conflict": NamedFault(
        Conflict(), _COMPLETING, "A conditional complete conflicts with another: 409, for good.", only=_COMPLETING
    ),
    "cut response": NamedFault(
        CutResponse(),
        ("GetObject",),
        "A download ends after `after_bytes` of the object, as if that were all.",
        only=("GetObject",),
    ),
}
"""The faults by the names that `bigupload_faults` takes."""


@dataclasses.dataclass(frozen=True)
class _Asked:
    """One call of a test's. `named` says in words which requests it waits for."""

    named: str
    fault: StoreFault
    times: int


class Faults:
    """Lets a store's next requests fail, by the names in `FAULTS`. The fixture `bigupload_faults` is one."""

    def __init__(self, store: StrictS3) -> None:
        self._store = store
        self._asked: list[_Asked] = []

    def __call__(
        self,
        name: str,
        /,
        *,
        part: int | None = None,
        key: str | None = None,
        op: str | None = None,
        times: int = 1,
        always: bool = False,
        **details: Any,
    ) -> None:
        """Let the next request that fits meet the fault. Requests of all other kinds pass.

        Args:
            name: One of `FAULTS`, as "slow down".
            part: Only requests of this part of a multipart upload count. The first part is 1.
            key: Only requests of this object count.
            op: S3's name of another operation than the fault's own, as "CompleteMultipartUpload".
            times: The number of requests that meet it, one after another.
            always: All requests meet it, until the fake's `clear()`.
            details: Fields of the fault in `bigupload.testing.faults`, as `after_bytes=1000` of "reset", `at=7` of
                "flip bit", or `headers={"Retry-After": "3"}` of "slow down".

        Raises:
            ValueError: There is no such fault, operation or detail, or the fault cannot happen to the operation. The
                message lists those that there are. Or `times` is below 1.
        """
        __tracebackhide__ = True  # pytest then shows the line of the test
        named = FAULTS.get(name)
        if named is None:
            raise ValueError(f"no fault is named {name!r}; the names are: {', '.join(FAULTS)}")
        fields = [field.name for field in dataclasses.fields(named.fault)]  # type: ignore[arg-type]  # all are dataclasses
        if unknown := sorted(details.keys() - set(fields)):
            raise ValueError(
                f"{name!r} has no `{unknown[0]}`; its details are: {', '.join(fields) or 'none'}; "
                "arguments for every fault: part, key, op, times, always"
            )
        if op is not None and named.only and op not in named.only:
            raise ValueError(f"{name!r} cannot happen to {op}; it can to: {', '.join(named.only)}")
        if times < 1:
            raise ValueError("`times` must be at least 1")
        fault = dataclasses.replace(named.fault, **details)  # type: ignore[type-var]  # as above
        self._store.script(op or named.ops, *[fault] * times, part_number=part, key=key, repeat=always)
        only = {"part": part, "key": key, "op": op}
        waits_for = ", ".join(f"{which}={value}" for which, value in only.items() if value is not None)
        self._asked.append(_Asked(f"{name!r} ({waits_for})" if waits_for else repr(name), fault, times))

    def unmet(self) -> str:
        """Say which faults too few requests have met, and which requests arrived. Empty if no fault is left."""
        waiting = Counter(map(id, self._store.unmet()))
        lines = [
            f"{each.named}: {each.times - waiting[id(each.fault)]} of {each.times} requests met it."
            for each in self._asked
            if waiting[id(each.fault)]
        ]
        if not lines:
            return ""
        arrived = Counter(request.op for request in list(self._store.requests))
        counts = ", ".join(f"{op} {count}" for op, count in sorted(arrived.items()))
        return "\n".join([*lines, f"Arrived: {counts or 'nothing'}. Check part, key and op."])
