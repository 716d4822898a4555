"""Ctrl-C before a command has begun: no traceback, and the same exit status as later."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload import errors
from tests.crash.running import COMMAND, Place
from tests.tools.signals import heard

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")

SCRIPT = [sys.executable, "-c", "import sys; from bigupload.__main__ import main; sys.exit(main())"]
"""What pip writes into the console script."""
INTERRUPT = """
import signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.modules.pop({module!r}, None)  # where the environment's own start has imported it
sys.meta_path.insert(0, Finder())
"""
"""A `sitecustomize` that sends SIGINT when a module is about to be imported."""


@pytest.fixture(autouse=True)
def signals_are_heard() -> Iterator[None]:
    with heard():
        yield


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", [COMMAND, SCRIPT], ids=["module", "script"])
@pytest.mark.parametrize("module", ["bigupload.cli", "click", "typing", "bigupload.units", "bigupload.cli.status"])
def test_ctrl_c_while_modules_are_imported(tmp_path: Path, command: list[str], module: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT.format(module=module))
    place = Place(tmp_path)
    environment = place.environment(PYTHONPATH=str(tmp_path))
    ended = place.run("status", command=command, environment=environment, cold=True)
    assert (ended.code, ended.out, ended.err.strip()) == (errors.EXIT_INTERRUPTED, "", "")


def test_the_status_is_that_of_a_later_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bigupload.cli.main", interrupted)
    from bigupload.__main__ import main

    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == errors.EXIT_INTERRUPTED
