"""A store in a directory, as the engine's ports: what it has acknowledged is there whatever becomes of the process.

Nothing is fsynced: it stands for a machine that keeps running when this one fails. `reach` is called round every
request, with its name, so that a driver can stop the process there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

from bigupload.core import checksums
from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import CopySource, ObjectFacts
from bigupload.core.manifest import PartRecord, Target
from bigupload.core.part_plan import Limits, Part, Plan
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.ports import Created, Gauge, ListedPart, OpenUpload, PutResponse, SignedRequest, Source, UnsignedPart

from .gauges import FakeGauge

Reach = Callable[[str], object]


class DirectoryStore:
    """One key. Implements `ports.MultipartStore` and `ports.Transport`."""

    target = Target(bucket="bucket", key="key")
    limits = Limits(min_part_size=1, enough_parts=1)
    signs_ahead = 0

    def __init__(self, directory: Path, reach: Reach = lambda _: None) -> None:
        self._directory = directory
        self._reach = reach
        directory.mkdir(exist_ok=True)

    # --- what is there

    @property
    def object(self) -> bytes | None:
        path = self._directory / "object"
        return path.read_bytes() if path.exists() else None

    def uploads(self) -> dict[str, set[int]]:
        """The open ones, and the parts that each has."""
        return {
            path.name: {int(part.stem) for part in path.glob("*.part")} for path in self._directory.glob("upload-*")
        }

    def _upload(self, upload_id: str) -> Path:
        path = self._directory / upload_id
        if not path.is_dir():
            raise Fault(FaultKind.GONE, "no such upload", status=404)
        return path

    async def _request(self, what: str) -> None:
        """It goes out: others may run before the store has it."""
        self._reach(f"before {what}")
        await anyio.sleep(0)

    async def _respond(self, what: str) -> None:
        """The store has acted, and here nobody knows yet."""
        self._reach(f"after {what}")
        await anyio.sleep(0)

    # --- the ports

    def options(self) -> dict[str, Any]:
        return {}

    def restore_options(self, recorded: Mapping[str, Any]) -> list[str]:
        return []

    def url(self) -> str:
        return "directory:///bucket/key"

    async def part_address(self) -> str | None:
        return None

    async def precheck(self) -> None:
        await self._request("precheck")

    async def create(
        self, plan: Plan, algorithm: Algorithm, *, declare: bool, token: str, first: Sequence[UnsignedPart] = ()
    ) -> Created:
        await self._request("create")
        upload_id = f"upload-{token[:8]}"
        fresh = self._directory / f"new-{upload_id}"
        fresh.mkdir()
        (fresh / "token").write_text(token)
        fresh.rename(self._directory / upload_id)
        await self._respond("create")
        return Created(upload_id, algorithm.type if declare else None)

    def refused(self, request: SignedRequest, fault: Fault) -> None:
        pass

    async def sign(self, upload_id: str, parts: Sequence[UnsignedPart]) -> list[SignedRequest]:
        return [SignedRequest(f"{upload_id}/{part.number}", part.headers, 3600) for part in parts]

    def connect_ahead(self, address: str, count: int) -> None:
        pass

    async def put(
        self,
        request: SignedRequest,
        source: Source,
        part: Part,
        *,
        on_start: Callable[[Gauge], None],
        fresh: bool = False,
    ) -> PutResponse:
        on_start(FakeGauge(part.size))
        await self._request("part")
        body = bytearray(part.size)
        source.read_into(memoryview(body), part.offset)
        ((header, sent),) = request.headers.items()
        algorithm = next(a for a in Algorithm if a.is_s3_checksum and a.header == header)
        digest = checksums.encode(checksums.digest_of(algorithm, body))
        if digest != sent:
            raise Fault(FaultKind.CORRUPTED, "other bytes", status=400)
        upload = self._upload(request.url.partition("/")[0])
        fresh = upload / f"{part.number}.new"
        fresh.write_bytes(body)
        fresh.rename(upload / f"{part.number}.part")
        await self._respond("part")
        return PutResponse(_etag(body), {header: digest})

    async def copy_part(self, upload_id: str, part: Part, origin: CopySource) -> PutResponse:
        raise Fault(FaultKind.UNSUPPORTED, "nothing is copied here")

    async def list_parts(self, upload_id: str, algorithm: Algorithm) -> list[ListedPart]:
        await self._request("list")
        rows = []
        for path in sorted(self._upload(upload_id).glob("*.part"), key=lambda path: int(path.stem)):
            body = path.read_bytes()
            digest = checksums.encode(checksums.digest_of(algorithm, body))
            rows.append(ListedPart(int(path.stem), len(body), _etag(body), digest))
        return rows

    async def find_open(self) -> list[OpenUpload]:
        return [OpenUpload(upload_id, "2026-01-01T00:00:00Z") for upload_id in self.uploads()]

    async def stat(self, upload_id: str, algorithm: Algorithm) -> ObjectFacts | None:
        await self._request("stat")
        body = self.object
        return None if body is None else self._facts(body, algorithm)

    def _facts(self, body: bytes, algorithm: Algorithm) -> ObjectFacts:
        known = json.loads((self._directory / "object.json").read_text())
        return ObjectFacts(
            etag=_etag(body),
            size=len(body),
            algorithm=algorithm,
            checksum=checksums.encode(checksums.digest_of(algorithm, body)),
            checksum_type=algorithm.type,
            token=known["token"],
        )

    async def complete(
        self, upload_id: str, parts: Sequence[PartRecord], *, size: int, algorithm: Algorithm, checksum: str | None
    ) -> ObjectFacts:
        await self._request("complete")
        upload = self._upload(upload_id)
        bodies = []
        for part in parts:
            path = upload / f"{part.number}.part"
            if not path.exists() or _etag(path.read_bytes()) != part.etag:
                raise Fault(FaultKind.INVALID_PART, f"part {part.number}", status=400)
            bodies.append(path.read_bytes())
        (self._directory / "object.json").write_text(json.dumps({"token": (upload / "token").read_text()}))
        fresh = self._directory / "object.new"
        fresh.write_bytes(b"".join(bodies))
        fresh.rename(self._directory / "object")
        upload.rename(self._directory / f"done-{upload.name}")
        await self._respond("complete")
        return self._facts(b"".join(bodies), algorithm)

    async def abort(self, upload_id: str) -> None:
        await self._request("abort")
        if (self._directory / upload_id).exists():
            os.rename(self._directory / upload_id, self._directory / f"gone-{upload_id}")
        await self._respond("abort")


def _etag(body: bytes | bytearray) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'
