"""What the uploads of one `Uploader` share, and how it is wired: store, transport and journal for each upload."""

from __future__ import annotations

import contextlib
from pathlib import Path

from bigupload.api import arguments
from bigupload.api.arguments import UploaderOptions, UploadOptions
from bigupload.api.calls import OpenCall, OpenCalls
from bigupload.api.places import Places
from bigupload.api.state import UploaderState
from bigupload.core.descriptor_budget import divide_descriptors
from bigupload.core.retry_policy import RetryPolicy
from bigupload.engine.context import SharedResources, UploadContext, UploadSettings
from bigupload.engine.retrying import Retrier
from bigupload.http.connections import CaBundle
from bigupload.http.put_transport import HttpTransport, check_congestion_control
from bigupload.manifests.journal import FileJournal
from bigupload.options import S3Options
from bigupload.ports import Source
from bigupload.sources.part_pool import PartPool
from bigupload.stores.s3.bucket_pool import BucketPool
from bigupload.stores.targets import LOCAL_BUCKET, Store, connect, connect_service, parse_s3_url, with_type_of
from bigupload.support.descriptors import descriptor_limit
from bigupload.support.rate_limiter import RateLimiter


class UploaderResources:
    """The calls, manifests, places, connections, slots and threads of one `Uploader`."""

    def __init__(self, options: UploaderOptions) -> None:
        """Check the options; nothing is connected yet.

        Raises:
            UsageError: A value is out of range, or the kernel does not offer the congestion control.
        """
        congestion_control = options.get("congestion_control", "auto")
        check_congestion_control(congestion_control)
        rate = arguments.checked_rate(options.get("limit_rate"))
        directory = options.get("state_dir")
        concurrency = arguments.checked_concurrency(options.get("concurrency"))
        self.retry = options.get("retry") or RetryPolicy()
        self.state = UploaderState(None if directory is None else arguments.checked_path(directory, "state_dir"))
        self.buckets = BucketPool()
        self.calls = OpenCalls()
        self.parts = PartPool(arguments.checked_temp_dir(options.get("temp_dir")))
        max_uploads = arguments.checked_max_uploads(options.get("max_uploads"))
        budget = divide_descriptors(descriptor_limit(), concurrency=concurrency, max_uploads=max_uploads)
        self.places = Places(budget.uploads)
        self._shared = SharedResources(concurrency, most=budget.parts, hedge=options.get("hedge", True))
        self._congestion_control = congestion_control
        self._limiter = RateLimiter(rate) if rate is not None else None
        self._transports: dict[CaBundle, HttpTransport] = {}
        self._exits = contextlib.AsyncExitStack()

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
                await self._exits.aclose()
        finally:  # a cancelled scope of anyio cancels each await that waits: these two do not
            self._transports.clear()
            await self.buckets.aclose()
            self.places.close()
            self.state.close()

    async def connect(self, source: Source, options: UploadOptions) -> Store:
        """The store of a new upload; the caller closes it."""
        s3, service = options.get("s3") or S3Options(), options.get("service")
        name = options.get("name") or Path(source.path).name
        if service is not None:
            return connect_service(service, s3, api_key=options.get("api_key"), name=name, source=source)
        bucket, key = parse_s3_url(options.get("to") or f"s3://{LOCAL_BUCKET}/", name)
        return await connect(bucket, key, with_type_of(name, s3), self.buckets)

    async def context(
        self, source: Source, store: Store, journal: FileJournal, settings: UploadSettings, call: OpenCall
    ) -> UploadContext:
        """The engine's context of one upload."""
        return UploadContext(
            retrier=Retrier(policy=self.retry, emit=call.emit_of(source.path, store.target, journal)),
            source=source,
            store=store,
            transport=await self._transport(store.ca_bundle),
            journal=journal,
            settings=settings,
            shared=self._shared,
        )

    async def _transport(self, ca_bundle: CaBundle) -> HttpTransport:
        if ca_bundle not in self._transports:
            transport = HttpTransport(ca_bundle=ca_bundle, limiter=self._limiter, congestion=self._congestion_control)
            self._transports[ca_bundle] = await self._exits.enter_async_context(transport)
        return self._transports[ca_bundle]
