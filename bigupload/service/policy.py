"""The files that a service accepts, and how long it keeps them: types, sizes, keys, days. The published API's values by
default.

A bucket has one policy: the service, its replicas and the sweep must not differ, because the sweep deletes what the
policy does not allow. `bigupload bucket setup` writes it into the bucket (see `stored_policy`). Pure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import field, fields
from datetime import timedelta
from typing import Any

from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.service.accepted_types import PUBLISHED_TYPES, MediaTypes, types_from_json
from bigupload.service.media import MAX_FILE_SIZE
from bigupload.service.object_keys import KeyTemplate
from bigupload.units import counted, format_size

DAY = 86_400
STORED_FOR = 7 * DAY
"""Seconds: what the published API promises."""
LONGEST_UPLOAD = 7 * DAY
"""Seconds that an upload may take, and its handle is valid."""
MAX_SINGLE_PUT = 5 * 1024**3
"""Bytes: S3's limit of one PUT and of one copy. https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""
_MAX_OBJECT = 5 * 1024**4
"""Bytes: S3's limit of an object of 10,000 parts that each store allows."""
_SHORTEST = 3600
"""Seconds: a presigned URL is valid for an hour, so a file could arrive after it was due to be deleted."""
_LONGEST = 36_500 * DAY
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The files that the service accepts, and how long it keeps them. Raises UsageError for values that can't be."""

    max_file_size: int = MAX_FILE_SIZE
    """Bytes of the largest file. One above 5 GiB can be sent in parts only."""
    types: MediaTypes = field(default=PUBLISHED_TYPES)
    """The types that are accepted."""
    keep: int | None = STORED_FOR
    """Seconds after which an object is deleted; None: never."""
    keys: KeyTemplate = field(default_factory=KeyTemplate)
    """The shape of the objects' keys."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_file_size <= _MAX_OBJECT:
            raise UsageError(
                f"not a largest size: {format_size(self.max_file_size)} (S3's largest object has "
                f"{format_size(_MAX_OBJECT)})"
            )
        if self.keep is not None and not _SHORTEST <= self.keep <= _LONGEST:
            raise UsageError(
                f"objects can't be kept for {format_keep(self.keep)}: presigned URLs are valid for an hour, so name an "
                "hour or more, or forever"
            )

    @property
    def upload_lifetime(self) -> int:
        """Seconds that an upload may take.

        AWS dates an object by its upload's start: with a longer life than its object's, it could be due at complete.
        """
        return LONGEST_UPLOAD if self.keep is None else min(LONGEST_UPLOAD, self.keep)

    @property
    def kept(self) -> timedelta | None:
        """`keep` as a duration."""
        return None if self.keep is None else timedelta(seconds=self.keep)

    @property
    def kept_days(self) -> int | None:
        """`keep` in whole days, as a bucket's rules count; None: for ever."""
        return None if self.keep is None else math.ceil(self.keep / DAY)

    def to_json(self) -> dict[str, Any]:
        """Return it for the bucket."""
        return {
            "version": _VERSION,
            "maxSize": self.max_file_size,
            "types": self.types.to_json(),
            "keep": self.keep,
            "keyTemplate": self.keys.text,
        }

    @classmethod
    def from_json(cls, value: Any, *, where: str) -> Policy:
        """Return the policy that `to_json` wrote. Raises UsageError, which names `where`."""
        match value:
            case {"version": 1, "maxSize": int(size), "keep": None | int() as keep, "keyTemplate": str(keys), **rest}:
                types = types_from_json(rest.get("types"), where=where)
                return cls(max_file_size=size, types=types, keep=keep, keys=KeyTemplate(keys))
        raise UsageError(f"{where} is not a policy that this version of bigupload can read")

    @property
    def fingerprint(self) -> str:
        """A text that differs if a sweep under this policy may find something else."""
        return json.dumps(self.to_json(), sort_keys=True)

    def replaced(self, values: Mapping[str, Any]) -> Policy:
        """Return the policy with those fields of `values` that are not missing.

        Raises:
            UsageError: A value can't be, or there is no field of that name.
        """
        known = {each.name for each in fields(self)}
        for name in values.keys() - known:
            raise UsageError(f"a policy has no `{name}`, only {', '.join(f'`{each}`' for each in sorted(known))}")
        return Policy(**{each.name: values.get(each.name, getattr(self, each.name)) for each in fields(self)})

    def differences(self, other: Policy) -> list[str]:
        """Return the options that make of this policy the other one."""
        options = {
            "max_file_size": f"--max-size {other.max_file_size}",
            "types": f"--types {other.types.name or 'FILE'}",
            "keep": f"--keep {format_keep(other.keep)}",
            "keys": f"--key-template '{other.keys.text}'",
        }
        return [option for name, option in options.items() if getattr(self, name) != getattr(other, name)]


PUBLISHED_POLICY = Policy()


def format_keep(seconds: int | None) -> str:
    """How `--keep` is written: "7d", "36h", "forever"."""
    if seconds is None:
        return "forever"
    for unit, size in (("d", DAY), ("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def format_days(seconds: int) -> str:
    """For sentences: "7 days", "36 hours"."""
    if seconds % DAY == 0:
        return counted(seconds // DAY, "day")
    return counted(round(seconds / 3600), "hour")
