"""One process of the model: an action of the real library, and what came of it, told through a pipe.

It is forked by multiprocessing's fork server and may be killed at any time, by itself too: at its so-many-th change to
the manifests' files. Its disk may be full after so many bytes. Knows nothing of what the model expects.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from bigupload import S3Options, Uploader, UploadResult, errors
from bigupload.api import small_files
from bigupload.engine import context, multipart_upload
from bigupload.engine.retrying import Retrier
from bigupload.events import Event
from bigupload.stores.s3.multipart import S3Store
from bigupload.verification.orphans import Orphan, OrphanSearch, Owners
from tests.crash.steps import NEVER, Steps, double_os
from tests.integration.support import FAST, LIMITS, whole_text

from .mutants import MUTANTS

Action = Literal["upload", "resume", "abort", "adopt", "gc"]


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Credentials, given as arguments or found in the environment; without an access key there are none."""

    access_key: str | None
    secret_key: str = ""
    session_token: str | None = None
    as_arguments: bool = True

    def environment(self) -> dict[str, str]:
        if self.access_key is None or self.as_arguments:
            return {}
        named = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        return named | ({"AWS_SESSION_TOKEN": self.session_token} if self.session_token else {})

    def arguments(self) -> dict[str, Any]:
        if self.access_key is None or not self.as_arguments:
            return {}
        return {"access_key": self.access_key, "secret_key": self.secret_key, "session_token": self.session_token}


@dataclass(frozen=True, kw_only=True)
class Order:
    """The command. `anew` is upload's `resume=False`; `older_than` (seconds) and `dry_run` are gc's."""

    action: Action
    state: Path
    """The manifests' directory."""
    log: Path
    endpoint: str
    keys: Keys
    target: str
    source: Path | None = None
    manifest: Path | None = None
    part_size: int | None = None
    anew: bool = False
    upload_id: str | None = None
    older_than: float = 0.0
    dry_run: bool = False
    room: int | None = None
    """Bytes that the disk below `state` still has; None: enough."""
    dies_at: int = NEVER
    """The change to a file below `state` at which the process kills itself."""
    mutant: str | None = None


@dataclass(kw_only=True)
class Told:
    """How a process ended that was not killed: a result, or an error, or neither where there is nothing to tell."""

    error: type[errors.BigUploadError] | None = None
    resumable: bool = False
    exit_code: int = 0
    message: str = ""
    resumed_parts: int | None = None
    orphans: list[str] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    disk_was_full: bool = False


def carry_out(order: Order, response: Connection) -> None:
    """The child's main function."""
    with order.log.open("ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    # botocore's DEBUG prints signatures, and is the user's own choice.
    logging.basicConfig(level=logging.INFO, force=True)
    logging.getLogger("bigupload").setLevel(logging.DEBUG)
    for name in os.environ:
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    nowhere = str(order.state / "none")
    os.environ |= {"AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere}
    os.environ |= {"AWS_EC2_METADATA_DISABLED": "true", "BIGUPLOAD_STATE_DIR": str(order.state)}
    os.environ |= order.keys.environment()
    S3Store.limits = LIMITS
    small_files.MOST_BYTES = -1  # the model is of uploads in parts: a file of one part would be one PUT
    multipart_upload._LOOK_FOR, multipart_upload._LOOK_EVERY, context.TICK = 0.02, 0.01, 0.02
    if order.mutant is not None:
        MUTANTS[order.mutant]()
    told = Told()
    if order.dies_at != NEVER:
        double_os(Steps(order.dies_at), order.state)
    if order.room is not None:
        fill_disk(order.state, order.room, told)
    try:
        asyncio.run(_ACTIONS[order.action](order, told))
    except errors.BigUploadError as e:
        logging.getLogger(__name__).error(whole_text(e))
        told.error, told.resumable, told.exit_code, told.message = type(e), e.resumable, e.exit_code, str(e)
    response.send(told)


def fill_disk(state: Path, room: int, told: Told) -> None:
    """After `room` bytes, writes to files below `state` end in ENOSPC."""
    inside: set[int] = set()
    real_open, real_close, real_write = os.open, os.close, os.write

    def opening(path: Any, *more: Any, **named: Any) -> int:
        fd = real_open(path, *more, **named)
        if str(path).startswith(str(state)):
            inside.add(fd)
        return fd

    def closing(fd: int) -> None:
        inside.discard(fd)
        real_close(fd)

    def writing(fd: int, data: Any) -> int:
        nonlocal room
        if fd not in inside:
            return real_write(fd, data)
        if room == 0 and len(data):
            told.disk_was_full = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = real_write(fd, bytes(data)[:room])
        room -= done
        return done

    os.open, os.close, os.write = opening, closing, writing


# --- the actions


def _uploader(order: Order) -> Uploader:
    # One part at a time: the so-many-th request is the same one whenever an example is played again.
    return Uploader(retry=FAST, concurrency=1, state_dir=order.state)


def _options(order: Order) -> S3Options:
    return S3Options(endpoint_url=order.endpoint, region="us-east-1", **order.keys.arguments())


def _hear(told: Told) -> Callable[[Event], None]:
    def on_event(event: Event) -> None:
        told.events[type(event).__name__] += 1
        logging.getLogger(__name__).info("%r", event)

    return on_event


def _result(result: UploadResult, told: Told) -> None:
    logging.getLogger(__name__).info("%r", result)
    told.resumed_parts = result.resumed_parts


async def _upload(order: Order, told: Told) -> None:
    assert order.source is not None
    async with _uploader(order) as uploader:
        result = await uploader.upload(
            order.source,
            to=order.target,
            s3=_options(order),
            part_size=order.part_size,
            resume=not order.anew,
            on_event=_hear(told),
        )
    _result(result, told)


async def _resume(order: Order, told: Told) -> None:
    assert order.manifest is not None
    async with _uploader(order) as uploader:
        result = await uploader.resume(order.manifest, source=order.source, s3=_options(order), on_event=_hear(told))
    _result(result, told)


async def _adopt(order: Order, told: Told) -> None:
    assert order.source is not None
    async with _uploader(order) as uploader:
        result = await uploader.adopt(
            order.target,
            source=order.source,
            s3=_options(order),
            upload_id=order.upload_id,
            on_event=_hear(told),
        )
    _result(result, told)


async def _abort(order: Order, told: Told) -> None:
    assert order.manifest is not None
    async with _uploader(order) as uploader:
        await uploader.abort(order.manifest, s3=_options(order))


async def _gc(order: Order, told: Told) -> None:
    def on_orphan(orphan: Orphan) -> None:
        told.orphans.append(orphan.upload_id)

    def on_failure(key: str, error: errors.BigUploadError) -> None:
        raise error

    search = OrphanSearch(
        Owners(order.state),
        older_than=order.older_than,
        dry_run=order.dry_run,
        on_orphan=on_orphan,
        on_failure=on_failure,
        retrier=Retrier(policy=FAST, emit=lambda _: None),
    )
    await search.run(order.target, _options(order))


_ACTIONS = {"upload": _upload, "resume": _resume, "adopt": _adopt, "abort": _abort, "gc": _gc}
