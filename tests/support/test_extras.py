"""The command that installs an extra: it names the checkout or wheel that bigupload was installed from."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
from typing import Any

import pytest

from bigupload.units import install_command


class Installed:
    """What `importlib.metadata` tells of an installed bigupload."""

    def __init__(self, direct_url: str | None) -> None:
        self._direct_url = direct_url

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self._direct_url


def direct(url: str, **more: Any) -> str:
    return json.dumps({"url": url, **more})


@pytest.mark.parametrize(
    ("direct_url", "words"),
    [
        (None, ["bigupload[watch]"]),
        ("not JSON", ["bigupload[watch]"]),
        (direct("file:///src/bigupload", dir_info={}), ["/src/bigupload[watch]"]),
        (direct("file:///src/my%20own", dir_info={"editable": False}), ["/src/my own[watch]"]),
        (direct("file:///src/it%27s", dir_info={"editable": True}), ["-e", "/src/it's[watch]"]),
        (direct("file:///src/bigupload.whl", archive_info={}), ["/src/bigupload.whl[watch]"]),
        (direct("https://me:secret@example.org/b.git", vcs_info={}), ["bigupload[watch]"]),
    ],
)
def test_the_command_names_what_was_installed(
    monkeypatch: pytest.MonkeyPatch, direct_url: str | None, words: list[str]
) -> None:
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed(direct_url))
    assert shlex.split(install_command("watch")) == ["pip", "install", *words]


def test_a_tree_that_is_not_installed_has_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert install_command("local") == "pip install 'bigupload[local]'"
