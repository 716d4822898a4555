"""The engine's context of an upload that a test's object stores and sends."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from bigupload.core.checksums import Algorithm
from bigupload.core.hedging import HedgeSwitch
from bigupload.core.manifest import Target
from bigupload.core.part_plan import Plan
from bigupload.core.retry_policy import RetryPolicy
from bigupload.engine.context import SharedSlots, UploadSettings
from bigupload.engine.retrying import Effects, Retrier


def fake_context(
    test: Any,
    plan: Plan,
    shared: SharedSlots,
    effects: Effects,
    *,
    algorithm: Algorithm = Algorithm.NONE,
    emit: Callable[[Any], None] = lambda event: None,
    hedge: bool = True,
    **more: Any,
) -> Any:
    """Return what stands for an `UploadContext`: `test` is its store and its transport, and its source never changes.

    Args:
        test: Has the methods of `MultipartStore` and `Transport` that are called.
        plan: The upload's parts. None is recorded.
        shared: What is shared with other uploads.
        effects: The clock.
        algorithm: The checksum of the parts.
        emit: Gets the events.
        hedge: Whether stragglers are sent twice.
        more: Other attributes, or others in place of these.
    """
    retrier = Retrier(policy=RetryPolicy(), emit=emit, effects=effects)
    checksum = SimpleNamespace(type=algorithm.type, algorithm=algorithm)
    manifest = SimpleNamespace(
        upload_id="id",
        plan=plan,
        parts={},
        bytes_uploaded=0,
        header=SimpleNamespace(checksum=checksum),
        target=Target(bucket="bucket", key="key"),
    )

    async def fine(*_: object) -> bool:
        return True

    made = {
        "policy": retrier.policy, "retrier": retrier, "effects": effects, "counts": retrier.counts, "emit": emit,
        "manifest": manifest, "shared": shared, "slots": shared.slots.queue(lambda: plan.size),
        "source": object(), "store": test, "transport": test,
        "hedging": HedgeSwitch(hedge), "hold": fine, "release": lambda part: None,
        "check_source": fine, "settings": UploadSettings(), "copies_unread": False, "groups": None,
        "previous_version": None,
        "may_start_over": False, "origin": None,
    }  # fmt: skip
    return SimpleNamespace(**made | more)
