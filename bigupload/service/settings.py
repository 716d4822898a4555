"""How a service is run: one object that the command line fills."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bigupload.options import S3Options


@dataclass(frozen=True, slots=True, kw_only=True)
class PostsApi:
    """Where posts go. A caller's own key is never handed on: `authorization` is the service's."""

    url: str
    authorization: str | None = field(default=None, repr=False)
    """The value of the Authorization header, whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """How a service is run."""

    host: str
    port: int
    """0: any that is free."""
    workers: int
    """Processes that answer requests."""
    bucket: str
    s3: S3Options
    signing_endpoint: str | None
    """The store's endpoint as clients reach it; None: the one of `s3`."""
    public_url: str | None
    """Where the bucket's objects are for everyone; None: at the endpoint that is signed for."""
    keys: Path
    """The file of the API keys."""
    secrets: tuple[str, ...] = field(repr=False)
    """The secrets that sign upload handles: the last one signs, all are accepted."""
    requests_a_second: float
    """Of one API key, in one process. As many may come at once as in two seconds."""
    max_open_uploads: int
    """Of one owner."""
    posts_api: PostsApi | None
    allow_private_media_hosts: bool
    """Whether direct URLs may lead to private addresses."""
    sweep_every: float
    """Seconds between two sweeps; 0: never sweep."""
