"""Short stories of one upload, told to the same model: no chance in it, so that each broken library is noticed by one.

Each is a list of steps that `Model` knows as rules. `tell` plays one and holds the invariants after each step.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from bigupload.testing.strict_s3 import StrictS3
from tests.integration.support import KIB

from .disturbance import CHANGES_FILE, Disturbance, Request
from .file import PART
from .machine import How, Model

Step = Callable[[Model], object]
Story = list[Step]

SIZE = 2 * PART + 100
REQUESTS: list[tuple[Request, int]] = [
    ("CreateMultipartUpload", 1),
    ("UploadPart", 1),
    ("UploadPart", 2),
    ("CompleteMultipartUpload", 1),
]


def upload(how: How | None = None, **more: Any) -> Step:
    given = {"since": None, "how": how or How(), "anew": False, "part_size": PART, "elsewhere": False} | more
    return lambda model: model.upload(**given)


def resume(how: How | None = None, *, place: int = 0, named: bool = True) -> Step:
    return lambda model: model.resume(since=None, how=how or How(), place=place, named=named)


def abort(how: How | None = None, *, place: int = 0) -> Step:
    return lambda model: model.abort(how=how or How(), place=place)


def gc(*, dry_run: bool) -> Step:
    return lambda model: model.gc(dry_run=dry_run, older_than=60.0)


def adopt() -> Step:
    return lambda model: model.adopt(choose=True, how=How())


def change(what: str) -> Step:
    return lambda model: model.change_file(what)


def lose(how: str) -> Step:
    return lambda model: model.lose_manifest(place=0, how=how)


def expire() -> Step:
    return lambda model: model.expire_uploads()


def keys(kind: str) -> Step:
    return lambda model: model.change_keys(kind=kind, as_arguments=True)


def mend_keys() -> Step:
    return lambda model: model.mend_keys(as_arguments=True)


def at(request: Request, number: int, what: Any, *, acted: bool = False) -> How:
    """What befalls the process at this request."""
    return How(Disturbance(request, number, acted, what))


KILLED_HALF_WAY = upload(at("UploadPart", 2, "kill"))
KILLED_AT_COMPLETE = upload(at("CompleteMultipartUpload", 1, "kill"))
KILLED_AFTER_COMPLETE = upload(at("CompleteMultipartUpload", 1, "kill", acted=True))


def _killed() -> Iterator[Story]:
    for (request, number), acted in itertools.product(REQUESTS, (False, True)):
        yield [upload(at(request, number, "kill", acted=acted)), gc(dry_run=False), resume(), upload()]


def _given_up() -> Iterator[Story]:
    for begun in (KILLED_HALF_WAY, KILLED_AT_COMPLETE, KILLED_AFTER_COMPLETE):
        yield [begun, gc(dry_run=False), upload(anew=True), gc(dry_run=True)]
        yield [begun, abort(), gc(dry_run=False), upload()]
        yield [begun, expire(), resume(), upload()]


def _changed_in_between() -> Iterator[Story]:
    yield [upload(elsewhere=True), upload()]
    yield [KILLED_AT_COMPLETE, change("move"), upload(), resume(), resume(place=1)]
    yield [KILLED_AFTER_COMPLETE, change("move"), change("edit"), upload(), resume(), resume(place=1)]
    for begun, what in itertools.product(
        (KILLED_HALF_WAY, KILLED_AT_COMPLETE, KILLED_AFTER_COMPLETE), sorted(CHANGES_FILE)
    ):
        yield [begun, change(what), resume(), upload()]


def _changed_meanwhile() -> Iterator[Story]:
    for what, (request, number) in itertools.product(sorted(CHANGES_FILE), reversed(REQUESTS)):
        yield [upload(at(request, number, what)), resume(), upload()]


def _lost_manifests() -> Iterator[Story]:
    yield [upload(at("CreateMultipartUpload", 1, "kill", acted=True)), adopt()]
    for how in ("torn", "unlinked", "emptied", "garbled"):
        yield [KILLED_HALF_WAY, lose(how), gc(dry_run=True), upload(), gc(dry_run=False), adopt()]


def _refused() -> Iterator[Story]:
    yield [upload(at("UploadPart", 2, "late_once")), resume(), upload()]  # only a URL is ever too late
    yield from _disturbed("expire")
    yield from _disturbed("revoke")
    yield [upload(at("UploadPart", 2, "late")), resume(), upload()]


def _disputed() -> Iterator[Story]:
    for what in ("second_upload", "second_resume", "second_abort"):
        yield from _disturbed(what)


def _disturbed(what: str) -> Iterator[Story]:
    yield [KILLED_HALF_WAY, resume(at("ListParts", 1, what)), mend_keys(), upload()]
    for request, number in reversed(REQUESTS):
        yield [upload(at(request, number, what)), mend_keys(), resume(), upload()]


def _other_keys() -> Iterator[Story]:
    for kind in ("none", "unknown", "wrong", "expired"):
        for begun in (KILLED_HALF_WAY, KILLED_AT_COMPLETE, KILLED_AFTER_COMPLETE):
            yield [begun, keys(kind), abort(), resume(), mend_keys(), abort(), keys(kind), abort()]


def _killed_at_a_file() -> Iterator[Story]:
    for dies_at, harm in _while_it_harms(itertools.count(1)):
        yield [upload(How(dies_at=dies_at)), harm, resume(), upload()]
    for dies_at, harm in _while_it_harms(itertools.count(1)):
        yield [KILLED_HALF_WAY, abort(How(dies_at=dies_at)), harm, abort(), upload()]


def _full_disks() -> Iterator[Story]:
    for room, harm in _while_it_harms(itertools.count(0, 100)):
        yield [upload(How(room=room)), harm, gc(dry_run=True), upload()]
    for room, harm in _while_it_harms(itertools.count(0, 10)):
        yield [KILLED_HALF_WAY, abort(How(room=room)), harm, abort()]


def _while_it_harms(numbers: Iterable[int]) -> Iterator[tuple[int, Step]]:
    """Each number with a step to follow the process that it harms, until it harms none: that one had enough room."""
    for number in numbers:
        harms: list[bool] = []
        yield number, lambda model, harms=harms: harms.append(model.world.was_harmed)  # type: ignore[misc]  # mypy cannot infer the lambda
        if not any(harms):
            return


def _undisturbed() -> Iterator[Story]:
    yield [upload(), upload()]


KINDS = [
    _undisturbed,
    _killed,
    _changed_meanwhile,
    _given_up,
    _changed_in_between,
    _refused,
    _disputed,
    _other_keys,
    _lost_manifests,
    _full_disks,
    _killed_at_a_file,
]
NOTICED_BY = {
    "recorded_before_it_is_sent": _given_up,
    "no_fingerprint_while_it_uploads": _changed_meanwhile,
    "no_fingerprint_on_resume": _changed_in_between,
    "secret_in_the_manifest": _undisturbed,
    "url_in_a_message": _undisturbed,
    "forgets_what_the_store_has": _killed,
    "no_lock": _disputed,
    "another_s_object_is_ours": _changed_in_between,
    "starts_anew_where_it_may_be_complete": _refused,
    "aborts_what_it_sets_aside": _given_up,
    "gc_takes_what_is_completing": _given_up,
    "gc_spares_what_was_aborted": _given_up,
    "full_disk_is_ignored": _full_disks,
    "half_a_first_line": _killed_at_a_file,
    "orphan_of_a_full_disk": _full_disks,
    "refused_urls_are_final": _refused,
    "expired_upload_is_the_end": _given_up,
    "another_size_starts_anew": _changed_in_between,
    "aborted_is_not_recorded": _given_up,
}
"""The kind of story that notices each of `mutants.MUTANTS` soonest."""


def stories(mutant: str | None = None) -> Iterator[Story]:
    """All of them, each drawn when those before it were told. Those that notice the mutant come first."""
    first = [] if mutant is None else [NOTICED_BY[mutant]]
    for kind in [*first, *(kind for kind in KINDS if kind not in first)]:
        yield from kind()


def tell(story: Story, s3: StrictS3, home: Path, mutant: str | None = None) -> None:
    """Raises AssertionError where what comes of a step is not what must."""
    home = home / uuid.uuid4().hex
    home.mkdir()
    playing = type("Playing", (Model,), {"s3": s3, "home": home, "mutant": mutant})()
    try:
        playing.begin(size=SIZE)
        playing.world.check()
        for step in story:
            step(playing)
            playing.world.check()
    finally:
        playing.teardown()


def noticed(mutant: str | None, home: Path) -> str | None:
    """What the first story says that notices it; None where none does."""
    with StrictS3(min_part_size=KIB) as s3:
        for story in stories(mutant):
            try:
                tell(story, s3, home, mutant)
            except AssertionError as error:
                return str(error) or "an assertion"
    return None
