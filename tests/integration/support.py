"""What the integration tests share: small limits, files of known bytes, and one upload's surroundings."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bigupload
from bigupload import S3Options, Verified, events
from bigupload.core.manifest import Manifest
from bigupload.core.part_plan import MIB, Limits
from bigupload.core.retry_policy import RetryPolicy
from bigupload.manifests.journal import read_manifest
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.leaks import no_leaks, open_descriptors

__all__ = [
    "BUCKET", "FAST", "KIB", "LEVELS", "LIMITS", "PART", "World", "assert_secretless", "content", "no_leaks",
    "open_descriptors", "sha256", "whole_text", "write",
]  # fmt: skip

KIB = 1024
PART = 64 * KIB
LIMITS = Limits(
    min_part_size=KIB, max_part_size=MIB, max_parts=10_000, default_part_size=PART, granule=KIB, enough_parts=1
)
BUCKET = "bucket"
FAST = RetryPolicy(base_delay=0, max_delay=0)
LEVELS = {  # what a store that knows everything proves by each --checksum
    "auto": Verified.FULL_OBJECT,
    "crc64nvme": Verified.FULL_OBJECT,
    "crc32c": Verified.FULL_OBJECT,
    "sha256": Verified.COMPOSITE_CHECKSUM,
    "md5": Verified.COMPOSITE_ETAG,
    "none": Verified.SIZE,
}


@functools.lru_cache(maxsize=8)
def _longest(seed: int) -> list[bytes]:
    """The longest content that was made of a seed, which begins as all others do."""
    return [b""]


@functools.lru_cache(maxsize=8)
def content(size: int, seed: int = 0) -> bytes:
    """Bytes in which no two places look alike."""
    longest = _longest(seed)
    if len(longest[0]) < size:
        longest[0] = hashlib.shake_128(str(seed).encode()).digest(size)  # 2 ms for each MiB; `random` takes 5
    return longest[0][:size]


def write(path: Path, size: int, seed: int = 0) -> Path:
    path.write_bytes(content(size, seed))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def with_steps(options: dict[str, Any]) -> dict[str, Any]:
    """Options, of which those that are options of the command line alone are steps."""
    given = dict(options)
    digests = [name for name in ("sha256", "xxh128") if given.pop(name, False)]
    of_deletion = {"proved_by": "delete_if_proved", "empty_dirs": "delete_empty_dirs", "links": "delete_links"}
    deletion = {name: given.pop(option) for name, option in of_deletion.items() if option in given}
    share, receipt, deletes = given.pop("share", None), given.pop("receipt", None), given.pop("delete_source", False)
    steps: list[Any] = [bigupload.Digest(*digests)] if digests else []
    steps += [bigupload.Link(share)] if share is not None else []
    steps += [bigupload.Receipt(receipt)] if receipt is not None else []
    steps += [bigupload.DeleteSource(**deletion)] if deletes else []
    return {"then": tuple(steps)} | given if steps else given


def of_function(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a function, of which those of an `Uploader` are in one, and others are steps."""
    options = with_steps(options)
    shared = {name: value for name, value in options.items() if name in bigupload.UploaderOptions.__annotations__}
    rest = {name: value for name, value in options.items() if name not in shared}
    return rest | {"uploader": bigupload.Uploader(**shared)} if shared else rest  # type: ignore[typeddict-item]  # any


@dataclass
class World:
    """One file's way into one StrictS3. Credentials come from the environment, so that a resume finds them too."""

    s3: Any  # a StrictS3; None where the upload goes elsewhere
    directory: Path
    events: list[events.Event] = field(default_factory=list)
    parts: int = 6
    """Of the file, for `missing`."""

    @property
    def manifest_path(self) -> Path:
        return self.directory / "the.manifest.jsonl"

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.manifest_path).manifest

    def options(self, **more: Any) -> S3Options:
        return S3Options(endpoint_url=self.s3.url, region=self.s3.region, ca_bundle=self.s3.ca_bundle, **more)

    def file(self, size: int, name: str = "file.bin", seed: int = 0) -> Path:
        return write(self.directory / name, size, seed)

    async def upload(
        self, path: Path, *, to: str = f"s3://{BUCKET}/key", options: S3Options | None = None, **more: Any
    ) -> bigupload.UploadResult:
        more.setdefault("retry", FAST)
        more.setdefault("manifest", self.manifest_path)
        more = of_function(more)
        return await bigupload.upload(
            path, to=to, s3=options or self.options(), on_event=self.events.append, **of_function(more)
        )

    async def resume(
        self, manifest: Path | None = None, *, retry: RetryPolicy = FAST, **more: Any
    ) -> bigupload.UploadResult:
        async with bigupload.Uploader(retry=retry) as uploader:
            return await uploader.resume(manifest or self.manifest_path, on_event=self.events.append, **more)

    async def adopt(self, path: Path, *, to: str = f"s3://{BUCKET}/key", **more: Any) -> bigupload.UploadResult:
        async with bigupload.Uploader(retry=FAST) as uploader:
            more.setdefault("manifest", self.manifest_path)
            return await uploader.adopt(to, source=path, s3=self.options(), on_event=self.events.append, **more)

    async def interrupted(self, path: Path, *, after: int, **more: Any) -> None:
        """Upload until `after` parts are recorded, then cancel. The last part is put off by the store until then."""
        if self.s3 is not None:
            later = Status(503, "SlowDown", headers={"Retry-After": "900"})
            self.s3.script("UploadPart", later, part_number=self.parts, repeat=True)
        count = 0

        def on_event(event: events.Event) -> None:
            nonlocal count
            count += isinstance(event, events.PartUploaded)
            if count == after:
                task.cancel()

        more = {"retry": FAST, "manifest": self.manifest_path, "concurrency": 1, "to": f"s3://{BUCKET}/key"} | more
        more["s3"] = more.get("s3") or self.options()
        task = asyncio.create_task(bigupload.upload(path, on_event=on_event, **of_function(more)))
        try:
            # Fewer parts than `after` would mean to wait for the one that is put off, and that for long.
            await asyncio.wait_for(task, 60)
        except asyncio.CancelledError:
            if self.s3 is not None:
                await self.settled()  # else the part that is put off may be read only now, and taken
                self.s3.clear("UploadPart")
            return
        raise AssertionError("the upload ended before it could be interrupted")

    async def settled(self) -> None:
        """Until the store has ended with every request, those included whose client has gone before it was read."""
        await asyncio.to_thread(self.s3.settle)

    def missing(self) -> list[int]:
        """The parts that the one open upload has not, whatever the manifest says."""
        (upload,) = self.s3.uploads.values()
        return sorted(set(range(1, self.parts + 1)) - set(upload.parts))

    def sent(self, *, since: int = 0) -> list[int]:
        """The numbers of the parts that were PUT, in order of arrival, from request number `since` on."""
        return [r.part_number or 0 for r in list(self.s3.requests)[since:] if r.op == "UploadPart"]

    def object(self, key: str = "key") -> Any:
        return self.s3.objects[BUCKET].get(key)

    def holds(self, path: Path, key: str = "key") -> bool:
        found = self.object(key)
        return found is not None and found.sha256() == sha256(path)

    def told(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def warnings(self) -> str:
        return "\n".join(event.message for event in self.told(events.Warned))


def whole_text(e: BaseException) -> str:
    """All that a log could show of an error: str, repr, and the traceback with its causes and contexts."""
    return "\n".join([str(e), repr(e), *traceback.format_exception(e)])


def assert_secretless(e: BaseException, secrets: Iterable[str] = (StrictS3.secret_key,)) -> None:
    text = whole_text(e)
    for secret in ("X-Amz-Signature", "X-Amz-Credential", *secrets):
        assert secret not in text, f"{secret} is in {text}"
