"""A post's media are checked here; the post itself is the posts API's, and is handed on.

It is handed on byte for byte, but for the URL of an upload that its owner could still replace: in its place stands the
URL of an immutable copy. A presigned PUT stays valid for an hour, even after a post was accepted. So the store copies
the object to a key for which nobody has a URL to write; no bytes pass through the service. `docs/security.md` says why
nothing simpler is safe.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

import aiohttp
import yarl
from multidict import CIMultiDict

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.socket_tuning import CONNECT_TIMEOUT
from bigupload.records import dataclass
from bigupload.service import contract as c
from bigupload.service.access.callers import BoundUser
from bigupload.service.media.direct_url import DirectUrls
from bigupload.service.media.media_types import HEAD_BYTES, MediaType
from bigupload.service.media_objects import ObjectHead, StoreHealth, store_faults_as_refusals
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.finishing import FINAL_PROBLEMS, Finishing


@dataclass(frozen=True, slots=True, kw_only=True)
class PostsApi:
    """The posts API. A caller's key is never forwarded: `authorization` is the service's own."""

    url: str
    authorization: str | None = field(default=None, repr=False)
    """The whole value of the Authorization header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostableMedia:
    """An upload that a post may name."""

    kind: MediaType
    key: str
    """Of a check for a post, a final one: its object stays as it was checked."""
    size: int
    """Bytes."""
    receipt: str | None = None
    """Signed, of the object at `key`; None: nobody signs, or it can be written again."""


class PostedMedia:
    """The uploads of all owners, as posts name them."""

    def __init__(self, finishing: Finishing, public_url: Callable[[str], str]) -> None:
        """Make it.

        Args:
            finishing: What an object must pass.
            public_url: The URL of a key for everyone.
        """
        self.public_url = public_url
        self._finishing = finishing
        self._objects = finishing.objects
        self._keys = finishing.policy.keys

    def key_of(self, url: str) -> str | None:
        """Return the key of an upload's publicUrl; None for another URL.

        The URL is forwarded to the posts API, which may read another spelling as another host. So only the exact text
        that `public_url` returns is an upload.

        Raises:
            Refused: For another spelling of an upload's URL. Checked as a direct URL, it would give access to other
                owners' uploads.
        """
        base = self.public_url("")
        key = url.removeprefix(base)
        if key != url and self._keys.owner_of(key) is not None:
            return key
        try:
            leads_here = _place(url).startswith(_place(base))
        except ValueError:
            return None  # the check of direct URLs refuses it
        if leads_here:
            raise Refused(Problem.MEDIA_NOT_FOUND, "this is not the publicUrl of an upload, character for character")
        return None

    async def check(
        self, owner: str, key: str, bound: BoundUser | None = None, *, copies: bool = True
    ) -> PostableMedia:
        """Return the object to post for the upload at `key`. A refused object is deleted.

        Args:
            owner: Who posts.
            key: The upload's key.
            bound: The end user who posts; None: the owner itself.
            copies: Whether an object that can be replaced is copied, and the copy is returned. Otherwise, nothing is.

        Raises:
            Refused: The upload belongs to another owner or end user, does not exist, or is not the media that
                it claims to be.
        """
        if self._keys.owner_of(key) != owner or (bound is not None and self._keys.user_of(key) != bound.user):
            raise Refused(Problem.MEDIA_NOT_FOUND)
        with store_faults_as_refusals(), _replaced_as_refusal():
            kind, head = await self._judged(key)
            if copies and not self._keys.is_final(key):
                final = await self._finishing.copied(key, head, kind)
                try:
                    kind, copy = await self._judged(final)
                except Refused as refused:
                    if refused.problem is Problem.FILE_REFUSED:  # only the copy was shown to the hook
                        await self._finishing.refuse(key, head, refused)
                    raise
                await self._finishing.accept_by_copy(key, head, kind)
                key, head = final, copy
            receipt = await self._finishing.receipt(key, head)
            return PostableMedia(kind=kind, key=key, size=head.size, receipt=receipt)

    def is_final(self, key: str) -> bool:
        """Return whether the object at `key` stays as it was checked."""
        return self._keys.is_final(key)

    async def _judged(self, key: str) -> tuple[MediaType, ObjectHead]:
        head = await self._objects.look(key, first=HEAD_BYTES)
        now, keep = self._finishing.clock(), self._finishing.policy.keep
        if head is None or (keep is not None and now - head.modified.timestamp() >= keep):
            raise Refused(Problem.MEDIA_NOT_FOUND)
        try:
            # An object that can still be replaced need not pass the hook: its copy will.
            checks = self._finishing.accept if self._keys.is_final(key) else self._finishing.judge
            return await checks(key, head), head
        except Refused as refused:
            if refused.problem in FINAL_PROBLEMS:
                await self._finishing.refuse(key, head, refused, tells=not self._finishing.is_copy(key, head))
            raise


@contextlib.contextmanager
def _replaced_as_refusal() -> Iterator[None]:
    try:
        yield
    except Fault as fault:
        if fault.is_absent or fault.kind is FaultKind.EXISTS:
            message = "the upload was replaced or deleted while it was checked: post it again"
            raise Refused(Problem.MEDIA_NOT_FOUND, message) from fault
        raise


def _place(url: str) -> str:
    """Return host, port and path, equal for all spellings. Raises ValueError."""
    read = yarl.URL(url)
    port = "" if read.is_default_port() else read.port  # http leads to https
    return f"{(read.host or '').rstrip('.')}:{port}{re.sub('/+', '/', read.path)}"


_RESPONSE_WITHIN = 60.0
"""Seconds."""
_CHECKS_AT_ONCE = 8
"""Media items of one post that are checked at once: a slow host must not make a post wait for all items in turn."""
_MAX_RESPONSE_BYTES = 4 * 1024 * 1024
_LONGEST_RECEIPTS = 12_000
"""Characters of the receipts of one post. Node's server takes 16 KB of headers, and nginx 32 KB."""
_HANDED_BACK = ("Content-Type", "Content-Encoding", "Retry-After")


@dataclass(frozen=True, slots=True, kw_only=True)
class PostResponse:
    """The posts API's response."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    """The headers of the body, and those that a client needs to continue."""


class Posts:
    """Checks posts and hands them on. `http` is for the posts API alone."""

    def __init__(
        self,
        uploads: PostedMedia,
        urls: DirectUrls,
        http: aiohttp.ClientSession,
        api: PostsApi | None,
        health: StoreHealth,
    ) -> None:
        self._uploads = uploads
        self._urls = urls
        self._http = http
        self._api = api
        self._health = health

    async def post(
        self, owner: str, request: c.PostRequest, body: bytes, bound: BoundUser | None = None
    ) -> PostResponse:
        """Raises Refused for the first media item that can't be used."""
        if self._api is None:
            raise Refused(Problem.POSTS_NOT_CONFIGURED)
        _check_unambiguous(body)
        at_once = asyncio.Semaphore(_CHECKS_AT_ONCE)
        copies: dict[str, str] = {}
        receipts: dict[str, str] = {}

        async def refusal(number: int, item: c.MediaItem) -> Refused | None:
            async with at_once:
                try:
                    await self._check(owner, bound, item, copies, receipts)
                except Refused as refused:
                    refused.field = f"mediaItems[{number}].{refused.field if refused.field == 'type' else 'url'}"
                    return refused
            return None

        try:
            async with asyncio.TaskGroup() as group:  # a bug in one check cancels the others
                checks = [group.create_task(refusal(*numbered)) for numbered in enumerate(request.media_items)]
        except ExceptionGroup as e:
            raise e.exceptions[0] from None
        for check in checks:
            if (refused := check.result()) is not None:
                raise refused
        urls = dict.fromkeys(item.url for item in request.media_items)
        shown = _that_fit([receipts[url] for url in urls if url in receipts])
        return await self._hand_on(self._api, owner, _with_copies(body, copies), shown)

    async def look(self, owner: str, url: str, bound: BoundUser | None = None) -> c.CheckResponse:
        """Return whether a URL can be a media item: an upload's publicUrl, or a direct URL.

        Raises:
            Refused: The store, or a check of the operator, failed.
        """
        try:
            key = self._uploads.key_of(url)
            if key is None:
                return c.CheckResponse.model_validate((await self._urls.check(url)).to_json())
            found = await self._health.while_responding(self._uploads.check(owner, key, bound, copies=False))
        except Refused as refused:
            if refused.problem.status >= 500:
                raise
            shown = str(yarl.URL(url).with_query(None).with_fragment(None).with_user(None))
            error = c.ErrorDetail.model_validate(refused.to_json()["error"])
            return c.CheckResponse(usable=False, url=shown, error=error)
        return c.CheckResponse(
            usable=True,
            url=url,
            key=key if self._uploads.is_final(key) else None,
            content_type=found.kind.content_type,
            type=None if found.kind.kind == "other" else found.kind.kind,
            size=found.size,
            receipt=found.receipt,
        )

    async def _check(
        self, owner: str, bound: BoundUser | None, item: c.MediaItem, copies: dict[str, str], receipts: dict[str, str]
    ) -> None:
        """Raise Refused, or enter in `copies` the URL to post instead of the item's, and in `receipts` its receipt."""
        key = self._uploads.key_of(item.url)
        if key is not None:
            found_upload = await self._health.while_responding(self._uploads.check(owner, key, bound))
            kind = found_upload.kind
            if found_upload.key != key:
                copies[item.url] = self._uploads.public_url(found_upload.key)
            if found_upload.receipt is not None:
                receipts[item.url] = found_upload.receipt
        else:
            found = await self._urls.check(item.url)
            if found.media is None:
                raise Refused(Problem.MEDIA_UNUSABLE, found.message)
            kind = found.media
        if not _fits(item.type, kind):
            raise Refused(Problem.MEDIA_UNUSABLE, f"the file is {kind.name}, not of type {item.type}", field="type")

    async def _hand_on(self, api: PostsApi, owner: str, body: bytes, receipts: Sequence[str]) -> PostResponse:
        """A redirect is handed back, not followed: the post is for the host that the operator named, and no other."""
        headers = CIMultiDict(
            {"Content-Type": "application/json", "Accept-Encoding": "identity", "X-Bigupload-Owner": owner}
        )
        for receipt in receipts:
            headers.add("X-Bigupload-Receipt", receipt)
        if api.authorization is not None:
            headers["Authorization"] = api.authorization
        try:
            async with self._http.post(
                api.url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=_RESPONSE_WITHIN, sock_connect=CONNECT_TIMEOUT),
            ) as response:
                content = bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > _MAX_RESPONSE_BYTES:
                        raise Refused(Problem.POSTS_UNREACHABLE, "the posts API's response is too long")
        except (aiohttp.ClientError, TimeoutError) as e:
            raise Refused(Problem.POSTS_UNREACHABLE) from e
        kept = {name: response.headers[name] for name in _HANDED_BACK if name in response.headers}
        return PostResponse(status=response.status, body=bytes(content), headers=kept)


def _that_fit(receipts: Sequence[str]) -> Sequence[str]:
    """Return the receipts if servers take so many headers, else none: half of them would look like all."""
    return receipts if sum(map(len, receipts)) <= _LONGEST_RECEIPTS else ()


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
"""A JSON string as it is written. In JSON, quotes stand nowhere else."""
_COLON = re.compile(r"\s*:\s*")


def _with_copies(body: bytes, copies: Mapping[str, str]) -> bytes:
    """The post with each `url` that `copies` has replaced by the copy's, and every other byte as it was.

    Written again from what was read, numbers would change that floats do not hold.
    """
    if not copies:
        return body
    text, written, done = body.decode(), [], 0
    name: re.Match[str] | None = None
    for token in _STRING.finditer(text):
        value = json.loads(token[0], strict=False)
        is_value = name is not None and _COLON.fullmatch(text, name.end(), token.start()) is not None
        if is_value and name is not None and json.loads(name[0], strict=False) == "url" and value in copies:
            written += [text[done : token.start()], json.dumps(copies[value])]
            done = token.end()
        name = token
    return "".join([*written, text[done:]]).encode()


def _check_unambiguous(body: bytes) -> None:
    """Raise Refused for a post that the posts API could read otherwise than it is read here: what is checked is posted.

    JSON leaves open which of two fields of one name counts, and parsers differ; some ignore case (Go's).
    """
    try:
        post = json.loads(body, object_pairs_hook=_Pairs, parse_int=str, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # NaN, say, which the first parser lets pass
        raise Refused(Problem.INVALID_JSON) from None
    for number, item in enumerate(_only("mediaItems", post, "") or ()):
        for name in ("type", "url"):
            _only(name, item, f"mediaItems[{number}].")


def _only(name: str, of: _Pairs, where: str) -> Any:
    """The value of a field that nobody can take for another one; None where it is missing."""
    found = [(other, value) for other, value in of if other.casefold() == name.casefold()]
    if len(found) > 1 or (found and found[0][0] != name):
        raise Refused(
            Problem.INVALID_FIELD,
            f"{where}{name} must be there once, spelled like that",
            field=f"{where}{name}",
        )
    return found[0][1] if found else None


class _Pairs(list[tuple[str, Any]]):
    """An object with all its fields."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _fits(wanted: str, kind: MediaType) -> bool:
    """Whether a post's item may have this type. A GIF is an image, and may be called a gif."""
    return kind.name == "GIF" if wanted == "gif" else kind.kind == wanted
