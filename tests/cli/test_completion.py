"""Shell completions and the manual page."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib

import pytest

from bigupload.cli import man_page
from tests.crash.running import COMMAND, REPOSITORY, Ended, Place

from .support import Command, assert_refused


def complete(place: Place, *words: str) -> list[str]:
    """What bash offers for the last word."""
    environment = place.environment(
        _BIGUPLOAD_COMPLETE="bash_complete", COMP_WORDS=" ".join(words), COMP_CWORD=str(len(words) - 1)
    )
    done = subprocess.run(COMMAND, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_what_is_offered(place: Place) -> None:
    assert complete(place, "bigupload", "up") == ["plain,upload"]
    assert complete(place, "bigupload", "store", "rem") == ["plain,remove"]
    assert complete(place, "bigupload", "upload", "--part") == ["plain,--part-size"]
    assert "plain,sha256" in complete(place, "bigupload", "upload", "--checksum", "")
    assert complete(place, "bigupload", "upload", "mov") == ["file,mov"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_has_them_after_install(bigupload: Command, place: Place) -> None:
    rc = place.directory / ".bashrc"
    rc.write_text("alias ll='ls -l'")  # without a line end
    script = place.directory / ".local" / "share" / "bigupload" / "completion.bash"
    for _ in range(2):
        ended = bigupload("completion", "install", "bash")
        says = f"installed {script}, and a line in {rc} that loads it: open a new bash to use it\n"
        assert ended == Ended(0, "", says)
    first, second = rc.read_text().splitlines()
    assert first == "alias ll='ls -l'"
    assert second == f"[ ! -r '{script}' ] || . '{script}'  # bigupload completion"
    shell = ["bash", "--norc", "-c", f". {rc} && complete -p bigupload"]
    shown = subprocess.run(shell, env=place.environment(), capture_output=True, text=True)
    assert "-F _bigupload_completion bigupload" in shown.stdout, shown.stderr


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_has_them_after_install(bigupload: Command, place: Place) -> None:
    assert bigupload("completion", "install", "zsh").code == 0
    shell = ["zsh", "-fc", f"source {place.directory / '.zshrc'} && print $_comps[bigupload]"]
    shown = subprocess.run(shell, env=place.environment(), capture_output=True, text=True)
    assert shown.stdout == "_bigupload_completion\n", shown.stderr


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_after_install(bigupload: Command, place: Place) -> None:
    assert bigupload("completion", "install", "fish").code == 0
    (place.directory / "bigupload").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    (place.directory / "bigupload").chmod(0o755)
    path = f"{place.directory}:{os.environ['PATH']}"
    environment = place.environment(PATH=path, PYTHONPATH=str(REPOSITORY))
    shell = ["fish", "-c", "complete --do-complete 'bigupload store rem'"]
    shown = subprocess.run(shell, env=environment, capture_output=True, text=True)
    assert shown.stdout.startswith("remove"), shown.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_show(bigupload: Command, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = bigupload("completion", "show", shell)
    assert (ended.code, ended.err) == (0, "")
    assert f"_BIGUPLOAD_COMPLETE={shell}_complete" in ended.out
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    assert bigupload("completion", "show") == ended


def test_zsh_and_fish(bigupload: Command, place: Place) -> None:
    assert bigupload("completion", "install", "zsh").code == 0
    assert "autoload -Uz compinit" in (place.directory / ".zshrc").read_text()
    assert bigupload("completion", "install", "fish").code == 0
    assert (place.directory / ".config" / "fish" / "completions" / "bigupload.fish").exists()
    assert not (place.directory / ".fishrc").exists()


def test_a_shell_without_completions(bigupload: Command, monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert_refused(bigupload("completion", "install"), 2, "no completions for the shell tcsh: name one of bash, zsh")
    monkeypatch.delenv("SHELL")
    assert_refused(bigupload("completion", "show"), 2, "the shell of this user: name one of bash, zsh, fish")
    (place.directory / ".bashrc").mkdir()
    ended = bigupload("completion", "install", "bash")
    assert_refused(ended, 1, f"can't install the completions: {place.directory / '.bashrc'}: Is a directory")


# --- the manual page


def test_the_page_is_current() -> None:
    assert man_page.PAGE.read_text() == man_page.man_page(), "run python -m bigupload.cli.man_page"


def test_the_page_is_in_the_wheel() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert shared == {str(man_page.PAGE.relative_to(REPOSITORY)): "share/man/man1/bigupload.1"}


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_troff_takes_the_page() -> None:
    command = ["groff", "-man", "-Tascii", "-P-cbou", "-ww", str(man_page.PAGE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--part-size SIZE" in done.stdout
