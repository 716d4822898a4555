"""The settings of a service: an application fills them in, or the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from bigupload.errors import UsageError
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.service.access.callers import Authorize
from bigupload.service.access.keys import SHORTEST_SECRET
from bigupload.service.access.shared import check_shared_url
from bigupload.service.access_log import write_line
from bigupload.service.media.policy import PUBLISHED_POLICY
from bigupload.service.media_objects import STORE_TIMEOUT
from bigupload.service.uploads.posts import PostsApi
from bigupload.service.webhooks.hooks import HookSettings, check_hook, check_secret, check_webhook_url


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig(HookSettings):
    """The settings of a service, whatever process it runs in. Raises UsageError for those that can't be."""

    bucket: str
    """The name of the bucket, which `bigupload bucket setup` prepared."""
    s3: S3Options
    """The options for the connection to the store."""
    signing_endpoint: str | None = None
    """The store's endpoint as clients reach it; None: the one of `s3`."""
    public_url: str | None = None
    """The public URL of the bucket's objects; None: at the endpoint for which URLs are signed."""
    keys: Path | None = None
    """The path of the key file; None: there are no API keys."""
    authorize: Authorize | None = None
    """Asked before API keys and upload tokens, if an application knows its users by other means."""
    secrets: tuple[str, ...] = field(repr=False)
    """The secrets that sign upload handles and tokens, of 32 characters or more: the last one signs, all are
    accepted."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of the load balancers whose X-Forwarded-For or Forwarded has the client's address."""
    store_timeout: float = STORE_TIMEOUT
    """Seconds that a call to the store may take. A complete or a copy may take longer while the store responds."""
    requests_a_second: float = 100.0
    """Requests a second of one API key in one process, or with `shared` in all of them. Those of two seconds may come
    at once."""
    max_open_uploads: int = 1000
    """The most open uploads of one owner. Those that are for an end user do not count."""
    quota: int | None = None
    """The most bytes of one owner's objects; None: any number."""
    max_open_uploads_of_user: int = 50
    """The most open uploads of one end user of an owner."""
    user_quota: int | None = None
    """The most bytes of one end user's objects; None: any number."""
    user_files: int | None = None
    """The most files of one end user; None: any number."""
    shared: str | None = field(default=None, repr=False)
    """The URL of the Valkey or Redis through which replicas share limits, with its password; None: none is shared."""
    posts_api: PostsApi | None = None
    allow_private_media_hosts: bool = False
    """Whether direct URLs may lead to private addresses."""
    policy: Mapping[str, Any] = field(default_factory=dict)
    """The fields of `Policy` that were named; the bucket has the others."""
    cors_origins: tuple[str, ...] = ()
    """The origins whose pages may call the API; "*": every origin."""
    log: Callable[[str], None] = write_line
    """Takes each line of the log: JSON without a line end. By default, they go to standard error."""

    def __post_init__(self) -> None:
        if self.keys is None and self.authorize is None:
            raise UsageError("a service needs `keys`, the path of a key file, or `authorize`, a function")
        if not self.secrets or any(len(secret) < SHORTEST_SECRET for secret in self.secrets):
            raise UsageError(f"`secrets` holds one text or more, each of {SHORTEST_SECRET} characters or more")
        PUBLISHED_POLICY.replaced(self.policy)
        if self.shared is not None:
            check_shared_url(self.shared)
        for url in self.webhook_urls:
            check_webhook_url(url)
        if self.webhook_urls and not self.webhook_secrets:
            raise UsageError("`webhook_urls` needs `webhook_secrets`, by which receivers know the service")
        for secret in self.webhook_secrets:
            check_secret(secret)
        check_hook("before_create", self.before_create, self.webhook_secrets)
        check_hook("before_finish", self.before_finish, self.webhook_secrets)
        if not self.hook_timeout > 0:
            raise UsageError("`hook_timeout` is a number of seconds above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings(ServiceConfig):
    """The settings of `bigupload serve`."""

    host: str
    port: int
    """0: any free port."""
    workers: int
    """The number of processes that answer requests."""
    stop_delay: float = 0.0
    """Seconds for which the service goes on after a stop signal, while `/readyz` fails."""
    sweep_every: float
    """Seconds between two sweeps; 0: never sweep."""
