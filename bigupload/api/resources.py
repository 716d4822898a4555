"""Resources that the uploads of one `Uploader` share, and their wiring: store, transport and journal for each
upload."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from bigupload.api import checks
from bigupload.api.arguments import UploaderOptions, UploadOptions
from bigupload.api.calls import CallRegistry, OpenCall
from bigupload.api.small_files import SmallFiles
from bigupload.api.state import UploaderState
from bigupload.api.types import OpenedSource
from bigupload.api.upload_slots import UploadSlots, divide_descriptors
from bigupload.core.manifest import SourceKind, Target
from bigupload.core.retry_policy import RetryPolicy
from bigupload.engine.context import SharedSlots, UploadContext, UploadSettings
from bigupload.engine.part_hashing import WholeDigests
from bigupload.engine.retrying import Retrier
from bigupload.events import UploadIdentity, Warned, identified
from bigupload.http.client import HttpClients
from bigupload.http.origins import CaBundle
from bigupload.http.put_transport import HttpTransport
from bigupload.http.socket_tuning import check_congestion_control
from bigupload.options import S3Options
from bigupload.ports import Source
from bigupload.stores.s3.bucket import BucketPool
from bigupload.stores.targets import (
    LOCAL_BUCKET,
    Store,
    connect,
    connect_service,
    key_of_file,
    parse_s3_url,
    with_type_of,
)
from bigupload.support.cancellation import run_shielded
from bigupload.support.files import descriptor_limit
from bigupload.support.rate_limiter import RateLimiter, rate_now
from bigupload.units import RateSchedule

if TYPE_CHECKING:  # imported where they are used: one PUT of a small file does without
    from bigupload.api.remote import RemoteOpener
    from bigupload.cluster.membership import Membership
    from bigupload.cluster.transport import ClusterTransport
    from bigupload.manifests.journal import FileJournal
    from bigupload.sources.part_pool import PartPool


class UploaderResources:
    """The calls, manifests, upload slots, connections, slots and threads of one `Uploader`."""

    def __init__(self, options: UploaderOptions) -> None:
        """Check the options; nothing is connected yet.

        Raises:
            UsageError: A value is out of range, or the kernel does not offer the congestion control.
        """
        congestion_control = options.get("congestion_control", "auto")
        check_congestion_control(congestion_control)
        rate = checks.checked_rate(options.get("limit_rate"))
        directory = options.get("state_dir")
        if (concurrency := options.get("concurrency")) is not None:
            checks.checked_number(concurrency, "concurrency", least=1, most=checks.MAX_CONCURRENCY)
        self.retry = options.get("retry") or RetryPolicy()
        self.state = UploaderState(None if directory is None else checks.checked_path(directory, "state_dir"))
        self._clients = HttpClients(checks.checked_proxies(options.get("proxies"), options.get("dask")))
        self.buckets = BucketPool(self._clients)
        self.calls = CallRegistry()
        self._temp_dir = checks.checked_temp_dir(options.get("temp_dir"))
        if (max_uploads := options.get("max_uploads")) is not None:
            checks.checked_number(max_uploads, "max_uploads", least=1)
        budget = divide_descriptors(descriptor_limit(), concurrency=concurrency, max_uploads=max_uploads)
        self.upload_slots = UploadSlots(budget.uploads, are_all=max_uploads is not None)
        self.shared = SharedSlots(
            concurrency, most=budget.parts, hedge=options.get("hedge", True), rate=lambda: rate_now(rate)
        )
        self.reading = asyncio.Semaphore(os.cpu_count() or 1)
        """Threads that read files once more, to hash them."""
        self.clock = time.monotonic
        """Seconds from any start."""
        self._congestion_control = congestion_control
        self._limiter = RateLimiter(rate) if rate is not None else None
        self._cluster = self._new_cluster(checks.checked_dask(options.get("dask")), rate)
        self._transports: dict[CaBundle, HttpTransport] = {}
        self._exits = contextlib.AsyncExitStack()
        self.small = SmallFiles(self)

    @functools.cached_property
    def parts(self) -> PartPool:
        """Holds the parts of streams."""
        from bigupload.sources.part_pool import PartPool

        return PartPool(self._temp_dir)

    async def aclose(self) -> None:
        """End the calls that are under way, close connections and end threads.

        Raises:
            UsageError: The caller is the `on_event` of one of the calls. Nothing was ended.
        """
        self.calls.check_end()
        try:
            try:
                await self.calls.aclose()
            finally:
                try:
                    await self.small.aclose()
                    if self._cluster is not None:
                        await run_shielded(self._cluster.aclose())
                finally:
                    await self._exits.aclose()
        finally:  # a cancelled scope of anyio cancels each await that waits
            self._transports.clear()
            self.state.close()
            await self.buckets.aclose()  # waits for nothing: the connections are those of the clients
            await self._clients.aclose()

    def opener(
        self, call: OpenCall, opened: contextlib.AsyncExitStack, source: str, *, target: str, with_head: bool
    ) -> RemoteOpener:
        """Return an opener of a source that is given by its URL.

        Args:
            call: The call that it is for.
            opened: Closes the connections.
            source: The name of the source, for events.
            target: The target of the upload, for events.
            with_head: Whether to read its first bytes at once.
        """
        upload = UploadIdentity(source=source, target=target, id="", manifest=None)
        retrier = Retrier(policy=self.retry, emit=identified(upload, call.emit_as_own), peer="the source")
        from bigupload.api.remote import RemoteOpener

        return RemoteOpener(retrier=retrier, pool=self.parts, buckets=self.buckets, opened=opened, with_head=with_head)

    async def connect(self, opened: OpenedSource, options: UploadOptions) -> Store:
        """The store of a new upload; the caller closes it."""
        s3, service = opened.typed(options.get("s3") or S3Options()), options.get("service")
        source, name = opened.source, opened.name
        if service is not None:
            return connect_service(service, s3, api_key=options.get("api_key"), name=name, source=source)
        to = options.get("to") or f"s3://{LOCAL_BUCKET}/"
        has_own_name = source.kind is SourceKind.FILE and options.get("name") is None
        bucket, key = key_of_file(to, source.path, name) if has_own_name else parse_s3_url(to, name)
        return await connect(bucket, key, with_type_of(name, s3), self.buckets)

    async def context(
        self,
        source: Source,
        store: Store,
        journal: FileJournal,
        settings: UploadSettings,
        call: OpenCall,
        whole: WholeDigests | None = None,
    ) -> UploadContext:
        """The engine's context of one upload."""
        here = await self.transport(store.ca_bundle)
        spread = self._cluster_transport(here, store.ca_bundle)
        emit = call.emit_of(source.path, store.target, journal)
        notes = [] if spread is None else await spread.join(source, lambda note: emit(Warned(message=note)))
        context = UploadContext(
            policy=self.retry,
            emit=emit,
            answered_before=self._answered_before(store.target),
            source=source,
            store=store,
            transport=spread or here,
            journal=journal,
            settings=settings,
            shared=self.shared,
            hash_elsewhere=None if spread is None else spread.hasher(source),
            groups=None if spread is None else spread.groups(source),
            whole=whole,
        )
        for note in notes:
            context.warn(note)
        return context

    def _answered_before(self, target: Target) -> Callable[[], Awaitable[bool]] | None:
        """Return a function: did the media service respond to an earlier run? Then it may just be restarting."""
        if target.service is None:
            return None
        service = target.service
        return lambda: self.state.has_uploaded_through(service)

    def _new_cluster(self, where: object, rate: float | RateSchedule | None) -> Membership | None:
        if where is None:
            return None
        from bigupload.cluster.membership import Membership, RateShares

        shares = None if self._limiter is None else RateShares(lambda: rate_now(rate), self._limiter)
        return Membership(
            where,
            spread=self.shared.spread,
            shares=shares,
            congestion=self._congestion_control,
            adapts=self.shared.flight.adapts,
        )

    def _cluster_transport(self, here: HttpTransport, ca_bundle: CaBundle) -> ClusterTransport | None:
        if self._cluster is None:
            return None
        from bigupload.cluster.transport import ClusterTransport

        return ClusterTransport(self._cluster, here, ca_bundle)

    async def transport(self, ca_bundle: CaBundle) -> HttpTransport:
        """The connections that trust these certificates."""
        if ca_bundle not in self._transports:
            client = self._clients.of(ca_bundle)
            transport = HttpTransport(client, limiter=self._limiter, congestion=self._congestion_control)
            self._transports[ca_bundle] = await self._exits.enter_async_context(transport)
        return self._transports[ca_bundle]
