"""A command that has a process of its own puts off the search for garbage until it has started."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from bigupload.cli import running
from tests.tools.waiting import until


@pytest.fixture
def put_off() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("put_off")
def test_garbage_is_looked_for_once_a_command_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_START", 0.0)

    async def command() -> int:
        before = gc.get_freeze_count()
        assert not gc.isenabled()
        await until(gc.isenabled)
        return gc.get_freeze_count() - before

    assert running.run(command) > 0, "what was made until then is not searched"


def test_where_garbage_is_looked_for_nothing_is_frozen() -> None:
    before = gc.get_freeze_count()
    running.collect_garbage()
    assert gc.get_freeze_count() == before
