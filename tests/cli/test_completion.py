"""Shell completions and the manual page."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import COMMAND, REPOSITORY, Ended, Place
from tests.tools import man_page

from .support import Command, assert_refused, to

Complete = Callable[..., list[str]]


@pytest.fixture
def complete(bigupload: Command, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """What the command in this process prints for a shell that wants the last word completed."""

    def completed(*words: str, shell: str = "bash") -> list[str]:
        with monkeypatch.context() as patch:
            patch.setenv("_BIGUPLOAD_COMPLETE", f"{shell}_complete")
            patch.setenv("COMP_WORDS", " ".join(word and shlex.quote(word) for word in words))
            patch.setenv("COMP_CWORD", str(len(words) - 1))
            ended = bigupload()
        assert (ended.code, ended.err) == (0, "")
        return ended.out.split()

    return completed


def test_in_a_process(place: Place) -> None:
    environment = place.environment(_BIGUPLOAD_COMPLETE="bash_complete", COMP_WORDS="bigupload up", COMP_CWORD="1")
    done = subprocess.run(COMMAND, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,upload\n", "")


def test_what_is_offered(complete: Complete) -> None:
    assert complete("bigupload", "up") == ["plain,upload"]
    assert complete("bigupload", "store", "rem") == ["plain,remove"]
    assert complete("bigupload", "upload", "--part") == ["plain,--part-size"]
    assert "plain,sha256" in complete("bigupload", "upload", "--checksum", "")
    assert complete("bigupload", "upload", "mov") == ["file,mov"]
    for words in (["upload", "--sse-customer-key"], ["resume", "--source"], ["serve", "--types"]):
        assert complete("bigupload", *words, "mov") == ["file,mov"], words


@pytest.mark.parametrize("command", ["abort", "resume"])
def test_uploads(bigupload: Command, complete: Complete, stopped: Path, file: Path, command: str) -> None:
    own = stopped.name[:8]
    assert complete("bigupload", command, "") == [f"plain,{own}"]
    assert complete("bigupload", command, own[:3]) == [f"plain,{own}"]
    assert complete("bigupload", command, own, "") == [], "it was named before"
    assert complete("bigupload", command, "./m") == ["file,./m"]
    kind, shown, *says = complete("bigupload", command, "", shell="zsh")
    assert (kind, shown, says[:1]) == ("plain", own, [f"{file},"])
    assert bigupload("abort", own).code == 0
    assert complete("bigupload", command, "") == []


def test_abort_completes_jobs(
    bigupload: Command, complete: Complete, place: Place, s3: StrictS3, tmp_path: Path
) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    (directory / "a").touch()
    assert bigupload("sync", directory, *to(s3, "s3://bucket/p/")).code == 0
    (record,) = place.state.glob("*.job.sqlite")
    assert complete("bigupload", "abort", "") == [f"plain,{record.name[:8]}"]
    assert complete("bigupload", "resume", "") == []


def test_profiles(complete: Complete, place: Place) -> None:
    (place.directory / ".aws").mkdir()
    (place.directory / ".aws" / "config").write_text("[default]\n[profile north]\n[profile 'a b']\n[services x]\n")
    (place.directory / ".aws" / "credentials").write_text("[south]\naws_access_key_id = a\n")
    assert complete("bigupload", "upload", "--profile", "") == ["plain,default", "plain,north", "plain,south"]
    assert complete("bigupload", "upload", "--profile", "=", "n") == ["plain,north"]


@pytest.mark.parametrize("words", [["abort"], ["upload", "--profile"], ["upl"]], ids=" ".join)
def test_what_is_broken_says_nothing(
    complete: Complete, place: Place, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """`complete` asserts that standard error is empty."""
    config = place.directory / "config.toml"
    config.write_text("[upload\n")
    (place.directory / ".aws").mkdir()
    (place.directory / ".aws" / "config").write_bytes(b"[\xff")
    state = place.directory / "file.bin"
    monkeypatch.setenv("BIGUPLOAD_CONFIG", str(config))
    monkeypatch.setenv("BIGUPLOAD_STATE_DIR", str(state))
    monkeypatch.setenv("AWS_PROFILE", "missing")
    found = complete("bigupload", *words, *([] if words[-1] == "upl" else [""]))
    assert found == (["plain,upload"] if words == ["upl"] else [])


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


def test_the_page_is_in_the_wheel() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert shared == {man_page.PAGE.relative_to(REPOSITORY).as_posix(): "share/man/man1/bigupload.1"}


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_troff_takes_the_page() -> None:
    command = ["groff", "-man", "-Tascii", "-P-cbou", "-ww", str(man_page.PAGE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--part-size SIZE" in done.stdout
