"""Check whether an object is what it claims to be: its size, type, structure, and the headers it is served with.

Pure, but for a few short reads of the object through a function that is passed in. The same rules apply at complete,
for a post and in the sweep.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from bigupload.service import media
from bigupload.service.file_structure import Read, check_file
from bigupload.service.media_objects import ObjectHead
from bigupload.service.policy import Policy
from bigupload.service.problems import Problem, Refused
from bigupload.units import format_two_sizes

LONGEST_CACHING = timedelta(days=1)
"""How long a cache may keep an object. Objects are deleted, and caches do not notice that."""

_IMF_FIXDATE = re.compile(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT")
"""RFC 9110, 5.6.7."""

FINAL_PROBLEMS = tuple(problem for problem in Problem if "judged" in problem.at)
"""The problems for which an object is deleted."""


async def judge(key: str, head: ObjectHead, *, read: Read, policy: Policy, now: datetime) -> media.MediaType:
    """Return the type of the object `head` at `key`.

    Args:
        key: The object's key; its extension is the declared type.
        head: The object and its first `media.HEAD_BYTES` bytes.
        read: Returns bytes of the same object.
        policy: What is accepted.
        now: The time, with its zone.

    Raises:
        Refused: With one of `FINAL_PROBLEMS`.
        Exception: What `read` raises.
    """
    check_size(head.size, policy.max_file_size)
    kind = policy.types.declared(key, head.content_type)
    media.check_head(head.head, kind)
    check_headers(head.headers, now)
    await check_file(kind.name, head.head, head.size, read)
    return kind


def check_size(size: int, limit: int) -> None:
    """Raise Refused if `size` is more than `limit`, both in bytes."""
    if size <= limit:
        return
    has, most = format_two_sizes(size, limit)
    raise Refused(Problem.FILE_TOO_LARGE, f"the file has {has}, and the limit is {most}", field="size")


def check_headers(headers: Mapping[str, str], now: datetime) -> None:
    """Raise Refused for a header that makes clients or caches treat the object as something else.

    A client can add unsigned headers to a presigned PUT, and stores keep them: a plain JPEG with
    `Content-Encoding: gzip` cannot be displayed, `Cache-Control: immutable` keeps it in caches for longer than the
    service promises, and `Content-Disposition: attachment; filename=evil.html` saves it under another type.

    Args:
        headers: The object's response headers, names in lower case.
        now: The time, with its zone.
    """
    sound = {
        "Content-Encoding": _is_plain(headers.get("content-encoding", "")),
        "Content-Disposition": headers.get("content-disposition", "").strip().lower() in ("", "inline", "attachment"),
        "Cache-Control": _ends_in_time(headers.get("cache-control", "")),
        "Expires": _expires_in_time(headers.get("expires", ""), now),
    }
    wrong = [name for name, is_sound in sound.items() if not is_sound]
    if wrong:
        names = " and ".join(wrong)
        raise Refused(Problem.UNSUPPORTED_HEADERS, f"the file was sent with the header {names}: send it without")


def _is_plain(content_encoding: str) -> bool:
    """Return whether the object's bytes are the file's. `aws-chunked` describes an SDK's request, not the object."""
    return {coding.strip().lower() for coding in content_encoding.split(",")} <= {"", "identity", "aws-chunked"}


def _ends_in_time(cache_control: str) -> bool:
    """Read Cache-Control: RFC 9111, 5.2.2; RFC 5861 (`stale-…`); RFC 8246 (`immutable`)."""
    for directive in cache_control.lower().split(","):
        name, _, value = directive.strip().partition("=")
        if name == "immutable":
            return False
        if name in ("max-age", "s-maxage") or name.startswith("stale-"):
            seconds = value.strip('" ')
            if not (seconds.isascii() and seconds.isdigit() and len(seconds) < 10):
                return False
            if timedelta(seconds=int(seconds)) > LONGEST_CACHING:
                return False
    return True


def _expires_in_time(expires: str, now: datetime) -> bool:
    """Read Expires: RFC 9111, 5.3. An invalid date means "has expired", but caches read many invalid dates as dates."""
    if expires.strip() in ("", "0", "-1"):
        return True
    if not _IMF_FIXDATE.fullmatch(expires.strip()):
        return False
    try:
        return email.utils.parsedate_to_datetime(expires).replace(tzinfo=UTC) - now <= LONGEST_CACHING
    except (ValueError, OverflowError):
        return False
