"""A service's settings, and what it works with while it runs: the store, its policy, the keys."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.errors import UsageError
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.service.access.callers import Authorize, RequestRateLimit
from bigupload.service.access.handles import Handles, Receipts
from bigupload.service.access.keys import SHORTEST_SECRET, KeyFile
from bigupload.service.access.shared import SharedEngine, check_shared_url
from bigupload.service.access.upload_tokens import Revocations, UploadTokens
from bigupload.service.call import AccessLog, write_line
from bigupload.service.http.monitoring import Metrics, MonitoredBucket, OpenUploads, Tracing
from bigupload.service.media.direct_url import DirectUrls
from bigupload.service.media.object_keys import public_urls
from bigupload.service.media.policy import PUBLISHED_POLICY, Policy, agreed_policy
from bigupload.service.media_objects import STORE_TIMEOUT, MediaBucket, StoreHealth
from bigupload.service.uploads.bucket_rules import browser_trouble
from bigupload.service.uploads.posts import Posts, PostsApi
from bigupload.service.uploads.quota import UploadLimits
from bigupload.service.uploads.uploads import MediaUploads
from bigupload.service.webhooks.hooks import (
    HookSettings,
    Signer,
    check_hook,
    check_secret,
    check_webhook_url,
    connections,
    opened_hooks,
)
from bigupload.service.webhooks.telling import Deliverer, Telling
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.stores.targets import reach


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig(HookSettings, UploadLimits):
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
class OpenService:
    """The parts of a running application."""

    uploads: MediaUploads
    posts: Posts
    keys: KeyFile | None
    tokens: UploadTokens
    rate: RequestRateLimit
    health: StoreHealth
    policy: Policy
    receipts: Receipts
    revocations: Revocations
    store_origin: str
    """Scheme, host and port of the signed URLs: the page may send requests there."""


@contextlib.asynccontextmanager
async def opened(
    config: ServiceConfig, log: AccessLog, metrics: Metrics, tracing: Tracing
) -> AsyncIterator[OpenService]:
    """Reach the store and read the keys. Raises BigUploadError if the service could not work."""
    keys = None if config.keys is None else KeyFile(config.keys)
    if keys is not None:
        keys.load()
    if config.s3.endpoint_url is None:  # the environment may name it
        config = dataclasses.replace(config, s3=await reach(config.s3))
    bucket = MonitoredBucket(
        config.bucket,
        config.s3,
        metrics=metrics,
        tracing=tracing,
        signing_endpoint=config.signing_endpoint,
        urls_hold=True,
        answer_within=config.store_timeout,
    )
    async with (
        contextlib.aclosing(bucket),
        _health(config, log, metrics) as health,
        _engine(config, log, metrics) as engine,
        opened_hooks(config, log, functools.partial(metrics.record, "hooks")) as hooks,
        contextlib.AsyncExitStack() as stack,
    ):
        try:
            await _look_at(bucket)
            policy = await agreed_policy(bucket, config.policy)
            (signed,) = await bucket.presign("PutObject", [{"Key": f"{policy.keys.prefix}any"}])
        except Fault as fault:
            raise fault.public() from fault
        trouble = await browser_trouble(bucket, config.cors_origins)
        if trouble is not None:
            log.write_event("cors", message=trouble)
        telling = None
        if config.webhook_urls:
            telling = Telling(bucket, policy.keys, config.public_url, uploads=config.webhook_uploads)
        public_url = public_urls(bucket.url, config.public_url)
        receipts = Receipts(config.secrets, public_url=public_url, policy=policy, clock=time.time)
        uploads = MediaUploads(
            bucket,
            Handles(config.secrets, clock=time.time, lifetime=policy.upload_lifetime),
            public_url=config.public_url,
            policy=policy,
            limits=config,
            engine=engine,
            hooks=hooks,
            telling=telling,
            receipts=receipts,
        )
        await stack.enter_async_context(contextlib.aclosing(uploads))
        metrics.more.register(open_uploads := OpenUploads(lambda: bucket.open_uploads(policy.keys.prefix)))
        await stack.enter_async_context(contextlib.aclosing(open_uploads))
        await stack.enter_async_context(_delivering(config, uploads, log, metrics))
        revocations = Revocations(MediaBucket(bucket))
        urls = await stack.enter_async_context(DirectUrls(allow_private=config.allow_private_media_hosts))
        http = await stack.enter_async_context(connections())
        alone = functools.partial(metrics.record, "shared_fallbacks")
        yield OpenService(
            uploads=uploads,
            posts=Posts(uploads.finishing, public_url, urls, http, config.posts_api, health),
            keys=keys,
            tokens=UploadTokens(config.secrets, clock=time.time),
            rate=RequestRateLimit(config.requests_a_second, engine, on_alone=alone),
            health=health,
            policy=policy,
            receipts=receipts,
            revocations=revocations,
            store_origin=origin_of(signed),
        )


@contextlib.asynccontextmanager
async def _delivering(
    config: ServiceConfig, uploads: MediaUploads, log: AccessLog, metrics: Metrics
) -> AsyncIterator[None]:
    """Deliver events to the webhooks, if there are any."""
    if uploads.telling is None:
        yield
        return
    async with connections() as http:
        deliverer = Deliverer(
            uploads.telling,
            config.webhook_urls,
            http=http,
            signer=Signer(config.webhook_secrets),
            settle_upload=uploads.settle,
            log=log,
            count=functools.partial(metrics.record, "webhooks"),
            on_waiting=lambda number: metrics.record("webhooks_waiting", value=number),
        )
        async with deliverer.running():
            yield


@contextlib.asynccontextmanager
async def _health(config: ServiceConfig, log: AccessLog, metrics: Metrics) -> AsyncIterator[StoreHealth]:
    """Ask the store over a connection of its own: calls that hang take all the others."""
    tell = _teller("store", log, metrics)
    bucket = S3Bucket(config.bucket, config.s3, answer_within=config.store_timeout)
    async with contextlib.aclosing(bucket):
        await bucket.prepare()  # now, and not within the short time limit of the first question
        yield StoreHealth(
            lambda: bucket.call("to see whether it responds", "HeadBucket"),
            patience=config.store_timeout,
            on_change=tell,
        )


@contextlib.asynccontextmanager
async def _engine(config: ServiceConfig, log: AccessLog, metrics: Metrics) -> AsyncIterator[SharedEngine | None]:
    """Connect to Valkey or Redis, if the settings name one."""
    if config.shared is None:
        yield None
        return
    tell = _teller("shared", log, metrics)
    async with SharedEngine(config.shared, prefix=f"bigupload:{config.bucket}", on_change=tell) as engine:
        yield engine


def _teller(name: str, log: AccessLog, metrics: Metrics) -> Callable[[str | None], None]:
    """Return what tells the log and the metrics why the store, or what replicas share, responds no more; None: it does.

    It does in the beginning.
    """

    def tell(reason: str | None) -> None:
        metrics.record(f"{name}_up", value=reason is None)
        log.write_event(name, responds=reason is None, error=reason)

    metrics.record(f"{name}_up")
    return tell


async def _look_at(bucket: S3Bucket) -> None:
    """Check the bucket, so that a wrong name, region or key fails the start. Raises Fault or BigUploadError."""
    try:
        await bucket.call("to look at the bucket", "HeadBucket")
    except Fault as fault:
        if fault.status != 404:  # a response to HEAD has no body, so there is no code NoSuchBucket
            raise
        made_by = f"bigupload bucket setup s3://{bucket.name} makes it"
        raise errors.BucketNotFound(f"there is no bucket {bucket.name!r} at this store: {made_by}") from fault


def origin_of(url: str) -> str:
    """Scheme, host and port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
