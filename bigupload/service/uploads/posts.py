"""A post's media are checked here; the post itself is the posts API's, and is handed on.

It is handed on byte for byte, but for the URL of an upload that its owner could still replace: in its place stands the
URL of an immutable copy. A presigned PUT stays valid for an hour, even after a post was accepted. So the store copies
the object to a key for which nobody has a URL to write; no bytes pass through the service. `docs/security.md` says why
nothing simpler is safe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

import aiohttp
import yarl
from multidict import CIMultiDict

from bigupload.http.socket_tuning import CONNECT_TIMEOUT
from bigupload.records import dataclass
from bigupload.service import contract as c
from bigupload.service.access.callers import BoundUser
from bigupload.service.media.direct_url import DirectUrls
from bigupload.service.media.media_types import MediaType
from bigupload.service.media_objects import StoreHealth
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.finishing import Finishing, PostableMedia
from bigupload.support.cancellation import for_each


@dataclass(frozen=True, slots=True, kw_only=True)
class PostsApi:
    """The posts API. A caller's key is never forwarded: `authorization` is the service's own."""

    url: str
    authorization: str | None = field(default=None, repr=False)
    """The whole value of the Authorization header."""


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
        finishing: Finishing,
        public_url: Callable[[str], str],
        urls: DirectUrls,
        http: aiohttp.ClientSession,
        api: PostsApi | None,
        health: StoreHealth,
    ) -> None:
        self._finishing = finishing
        self._keys = finishing.policy.keys
        self._public_url = public_url
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
        found: dict[str, PostableMedia | None] = {item.url: None for item in request.media_items}
        refusals: dict[int, Refused] = {}

        async def check(numbered: tuple[int, c.MediaItem]) -> None:
            number, item = numbered
            try:
                found[item.url] = await self._check(owner, bound, item)
            except Refused as refused:
                refused.field = f"mediaItems[{number}].{refused.field if refused.field == 'type' else 'url'}"
                refusals[number] = refused

        await for_each(enumerate(request.media_items), check, at_once=_CHECKS_AT_ONCE)
        if refusals:
            raise refusals[min(refusals)]
        uploads = {url: each for url, each in found.items() if each is not None}
        copies = {url: copy for url, each in uploads.items() if (copy := self._public_url(each.key)) != url}
        shown = _that_fit([each.receipt for each in uploads.values() if each.receipt is not None])
        return await self._hand_on(self._api, owner, _with_copies(body, copies), shown)

    async def look(self, owner: str, url: str, bound: BoundUser | None = None) -> c.CheckResponse:
        """Return whether a URL can be a media item: an upload's publicUrl, or a direct URL.

        Raises:
            Refused: The store, or a check of the operator, failed.
        """
        try:
            key = self.key_of(url)
            if key is None:
                return c.CheckResponse.model_validate((await self._urls.check(url)).to_json())
            found = await self._health.while_responding(self._finishing.postable(owner, key, bound, copies=False))
        except Refused as refused:
            if refused.problem.status >= 500:
                raise
            shown = str(yarl.URL(url).with_query(None).with_fragment(None).with_user(None))
            error = c.ErrorDetail.model_validate(refused.to_json()["error"])
            return c.CheckResponse(usable=False, url=shown, error=error)
        return c.CheckResponse(
            usable=True,
            url=url,
            key=key if self._keys.is_final(key) else None,
            content_type=found.kind.content_type,
            type=None if found.kind.kind == "other" else found.kind.kind,
            size=found.size,
            receipt=found.receipt,
        )

    def key_of(self, url: str) -> str | None:
        """Return the key of an upload's publicUrl; None for another URL.

        The URL is forwarded to the posts API, which may read another spelling as another host. So only the exact text
        that `public_url` returns is an upload.

        Raises:
            Refused: For another spelling of an upload's URL. Checked as a direct URL, it would give access to other
                owners' uploads.
        """
        base = self._public_url("")
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

    async def _check(self, owner: str, bound: BoundUser | None, item: c.MediaItem) -> PostableMedia | None:
        """Return the upload that an item names; None: it names a direct URL. Raises Refused."""
        key, upload = self.key_of(item.url), None
        if key is not None:
            upload = await self._health.while_responding(self._finishing.postable(owner, key, bound))
            kind = upload.kind
        else:
            found = await self._urls.check(item.url)
            if found.media is None:
                raise Refused(Problem.MEDIA_UNUSABLE, found.message)
            kind = found.media
        if not _fits(item.type, kind):
            raise Refused(Problem.MEDIA_UNUSABLE, f"the file is {kind.name}, not of type {item.type}", field="type")
        return upload

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
            Problem.INVALID_FIELD, f"{where}{name} must be there once, spelled like that", field=f"{where}{name}"
        )
    return found[0][1] if found else None


class _Pairs(list[tuple[str, Any]]):
    """An object with all its fields."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _fits(wanted: str, kind: MediaType) -> bool:
    """Whether a post's item may have this type. A GIF is an image, and may be called a gif."""
    return kind.name == "GIF" if wanted == "gif" else kind.kind == wanted
