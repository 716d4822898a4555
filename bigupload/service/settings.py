"""The settings of a service, which the command line fills in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bigupload.options import S3Options


@dataclass(frozen=True, slots=True, kw_only=True)
class PostsApi:
    """The posts API. A caller's key is never forwarded: `authorization` is the service's own."""

    url: str
    authorization: str | None = field(default=None, repr=False)
    """The whole value of the Authorization header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """The settings of a service."""

    host: str
    port: int
    """0: any free port."""
    workers: int
    """How many processes answer requests."""
    bucket: str
    s3: S3Options
    signing_endpoint: str | None
    """The store's endpoint as clients reach it; None: the one of `s3`."""
    public_url: str | None
    """The public URL of the bucket's objects; None: at the endpoint for which URLs are signed."""
    keys: Path
    """The path of the key file."""
    secrets: tuple[str, ...] = field(repr=False)
    """The secrets that sign upload handles: the last one signs, all are accepted."""
    requests_a_second: float
    """Requests a second of one API key in one process. Those of two seconds may come at once."""
    max_open_uploads: int
    """The most open uploads of one owner."""
    posts_api: PostsApi | None
    allow_private_media_hosts: bool
    """Whether direct URLs may lead to private addresses."""
    sweep_every: float
    """Seconds between two sweeps; 0: never sweep."""
