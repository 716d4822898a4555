"""The files that a service accepts, and how long it keeps them: types, sizes, keys, days. The published API's values by
default.

A bucket has one policy: the service, its replicas and the sweep must not differ, because the sweep deletes what the
policy does not allow. `bigupload bucket setup` writes it into the bucket. So all replicas and every sweep act on the
same policy, also one that is started without the options. Without the object, the published policy holds.

The types are the published list, any, or those of a file. The first bytes of the published types are checked, however
they were listed. A type that is not among them is taken by its name and its content type: nothing is known of its
bytes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.service.media import media_types
from bigupload.service.media.media_types import MAX_FILE_SIZE, MEDIA_TYPES, MediaType
from bigupload.service.media.object_keys import KeyTemplate
from bigupload.service.problems import Problem, Refused
from bigupload.units import counted, format_size

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from bigupload.stores.s3.bucket import S3Bucket


PUBLISHED = "published"
ANY = "any"

_EXTENSION = re.compile(r"[a-z0-9]{1,16}")
_CONTENT_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,127}")
"""RFC 6838, 4.2; in lower case."""
_ACTIVE = frozenset(
    {
        "text/html", "text/xml", "text/xsl", "text/css", "text/cache-manifest", "text/x-component", "text/scriptlet",
        "application/xml", "application/hta", "application/wasm", "application/x-shockwave-flash",
        "application/xml-dtd", "application/xml-external-parsed-entity", "text/xml-external-parsed-entity",
        "message/rfc822", "application/x-mimearchive", "application/unknown", "unknown/unknown",
    }
)  # fmt: skip
"""Types that browsers run as part of a site, or guess to be HTML (https://mimesniff.spec.whatwg.org/#sniffing-algorithm)."""
_SCRIPT = re.compile(r"(?:text|application)/(?:x-)?(?:java|ecma|j|live|vb)script[0-9.]*|multipart/.*|.*\+xml")
"""The JavaScript types that browsers still know, and more by the same scheme (https://mimesniff.spec.whatwg.org/
#javascript-mime-type); and types with a page in them."""
_RUN_BY_NAME = frozenset(
    {
        "html", "htm", "shtml", "shtm", "xhtml", "xht", "xhtm", "mht", "mhtml", "eml", "hta", "htc", "sct", "php",
        "phtml", "xml", "xsl", "xslt", "xsd", "xbl", "xul", "dtd", "ent", "mod", "svg", "svgz", "mathml", "mml", "rdf",
        "rss", "atom", "js", "mjs", "cjs", "jsm", "es", "ecma", "jse", "ls", "vbs", "vbe", "css", "wasm", "swf",
        "appcache", "manifest", "ttml", "dfxp", "mpd", "xspf", "kml", "gpx", "gml", "smil", "smi", "wsdl", "wml", "xdp",
        "xfdf",
    }
)  # fmt: skip
"""Extensions for which stores that type by the key's name serve what browsers run, whatever type was declared."""
_NO_EXTENSION = "bin"


def _unsupported(message: str, *, field: str = "contentType") -> Refused:
    return Refused(Problem.UNSUPPORTED_MEDIA, message, field=field)


class MediaTypes:
    """The accepted types. A file's extension and content type must be of the same one."""

    def __init__(self, types: Sequence[MediaType], *, name: str = "") -> None:
        """`name`: what stands for this list; empty: the list itself."""
        self.types = tuple(types)
        self.name = name
        self._by_extension = {extension: kind for kind in types for extension in kind.extensions}
        self._by_content_type = {content: kind for kind in types for content in kind.content_types}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MediaTypes) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.name, self.types))

    def declared(self, filename: str, content_type: str) -> MediaType:
        """Return the type that a request declares.

        Raises:
            Refused: UNSUPPORTED_MEDIA: it is not accepted, or the two names disagree.
        """
        media_types.check_filename(filename)
        named = self._by_extension.get(media_types.extension_of(filename))
        if named is None:
            allowed = _listed(f".{end}" for end in self._by_extension)
            raise _unsupported(f"the file name must end in one of {allowed}", field="filename")
        typed = self._by_content_type.get(media_types.content_type_of(content_type))
        if typed is None:
            allowed = _listed(kind.content_type for kind in self.types)
            raise _unsupported(f"the content type must be one of {allowed}")
        if named is not typed:
            raise _unsupported(
                f"the file name means {named.name} and the content type means {typed.name}: "
                f"{named.name} goes with {named.content_type}, {typed.name} with .{typed.extension}"
            )
        return named

    def allows(self, pattern: str) -> bool:
        """Return whether any accepted type is of the content type `pattern`, or of a family like `image/*`."""
        return any(media_types.is_of(each, pattern) for each in self._by_content_type)

    def to_json(self) -> str | list[dict[str, list[str]]]:
        """Return the name of the list, or its rows."""
        if self.name:
            return self.name
        return [{"contentTypes": [*kind.content_types], "extensions": [*kind.extensions]} for kind in self.types]

    def for_page(self) -> dict[str, Any]:
        """Return the policy for the upload page: content types by extension, the one of all others, the names."""
        return {
            "types": {end: kind.content_type for kind in self.types for end in kind.extensions},
            "other": None,
            "names": [kind.name for kind in self.types],
        }


class _AnyTypes(MediaTypes):
    """Every type but those that browsers run. The published ones are checked as ever."""

    def __init__(self) -> None:
        super().__init__(MEDIA_TYPES, name=ANY)

    def allows(self, pattern: str) -> bool:
        """As above: every type."""
        return True

    def declared(self, filename: str, content_type: str) -> MediaType:
        """As above. A name without a usable extension counts as .bin, and so does one that browsers run."""
        media_types.check_filename(filename)
        extension, content = media_types.extension_of(filename), media_types.content_type_of(content_type)
        if extension in self._by_extension or content in self._by_content_type:
            return super().declared(filename, content_type)
        if not _CONTENT_TYPE.fullmatch(content):
            raise _unsupported("the content type must be like application/octet-stream")
        if content in _ACTIVE or _SCRIPT.fullmatch(content):
            raise _unsupported(
                f"browsers run {content}: upload it as application/octet-stream, or ask the operator to list it"
            )
        if extension in _RUN_BY_NAME:
            return replace(_other((content,), (_NO_EXTENSION,)), as_attachment=True)
        extension = extension if _EXTENSION.fullmatch(extension) else _NO_EXTENSION
        return _other((content,), (extension,))

    def for_page(self) -> dict[str, Any]:
        return super().for_page() | {"other": "application/octet-stream", "names": []}


PUBLISHED_TYPES = MediaTypes(MEDIA_TYPES, name=PUBLISHED)
ANY_TYPES = _AnyTypes()


_Row = tuple[dict[str, None], dict[str, None]]
"""One type so far: its content types and its extensions."""


def read_types(text: str, *, where: str) -> MediaTypes:
    """Read a list of types as in mime.types: a content type and its extensions on each line, `#` begins a comment.

    Lines with the same content type or extension are one type; the first names are the ones that objects get. A
    published type may stand without extensions: then it has those that it always has.

    Args:
        text: The list.
        where: Its name, for messages.

    Raises:
        UsageError: It is no such list, is empty, or says that one extension is of two types.
    """
    rows: list[_Row] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].lower().split()
        if not words:
            continue
        content, extensions = words[0], [word.removeprefix(".") for word in words[1:]]
        if not _CONTENT_TYPE.fullmatch(content):
            raise UsageError(f"line {number} of {where} does not begin with a content type: write video/x-matroska mkv")
        wrong = next((word for word in extensions if not _EXTENSION.fullmatch(word)), None)
        if wrong is not None:
            raise UsageError(
                f"line {number} of {where}: {wrong!r} is not an extension (use up to 16 letters and digits)"
            )
        _add(rows, content, extensions, f"line {number} of {where}")
    if not rows:
        raise UsageError(f"{where} lists no types: write one on each line, as in video/x-matroska mkv")
    return MediaTypes([_type_of(row, where) for row in rows])


def types_from_json(value: Any, *, where: str) -> MediaTypes:
    """Return the types that `MediaTypes.to_json` wrote. Raises UsageError."""
    for known in (PUBLISHED_TYPES, ANY_TYPES):
        if value == known.name:
            return known
    match value:
        case [*found] if found and all(_is_row(each) for each in found):
            rows = [(dict.fromkeys(each["contentTypes"]), dict.fromkeys(each["extensions"])) for each in found]
            return MediaTypes([_type_of(row, where) for row in rows])
    raise UsageError(f"{where} has no list of types that this version of bigupload can read")


def _is_row(value: Any) -> bool:
    match value:
        case {"contentTypes": [_, *_] as contents, "extensions": [*extensions]}:
            named = [(each, _CONTENT_TYPE) for each in contents] + [(each, _EXTENSION) for each in extensions]
            return all(isinstance(each, str) and pattern.fullmatch(each) for each, pattern in named)
    return False


def _add(rows: list[_Row], content: str, extensions: Sequence[str], where: str) -> None:
    same = [row for row in rows if content in row[0] or not row[1].keys().isdisjoint(extensions)]
    if len(same) > 1:
        first, second = (next(iter(contents)) for contents, _ in same[:2])
        raise UsageError(f"{where} joins {first} and {second}, which earlier lines keep apart")
    if not same:
        same = [({}, {})]
        rows += same
    same[0][0][content] = None
    same[0][1].update(dict.fromkeys(extensions))


def _type_of(row: _Row, where: str) -> MediaType:
    """A published type stays what it is, with the names that were listed: its first bytes are checked."""
    contents, extensions = map(tuple, row)
    found = [
        kind
        for kind in MEDIA_TYPES
        if not set(kind.content_types).isdisjoint(contents) or not set(kind.extensions).isdisjoint(extensions)
    ]
    if len(found) > 1:
        raise UsageError(f"{where} makes one type of {found[0].name} and {found[1].name}: list them on two lines")
    if not found:
        if not extensions:
            raise UsageError(f"{where} names no extension for {contents[0]}: write it after the content type")
        return _other(contents, extensions)
    [kind] = found
    aliases = tuple(dict.fromkeys((*kind.other_content_types, *contents)))
    ends = extensions or kind.extensions
    return replace(
        kind,
        extension=ends[0],
        other_extensions=ends[1:],
        other_content_types=tuple(alias for alias in aliases if alias != kind.content_type),
    )


def _other(contents: tuple[str, ...], extensions: tuple[str, ...]) -> MediaType:
    family = contents[0].partition("/")[0]
    return MediaType(
        name=extensions[0].upper(),
        content_type=contents[0],
        extension=extensions[0],
        kind="image" if family == "image" else "video" if family == "video" else "other",
        other_extensions=extensions[1:],
        other_content_types=contents[1:],
    )


def _listed(names: Iterable[str], most: int = 40) -> str:
    """A list that may be long."""
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


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
    """Return the text of `--keep`: "7d", "36h", "forever"."""
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


POLICY_KEY = "bigupload-policy.json"
_MOST_BYTES = 256 * 1024


async def read_policy(bucket: S3Bucket) -> Policy:
    """Return the bucket's policy.

    Raises:
        Fault: The store refused or failed.
        BigUploadError: The same; a UsageError if the policy can't be read.
    """
    try:
        found = await bucket.call("to read the policy", "GetObject", Key=POLICY_KEY, first=_MOST_BYTES)
    except Fault as fault:
        if fault.status == 404:
            return PUBLISHED_POLICY
        raise
    where = f"s3://{bucket.name}/{POLICY_KEY}"
    try:
        value = json.loads(found.get("Body", b""))
    except (ValueError, RecursionError):
        value = None
    return Policy.from_json(value, where=where)


async def write_policy(bucket: S3Bucket, policy: Policy) -> None:
    """Make `policy` the bucket's. Raises as `read_policy`."""
    if policy == PUBLISHED_POLICY:
        await bucket.call("to delete the policy", "DeleteObject", Key=POLICY_KEY)
        return
    body = json.dumps(policy.to_json(), indent=1).encode() + b"\n"
    headers = {"content-type": "application/json"}
    await bucket.call("to write the policy", "PutObject", Key=POLICY_KEY, Body=body, headers=headers)


async def agreed_policy(bucket: S3Bucket, wanted: Mapping[str, Any]) -> Policy:
    """Return the bucket's policy for a service that starts.

    Args:
        bucket: The bucket, which exists.
        wanted: Fields of `Policy` that the operator named.

    Raises:
        Fault: The store refused or failed.
        UsageError: The operator named something else than the bucket's policy says, or a rule of the bucket deletes
            objects sooner than the policy, or the policy itself: without it, the published one would hold.
    """
    policy = await read_policy(bucket)
    named = policy.replaced(wanted)
    if named != policy:
        options = " ".join(policy.differences(named))
        was = " ".join(named.differences(policy))
        raise errors.UsageError(
            f"the bucket {bucket.name} was set up with {was}: run bigupload bucket setup s3://{bucket.name} {options} "
            "to change that, or leave the option out"
        )
    rules = await _rules_that_delete(bucket)
    for rule, prefix, days in rules:
        if (
            policy.keys.prefix.startswith(prefix)
            and days is not None
            and (policy.kept_days is None or days < policy.kept_days)
        ):
            raise errors.UsageError(
                f"the lifecycle rule {rule!r} of the bucket {bucket.name} deletes files after "
                f"{format_days(days * DAY)}, and the policy is --keep {format_keep(policy.keep)}: change the rule, or "
                f"run bigupload bucket setup s3://{bucket.name} --keep {days}d"
            )
    fatal = _rule_that_deletes_the_policy(rules)
    if policy != PUBLISHED_POLICY and fatal is not None:
        raise errors.UsageError(
            f"the lifecycle rule {fatal!r} of the bucket {bucket.name} will delete {POLICY_KEY}, and then the "
            f"published policy would hold, by which the sweep deletes files: limit the rule to {policy.keys.prefix} or "
            "other folders"
        )
    return policy


async def policy_in_danger(bucket: S3Bucket) -> str | None:
    """Return the ID of a lifecycle rule that will delete the policy; None: no such rule, or unreadable rules."""
    return _rule_that_deletes_the_policy(await _rules_that_delete(bucket))


def _rule_that_deletes_the_policy(rules: list[tuple[str, str, int | None]]) -> str | None:
    return next((rule for rule, prefix, _ in rules if POLICY_KEY.startswith(prefix)), None)


async def _rules_that_delete(bucket: S3Bucket) -> list[tuple[str, str, int | None]]:
    """Return the ID, the prefix and the days of each rule that deletes all objects under a prefix; None: at a date."""
    try:
        found = await bucket.call("to read the lifecycle rules", "GetBucketLifecycleConfiguration")
    except (Fault, errors.StoreRefused):  # no rules, a store without rules, or only the operator may read them
        return []
    rules = []
    for rule in rows_of(found, "Rule"):
        days, date = (rule.findtext("Expiration/Days") or "").strip(), rule.findtext("Expiration/Date")
        wanted = rule.find("Filter")
        if wanted is None:
            prefix: str | None = rule.findtext("Prefix") or ""
        else:
            prefix = (wanted.findtext("Prefix") or "") if {each.tag for each in wanted} <= {"Prefix"} else None
        if rule.findtext("Status") == "Enabled" and prefix is not None and (days or date):
            rules.append((rule.findtext("ID") or "", prefix, int(days) if days.isdecimal() else None))
    return rules


def rows_of(answer: Mapping[str, Any], element: str) -> list[Element]:
    """Return the rules in a document that a bucket's settings are read as; none if there is no document."""
    return list(answer["Document"].findall(element)) if "Document" in answer else []
