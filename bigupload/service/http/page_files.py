"""The upload page's files, with the service's policy, and those of the JavaScript client."""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.resources
import json
import mimetypes
import re
from importlib.resources.abc import Traversable

from multidict import CIMultiDict

from bigupload.service.call import Answer, WebCall
from bigupload.service.media.policy import Policy
from bigupload.service.problems import Problem, Refused

_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", re.IGNORECASE)
"""In `Accept-Encoding`: RFC 9110, 12.5.3. With `q=0`, the client refuses it."""
_ENTRY = b'export * from "./client/index.js";\n'
"""`/v1/client.js`: the address that pages of other origins import."""


class PageFiles:
    """The upload page's files, with the service's policy, and the client's. They are read once."""

    def __init__(self, store_origin: str, policy: Policy, *, own_users: bool) -> None:
        """Read them.

        Args:
            store_origin: Where the page may send parts to, like https://store.example.com.
            policy: What the service accepts.
            own_users: Whether an application knows its users by other means than keys and tokens.
        """
        folder = importlib.resources.files("bigupload.service").joinpath("browser")
        self._page = _read(folder.joinpath("page"))
        self._page["policy.js"] = policy_module(policy, own_users=own_users).encode()
        self._client = _read(folder.joinpath("client"), ends=".js")
        self._policy = "; ".join(
            (
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "img-src 'self'",
                f"connect-src 'self' {store_origin}".strip(),
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            )
        )

    def page(self, call: WebCall) -> Answer:
        """Answer with a file of the page."""
        name = call.parameters.get("name", "index.html")
        return _answer(call, name, self._page.get(name), {"Content-Security-Policy": self._policy})

    def client(self, call: WebCall) -> Answer:
        """Answer with a module of the client, or with the one that exports them all."""
        name = call.parameters.get("name")
        content = _ENTRY if name is None else self._client.get(name)
        return _answer(call, name or "client.js", content, {})


def _read(folder: Traversable, *, ends: str = "") -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file() and f.name.endswith(ends)}


def _answer(call: WebCall, name: str, content: bytes | None, more: dict[str, str]) -> Answer:
    """Answer with a file. A browser keeps it, and asks each time whether it is still the same."""
    if content is None:
        raise Refused(Problem.NOT_FOUND)
    etag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = CIMultiDict({**more, "Cache-Control": "no-cache", "ETag": etag, "Vary": "Accept-Encoding"})
    known = [tag.strip().removeprefix("W/") for tag in call.headers.get("If-None-Match", "").split(",")]
    if etag.removeprefix("W/") in known or "*" in known:
        return Answer(status=304, headers=headers)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    headers["Content-Type"] = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
    if _GZIP.search(call.headers.get("Accept-Encoding", "")):
        content = _compressed(content)
        headers["Content-Encoding"] = "gzip"
    return Answer(body=content, headers=headers)


@functools.lru_cache(maxsize=256)
def _compressed(content: bytes) -> bytes:
    """All files together are 95 kB then, and not 260."""
    return gzip.compress(content, mtime=0)


def policy_module(policy: Policy, *, own_users: bool = False) -> str:
    """Return the page's module `policy.js`: what the service accepts, and whether only a key or token says for whom."""
    told = {
        "maxSize": policy.max_file_size,
        "keep": policy.keep,
        **policy.types.for_page(),
        "ownUsers": own_users,
    }
    return f"{_POLICY_COMMENT}\n\nexport const POLICY = {json.dumps(told, indent=2)};\n"


_POLICY_COMMENT = "// What the service accepts: bytes, seconds, types. A service serves its own in place of this file."
