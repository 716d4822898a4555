"""The upload handle: everything that the service must know of an upload, signed, and kept by the client.

So the service has no state, and any replica with the same secret can continue an upload. A client can read a handle and
cannot change it. A handle is useless without an API key of the owner that it names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

from bigupload.core.checksums import Algorithm
from bigupload.core.part_plan import Plan
from bigupload.records import dataclass
from bigupload.service.media.policy import LONGEST_UPLOAD
from bigupload.service.problems import Problem, Refused

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """One multipart upload."""

    owner: str
    key: str
    upload_id: str
    size: int
    """Bytes of the whole file."""
    part_size: int
    content_type: str
    algorithm: Algorithm
    token: str
    """Also in the object's metadata: it shows that this upload made the object."""
    expires: int
    """Seconds since 1970."""

    @property
    def plan(self) -> Plan:
        """The division of the file into parts."""
        return Plan(self.size, self.part_size)

    def to_json(self) -> dict[str, Any]:
        """Return the fields, for a note of the service's own. It is not signed."""
        return dataclasses.asdict(self) | {"algorithm": self.algorithm.value}


def handle_from_json(fields: Mapping[str, Any]) -> Handle:
    """Return the handle of which `Handle.to_json` returned the fields."""
    return Handle(**{**fields, "algorithm": Algorithm(fields["algorithm"])})


_TYPES = typing.get_type_hints(Handle)


class Handles:
    """Signs handles with the last of `secrets`, and accepts those that any of them signed."""

    def __init__(self, secrets: Sequence[str], *, clock: Callable[[], float], lifetime: int = LONGEST_UPLOAD) -> None:
        """Make it.

        Args:
            secrets: The last one signs.
            clock: The time, in seconds since 1970.
            lifetime: How long a handle is valid, in seconds.
        """
        self._serializer = URLSafeSerializer(
            list(secrets),
            salt="bigupload.upload",
            signer_kwargs={"digest_method": hashlib.sha256},  # itsdangerous signs with SHA-1 by default
            fallback_signers=[{"digest_method": hashlib.sha1}],  # clients still have handles signed like that
        )
        self._clock = clock
        self._lifetime = lifetime

    def expiry(self) -> int:
        """Return the expiry of a handle that is made now, in seconds since 1970."""
        return int(self._clock()) + self._lifetime

    def encode(self, handle: Handle) -> str:
        """The handle as text, which needs no quoting in a URL."""
        return self._serializer.dumps([_VERSION, *dataclasses.astuple(handle)])

    def decode(self, text: str, *, owner: str) -> Handle:
        """The handle that a client sent.

        Raises:
            Refused: INVALID_UPLOAD, NOT_YOUR_UPLOAD or UPLOAD_EXPIRED.
        """
        try:
            loaded: Any = self._serializer.loads(text)
        except BadData:
            raise Refused(Problem.INVALID_UPLOAD, field="upload") from None
        if not isinstance(loaded, list) or loaded[:1] != [_VERSION] or len(loaded) != len(_TYPES) + 1:
            raise Refused(
                Problem.INVALID_UPLOAD,
                "the upload was created by another version of the service: start a new one",
                field="upload",
            )
        values = dict(zip(_TYPES, loaded[1:], strict=True))
        handle = Handle(**values | {"algorithm": Algorithm(values["algorithm"])})
        if handle.owner != owner:
            raise Refused(Problem.NOT_YOUR_UPLOAD, field="upload")
        if handle.expires <= self._clock():
            raise Refused(Problem.UPLOAD_EXPIRED, field="upload")
        return handle
