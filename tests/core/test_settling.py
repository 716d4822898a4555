"""Which files of a watched directory are uploaded, followed or waited for. The clock is a number."""

from __future__ import annotations

import math

import pytest

from bigupload.core.manifest import Fingerprint
from bigupload.core.settling import FIRST_PAUSE, LONGEST_PAUSE, SettlingFiles

IDLE = 10.0
LARGE = 100


class Tree:
    """The files of a directory, as it is listed."""

    def __init__(self) -> None:
        self.files = SettlingFiles(idle=IDLE, follow_from=LARGE, at_once=2)
        self.sizes: dict[str, int] = {}
        self.times: dict[str, int] = {}

    def fingerprint(self, key: str) -> Fingerprint:
        return Fingerprint(self.sizes[key], self.times.get(key, 0), 0, 1)

    def write(self, key: str, size: int = 1) -> None:
        self.sizes[key] = self.sizes.get(key, 0) + size
        self.times[key] = self.times.get(key, 0) + 1

    def list(self, now: float, *, quiet_for: float = 0.0) -> None:
        self.files.begin_listing()
        for key in self.sizes:
            self.files.found(key, f"/d/{key}", self.fingerprint(key), now, quiet_for=quiet_for)
        self.files.end_listing()

    def begun(self, now: float) -> list[tuple[str, bool]]:
        return [(begin.key, begin.follow) for begin in self.files.begin(now)]

    def done(self, key: str, now: float) -> None:
        self.files.uploaded(key, self.fingerprint(key), now)


@pytest.fixture
def tree() -> Tree:
    return Tree()


def test_a_file_is_uploaded_when_it_has_settled(tree: Tree) -> None:
    tree.write("a")
    tree.list(0.0)
    assert tree.begun(9.9) == []
    assert tree.files.next_time(9.0) == 10.0
    tree.write("a")
    tree.list(9.5)
    assert tree.begun(19.4) == []
    assert tree.begun(19.5) == [("a", False)]
    assert tree.begun(19.5) == []
    assert tree.files.next_time(19.5) == math.inf


def test_what_was_there_and_is_old_is_uploaded_at_once(tree: Tree) -> None:
    tree.write("a", LARGE * 2)
    tree.list(5.0, quiet_for=3600.0)
    (begin,) = tree.files.begin(5.0)
    assert (begin.follow, begin.first, begin.path) == (False, True, "/d/a")


@pytest.mark.parametrize(("size", "followed"), [(LARGE, False), (LARGE + 1, True)])
def test_a_large_file_that_grows_is_followed(tree: Tree, size: int, followed: bool) -> None:
    tree.write("a", size)
    tree.list(0.0)
    assert tree.begun(0.0) == ([("a", True)] if followed else [])


def test_so_many_at_once(tree: Tree) -> None:
    for name in "abc":
        tree.write(name, LARGE * 2)
    tree.list(0.0)
    assert tree.begun(0.0) == [("a", True), ("b", True)]
    # What waits is settled by the time it gets its place.
    assert tree.begun(10.0) == [("c", False)]
    for name in "de":
        tree.write(name, LARGE * 2)
    tree.list(20.0, quiet_for=IDLE)
    assert tree.begun(20.0) == [("d", False)]
    tree.done("c", 21.0)
    assert tree.begun(21.0) == [("e", False)]


def test_four_small_files_take_the_place_of_a_large_one(tree: Tree) -> None:
    """Each is little more than a round trip and a wait for the disk."""
    for number in range(9):
        tree.write(f"{number}", LARGE)
    tree.write("a", LARGE * 2)
    tree.write("b")
    tree.list(0.0, quiet_for=IDLE)
    assert [key for key, _ in tree.begun(0.0)] == list("01234567")
    tree.done("0", 0.0)
    assert [key for key, _ in tree.begun(0.0)] == ["8"]
    for key in "123":
        tree.done(key, 0.0)
        assert tree.begun(0.0) == [], "the large one is next, and none overtakes it"
    tree.done("4", 0.0)
    assert tree.begun(0.0) == [("a", False)]
    for key in "5678":
        tree.done(key, 0.0)
    tree.done("a", 0.0)
    assert tree.begun(0.0) == [("b", False)]
    tree.done("b", 0.0)
    assert not tree.files.has_open


def test_what_is_uploaded_is_not_uploaded_again_unless_it_changes(tree: Tree) -> None:
    tree.write("a", LARGE * 2)
    tree.list(0.0)
    assert tree.begun(0.0) == [("a", True)]
    tree.done("a", 12.0)
    for now in (13.0, 14.0):
        tree.list(now)
        assert tree.begun(now + IDLE) == []
    assert not tree.files.is_busy
    tree.write("a", LARGE)
    tree.list(30.0)
    assert tree.begun(30.0) == []  # it is not followed a second time
    assert tree.begun(40.0) == [("a", False)]


def test_it_changes_during_its_upload(tree: Tree) -> None:
    tree.write("a", LARGE * 2)
    tree.list(0.0, quiet_for=IDLE)
    assert tree.begun(0.0) == [("a", False)]
    before = tree.fingerprint("a")
    tree.write("a")
    tree.list(1.0)
    assert tree.begun(20.0) == []
    tree.files.uploaded("a", before, 20.0)
    tree.list(20.0)
    assert tree.begun(29.0) == []
    assert tree.begun(30.0) == [("a", False)]
    tree.write("a")
    tree.files.changed("a", tree.fingerprint("a"), 31.0)
    assert tree.begun(40.0) == []
    assert tree.begun(41.0) == [("a", False)]


def test_it_vanishes(tree: Tree) -> None:
    tree.write("a")
    tree.write("b")
    tree.list(0.0)
    del tree.sizes["a"]
    tree.list(1.0)
    assert tree.begun(10.0) == [("b", False)]
    del tree.sizes["b"]
    tree.list(11.0)
    assert tree.files.is_open("b")  # its upload has it open
    tree.files.vanished("b")
    assert not tree.files.is_busy


def test_nothing_of_what_is_gone_is_kept(tree: Tree) -> None:
    for number in range(100):
        tree.write(f"{number}")
        tree.list(float(number), quiet_for=IDLE)
        for begin in tree.files.begin(float(number)):
            tree.done(begin.key, float(number))
        tree.sizes.clear()
    tree.list(100.0)
    assert tree.files.next_time(1e9) == math.inf
    files = tree.files
    assert not any((files._files, files._done, files._done_before, files._ready, files._growing))


def test_a_listing_that_ends_early_forgets_nothing(tree: Tree) -> None:
    tree.write("a")
    tree.list(0.0, quiet_for=IDLE)
    assert tree.begun(0.0)
    tree.done("a", 0.0)
    tree.files.begin_listing()
    tree.list(1.0)
    assert tree.begun(100.0) == []


def test_an_attempt_after_growing_pauses(tree: Tree) -> None:
    tree.write("a")
    tree.list(0.0, quiet_for=IDLE)
    now, pauses = 0.0, []
    for _ in range(8):
        assert tree.begun(now) == [("a", False)]
        pause = tree.files.failed("a", now, again=True)
        assert pause is not None
        pauses.append(pause)
        assert tree.begun(now + pause - 1) == []
        assert tree.files.next_time(now) == now + pause
        now += pause
    assert pauses == [FIRST_PAUSE * 2**n for n in range(5)] + [LONGEST_PAUSE] * 3
    assert not tree.files.is_busy
    tree.write("a")  # what changed is another file
    tree.list(now)
    assert tree.begun(now + IDLE) == [("a", False)]
    assert tree.files.failed("a", now, again=True) == FIRST_PAUSE


def test_an_attempt_when_it_changes(tree: Tree) -> None:
    tree.write("a")
    tree.list(0.0, quiet_for=IDLE)
    assert tree.begun(0.0)
    assert tree.files.failed("a", 0.0, again=False) is None
    tree.list(1e9)
    assert tree.begun(1e9) == []
    tree.write("a")
    tree.list(2e9)
    assert tree.begun(2e9 + IDLE) == [("a", False)]


def test_nothing_begins_while_all_would_fail(tree: Tree) -> None:
    for name in "abcd":
        tree.write(name, LARGE * 2)
    tree.list(0.0, quiet_for=IDLE)
    assert len(tree.begun(0.0)) == 2
    assert tree.files.failed("a", 1.0, again=True, concerns_all=True) == FIRST_PAUSE
    assert tree.files.failed("b", 2.0, again=True, concerns_all=True) == FIRST_PAUSE - 1  # began before the pause
    assert tree.begun(30.0) == []
    assert tree.begun(31.0) == [("c", False), ("d", False)]
    assert tree.files.failed("c", 32.0, again=True, concerns_all=True) == 2 * FIRST_PAUSE
    tree.done("d", 33.0)  # the store is back
    assert [key for key, _ in tree.begun(33.0)] == ["a", "b"]


def test_one_file_that_always_fails_never_holds_the_others_for_long(tree: Tree) -> None:
    """Also if no other file comes meanwhile that could succeed."""
    tree.write("bad")
    tree.list(0.0, quiet_for=IDLE)
    now, pauses = 0.0, []
    for _ in range(7):
        assert tree.begun(now) == [("bad", False)]
        pause = tree.files.failed("bad", now, again=True, concerns_all=True)
        assert pause is not None
        pauses.append(pause)
        now += pause
    assert pauses == [30.0, 60.0, 120.0, 240.0, 480.0, LONGEST_PAUSE, LONGEST_PAUSE]
    now -= pauses[-1]
    tree.write("good")
    tree.list(now, quiet_for=IDLE)
    assert tree.begun(now + FIRST_PAUSE) == [("good", False)]
    assert not tree.files.others_uploaded("bad")
    tree.done("good", now + FIRST_PAUSE)
    assert tree.files.others_uploaded("bad"), "what it fails with is its own"


@pytest.mark.slow
def test_many_thousand_files(tree: Tree) -> None:
    """Each upload that ends costs a step, and not one for each file that waits."""
    count = 20_000
    for number in range(count):
        tree.sizes[f"{number}"] = 1 + number % 2 * LARGE * 2
    tree.list(0.0, quiet_for=IDLE)
    done = 0
    while begun := tree.files.begin(0.0):
        for begin in begun:
            tree.done(begin.key, 0.0)
            assert tree.files.next_time(0.0) == math.inf
            done += 1
    assert done == count
