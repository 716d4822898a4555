"""Where a user's files are: as platformdirs says, which is not loaded for the usual case."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from bigupload.support.files import user_path
from tests.tools.cases import each_case

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, platformdirs is always asked")


@each_case("kind", ["config", "data", "state"])
@each_case("named", [None, "", "/named", "relative", "~/tilde"])
@each_case("home", [None, "", "/home/someone", "/home/someone/", "/", "relative"])
def test_it_is_where_platformdirs_says(
    kind: str, named: str | None, home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ((f"XDG_{kind.upper()}_HOME", named), ("HOME", home)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    expected: Path = getattr(platformdirs, f"user_{kind}_path")("bigupload")
    assert user_path(kind, instead="an option") == expected  # type: ignore[arg-type]  # also what is no path


def test_a_usual_home_does_without_platformdirs() -> None:
    code = """
import sys
from bigupload.support.files import user_path
print(user_path("state", instead="an option"), "platformdirs" in sys.modules)
"""
    home = {"HOME": "/home/someone", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=home, check=True)
    assert done.stdout.split() == ["/home/someone/.local/state/bigupload", "False"]
