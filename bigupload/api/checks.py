"""Check the arguments of the library's functions before anything is sent.

The annotations of `arguments` have the type of each option. Python does not check them, and an option of a wrong type
would fail late, or mean something else: `resume="no"` is true. So `check_types` does.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import math
import os
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from bigupload import errors
from bigupload.api.arguments import (
    OnChange,
    ProofName,
    StrPath,
    UploaderOptions,
    UploadOptions,
)
from bigupload.core.checksums import Algorithm, parse_algorithm
from bigupload.core.integrity import Verified
from bigupload.core.remote_url import foreign_scheme, is_remote
from bigupload.engine.context import UploadSettings
from bigupload.options import S3Options
from bigupload.stores.targets import oddities_of
from bigupload.units import RateSchedule, format_span, parse_duration, parse_rate_limit, parse_size

_NAMES = {
    collections.abc.Mapping: "a mapping",
    str: "a text",
    bool: "True or False",
    os.PathLike: "a path",
    collections.abc.Sequence: "a list of paths",
}
_Rule: typing.TypeAlias = "list[tuple[Any, _Rule | None]]"
_CHECKED_ELSEWHERE = (int, float, typing.Literal, Any)
"""The functions of `arguments` describe the valid numbers and choices."""
S = TypeVar("S")
_LONGEST_MARKER = 4096
_LEAST_IDLE = 1.0
"""Seconds. A file's times are coarse, and whoever writes to it needs a moment between two writes."""
_LINE_ENDS = ("\n", "\r", "\t")
_DASK = r"(?a)local:[1-9][0-9]{0,2}|(?!local:)([a-z]+://)?[^\s/:]+:[0-9]+|[a-z]+://\[[0-9a-f:]+\]:[0-9]+"
MAX_CONCURRENCY = 256
"""Parts in flight. More connections to one store bring nothing on any path that was measured."""
_OF_S3 = frozenset(f.name for f in dataclasses.fields(S3Options))


def check_names(function: str, options: Mapping[str, Any], declared: type[Any]) -> None:
    """Refuse names that a method does not take, as Python does for parameters, and values of a wrong type.

    Raises:
        TypeError: A name is not declared.
        UsageError: A value is of another type than is declared.
    """
    refuse_unknown(function, options, declared.__annotations__)
    check_types(options, declared)


def refuse_unknown(function: str, options: Mapping[str, Any], names: Mapping[str, Any]) -> None:
    """Raise TypeError for an option that a function does not take. The text names the likely one, or its place."""
    for name in options:
        if name not in names:
            hint = f": it is a field of S3Options (s3=S3Options({name}=…))" if name in _OF_S3 else ""
            if function == "Uploader" and name in UploadOptions.__annotations__:
                hint = f": it is an option of each upload (uploader.upload(…, {name}=…))"
            elif function != "Uploader" and name in UploaderOptions.__annotations__:
                hint = f": it is an option of the uploader (uploader=Uploader({name}=…))"
            import difflib

            if not hint and (near := difflib.get_close_matches(name, names, 1)):
                hint = f": did you mean {near[0]}?"
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{hint}")


def checked_number(number: int, name: str, *, least: float = -math.inf, most: float = math.inf) -> int:
    """Raises UsageError for what is not a whole number in this range."""
    if not (_is_whole(number) and least <= number <= most):
        of = "" if least == -math.inf else f" from {least} on" if most == math.inf else f" from {least} to {most}"
        raise errors.UsageError(f"{name} is a whole number{of}, not {number!r}")
    return number


def checked_rate(rate: float | str | RateSchedule | None) -> float | RateSchedule | None:
    """The limit in bytes per second, or a schedule. Raises UsageError unless it is a positive, finite number."""
    if isinstance(rate, str):
        return parse_rate_limit(rate)
    if rate is not None and not isinstance(rate, RateSchedule) and not (_is_finite(rate) and rate > 0):
        raise errors.UsageError(f"limit_rate is a positive number of bytes per second, or like '20MB/s', not {rate!r}")
    return rate


def checked_size(size: int | str | None, name: str, *, least: int = 0) -> int | None:
    """Bytes. Raises UsageError unless it is a whole number from `least` on, or a text like "16MiB"."""
    found = parse_size(size) if isinstance(size, str) else size
    if found is not None and not (_is_whole(found) and found >= least):
        raise errors.UsageError(f"`{name}` is a whole number of bytes from {least} on, or like '16MiB', not {size!r}")
    return found


def checked_marker(marker: str | bytes | None) -> bytes | None:
    """The bytes of an end marker. Raises UsageError for one that is empty or very long."""
    encoded = marker.encode("utf-8", "surrogateescape") if isinstance(marker, str) else marker
    if encoded is not None and not 1 <= len(encoded) <= _LONGEST_MARKER:
        raise errors.UsageError(f"`end_marker` has 1 to {_LONGEST_MARKER:,} bytes")
    return encoded


def checked_time(time: float | str, name: str) -> float:
    """Seconds. Raises UsageError unless it is a finite number from 0 on, or a text like "7d"."""
    seconds = parse_duration(time) if isinstance(time, str) else time
    if not (_is_finite(seconds) and seconds >= 0):
        raise errors.UsageError(f"`{name}` is a number of seconds, or like '7d', not {time!r}")
    return seconds


_LONGEST_LINK = 604_800
"""Seconds. https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html"""


def checked_lifetime(lasts: float | str, name: str) -> float:
    """Whole seconds of a link. Raises UsageError unless it is a time that S3 allows for one."""
    seconds = parse_duration(lasts) if isinstance(lasts, str) else lasts
    if not (_is_finite(seconds) and 1 <= seconds <= _LONGEST_LINK):
        shown = lasts if isinstance(lasts, str) else format_span(lasts) if _is_finite(lasts) else lasts
        raise errors.UsageError(f"`{name}` is a time like '7d', from 1 second to 7 days, and not {shown}")
    return int(seconds)


def checked_proof(proof: Verified | ProofName) -> Verified:
    """Raises UsageError for an unknown proof."""
    try:
        return Verified(proof)
    except ValueError:
        raise errors.UsageError(f"unknown proof {proof!r}: choose one of {', '.join(Verified)}") from None


def checked_path(path: StrPath, name: str) -> Path:
    """Raises UsageError for a value that is not a path, such as a URL, whose query may be a secret."""
    if isinstance(path, str) and (is_remote(path) or foreign_scheme(path) is not None) and not os.path.lexists(path):
        raise errors.UsageError(f"{name} must be a path of this machine, and it is a URL")
    try:
        return Path(path)
    except TypeError:
        raise errors.UsageError(f"{name} must be a path, not {type(path).__name__}") from None


def checked_temp_dir(path: StrPath | None) -> Path | None:
    """Raises UsageError unless it is a directory: a long stream needs it only after hours."""
    directory = None if path is None else checked_path(path, "temp_dir")
    if directory is not None and not directory.is_dir():
        raise errors.UsageError(f"`temp_dir` must be a directory that exists, not {directory}")
    return directory


def checked_proxies(proxies: Mapping[str, str] | None, dask: object) -> Mapping[str, str] | None:
    """Raises UsageError for a scheme that no store has, or with a cluster, whose workers have proxies of their own."""
    if proxies is not None and not all(of in ("http", "https") and isinstance(at, str) for of, at in proxies.items()):
        raise errors.UsageError("`proxies` is like {'https': 'http://proxy.example:3128'}, for http and https")
    if proxies is not None and dask is not None:
        raise errors.UsageError("the workers of `dask` use the proxies of their environment: leave out `proxies`")
    return proxies


def checked_dask(where: object) -> object:
    """Raises UsageError for a value that is neither a scheduler's address nor a client, or if Dask is not installed."""
    if isinstance(where, str) and not re.fullmatch(_DASK, where):
        raise errors.UsageError(f"`dask` is like 'tcp://scheduler:8786', or like 'local:4', not {where!r}")
    if where is not None:
        from bigupload.cluster._compat import address_of

        address, _ = address_of(where)
        if address.startswith("inproc:"):
            raise errors.UsageError("`dask` is a cluster whose workers are threads of this process: leave it out")
    return where


def settings_of(options: Mapping[str, object], *, restarts: bool = False, recalls: bool = True) -> UploadSettings:
    """The engine's settings, from the options of a call that uploads.

    Args:
        options: The caller's.
        restarts: Whether the call follows a source that changes, if its options do not say.
        recalls: Whether what is remembered of a store may lower the checksums.

    Raises:
        UsageError: A value is out of range, or `skip_existing` is given where nothing can exist.
    """
    given = cast("Mapping[str, Any]", options)
    if given.get("skip_existing", False) and given.get("service") is not None:
        raise errors.UsageError(
            "`skip_existing` needs an earlier object, and a media service makes a new one for each upload"
        )
    algorithm = parse_algorithm(given.get("checksum", "auto"))
    required = checked_proof(given.get("require_proof", Verified.SIZE))
    if algorithm is Algorithm.NONE and required is not Verified.SIZE:
        raise errors.UsageError(
            f"`checksum='none'` proves only the size, and `require_proof` asks for {required}: change one of them"
        )
    on_change = given.get("on_change")
    return UploadSettings(
        algorithm=algorithm,
        part_size=checked_size(given.get("part_size"), "part_size", least=1),
        require_proof=required,
        verify_source=given.get("verify_source", False),
        priority=checked_number(given.get("priority", 0), "priority"),
        follow_changes=restarts if on_change is None else checked_choice(on_change, "on_change", OnChange) == "restart",
        recalls=recalls and given.get("checksum", "auto") == "auto",
    )


def checked_choice(given: str, name: str, declared: Any) -> str:
    """Raises UsageError for what is not one of the texts of a Literal."""
    choices = typing.get_args(declared)
    if given not in choices:
        raise errors.UsageError(f"`{name}` is {' or '.join(map(repr, choices))}, not {given!r}")
    return given


def check_target(to: str | None, service: str | None, options: S3Options | None) -> list[str]:
    """Check that exactly one target is named.

    Returns:
        Warnings about it: it is valid, and probably a mistake.

    Raises:
        UsageError: None is named, or two, or one that is empty or ends in a line break.
    """
    if isinstance(to, str) and not to.strip():
        raise errors.UsageError("the target is empty: is a variable of the shell not set?")
    local = options is not None and options.local
    if service is not None and (to is not None or local):
        raise errors.UsageError("an upload has one target: `to`, `service` or the local store")
    if service is None and to is None and not local:
        raise errors.UsageError("an upload needs a target: to='s3://bucket/key', or service='https://…'")
    if isinstance(to, str) and to.endswith(_LINE_ENDS):  # as a line that was read from a file; a file's name may
        raise errors.UsageError(f"the target {to!r} ends in a line break or a tab: leave that out")
    return oddities_of(to) if isinstance(to, str) else []


def checked_sources(sources: S) -> S:
    """Raises UsageError for what is one source: each letter or byte of it would be taken for another one."""
    if isinstance(sources, str | os.PathLike | bytes | bytearray | memoryview):
        raise errors.UsageError(
            f"many sources are a list, and this is one {type(sources).__name__}: write it as [source], or list a "
            "directory's files by select_files(directory)"
        )
    return sources


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _is_finite(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)


def check_types(options: Mapping[str, Any], declared: type[Any]) -> None:
    """Refuse values of another type than is declared.

    Args:
        options: The options that a caller gave.
        declared: The TypedDict that declares them.

    Raises:
        UsageError: It names the option and the type that it got. It never shows the value, which may be a secret, or a
            file's whole content.
    """
    for name, value in options.items():
        hint: Any = declared.__annotations__[name]
        if _PLAIN.get(type(value)) in hint.__forward_arg__.split(" | "):  # nothing has to be looked up
            continue
        rule = _rule_of(typing.cast("Any", declared), name)  # mypy takes no class for hashable
        if rule is not None and not _fits(value, rule):
            raise errors.UsageError(
                f"{name} must be {_described([kind for kind, _ in rule])}, not {type(value).__name__}"
            )


_PLAIN = {type(None): "None", bool: "bool", int: "int", float: "float", str: "str"}


@functools.cache
def _rule_of(declared: Any, name: str) -> _Rule | None:
    """Return the rule for the values of an option; None: they are checked elsewhere."""
    alone = {"__annotations__": {name: declared.__annotations__[name]}, "__module__": declared.__module__}
    rule = _rule(typing.get_type_hints(type(declared.__name__, (), alone))[name])
    return None if any(kind in _CHECKED_ELSEWHERE for kind, _ in rule) else rule


def _rule(hint: Any) -> _Rule:
    """The types that a value may have, and of a sequence those of its items."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    rule: _Rule = []
    for choice in typing.get_args(hint) if union else (hint,):
        kind = typing.get_origin(choice) or choice
        rule.append((kind, _rule(typing.get_args(choice)[0]) if kind is collections.abc.Sequence else None))
    return rule


def _fits(value: Any, rule: _Rule) -> bool:
    for kind, items in rule:
        if kind is collections.abc.Callable:
            fits = callable(value)
        elif items is not None:  # a str is a sequence of texts, and never meant as one
            fits = isinstance(value, kind) and not isinstance(value, str) and all(_fits(each, items) for each in value)
        else:
            fits = isinstance(value, kind)
        if fits:
            return True
    return False


def _described(choices: list[Any]) -> str:
    if os.PathLike in choices:
        return _NAMES[os.PathLike]
    kind = choices[0]
    return "a function" if kind is collections.abc.Callable else _NAMES.get(kind, kind.__name__)


def checked_idle(idle: float | str, name: str = "idle") -> float:
    """Seconds. Raises UsageError unless it is a finite number from 1 on."""
    seconds = checked_time(idle, name)
    if seconds < _LEAST_IDLE:
        raise errors.UsageError(f"`{name}` is 1 second at least, not {idle!r}")
    return seconds


def check_follow(options: Any, *, is_path: bool) -> None:
    """Raise UsageError for what can't be done with a file that is still being written.

    Args:
        options: Those of the upload.
        is_path: Whether the source is given by its path.
    """
    if not options.get("follow", False):
        if "idle" in options:
            raise errors.UsageError("`idle` is for files that are followed: add `follow=True`, or leave it out")
        return
    if not is_path:
        raise errors.UsageError("`follow` is for files: name one by its path")
    refused = {
        "service": "a media service wants to know how long a file is",
        "expected_size": "the size of a growing file is unknown",
        "end_marker": "it ends when nothing is written to it for `idle`",
        "skip_existing": "the file has to be whole to be compared",
        "delta": "the file has to be whole to be compared",
    }
    for name, reason in refused.items():
        if options.get(name):
            raise errors.UsageError(f"`{name}` can't be used with `follow`: {reason}")
    if options.get("checksum") == "none":
        raise errors.UsageError("`checksum='none'` can't be used with `follow`: only checksums show rewritten parts")
    if options.get("on_change") == "restart":
        raise errors.UsageError(
            "`on_change='restart'` can't be used with `follow`, which expects changes: leave it out"
        )
