"""The local store's life cycle with the real SeaweedFS, and whose process it is."""

from __future__ import annotations

import contextlib
import errno
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

from bigupload.errors import LocalStoreError
from bigupload.options import S3Options
from bigupload.stores import local_store
from bigupload.stores.local_store import LocalStore
from bigupload.stores.targets import connect
from tests.stores.local_store.support import PROC, REPOSITORY, alive, needs_weed, posix, run_file, write_run
from tests.tools.directories import session_directory
from tests.tools.other_systems import keep_open_files
from tests.tools.weed import fetch, weed_client

BODY = random.Random(1).randbytes((5 << 20) + 1)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """A store that never ran before. A multipart upload has been its first work, right after the start."""
    with session_directory(tmp_path_factory, "local-store") as home:
        try:
            store = local_store.start(home)
            weed_client(store).create_bucket(Bucket=store.bucket)
            put_multipart(store, store.bucket, "k", BODY)
            yield store
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


# --- the real one ---------------------------------------------------------------------------------------------------


@needs_weed
def test_a_multipart_upload_works_right_after_start(store: LocalStore) -> None:
    """The volume server registers with the master some time after S3 responds."""
    assert alive(store.pid)
    assert fetch(store, store.bucket, "k") == BODY


@needs_weed
async def test_a_new_bucket_has_its_volumes_before_the_first_write(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that has to wait for them takes a second."""
    monkeypatch.setenv("BIGUPLOAD_LOCAL_STORE_DIR", str(store.data_dir))
    for _ in range(2):  # a bucket that is there gets no more
        await (await connect("roomy", "key", S3Options(local=True))).aclose()
        status = json.loads(local_store._get(run_file(store.data_dir)["ports"]["master.port"], "/vol/status")[1])
        assert json.dumps(status).count('"Collection": "roomy"') == 7


@needs_weed
def test_a_second_start_finds_the_first(store: LocalStore) -> None:
    assert local_store.start(store.data_dir) == store
    assert local_store.running(store.data_dir) == store


@pytest.mark.slow
@needs_weed
def test_another_process_finds_it_and_a_pipeline_sees_the_end(tmp_path: Path) -> None:
    """Two processes start it at once. `communicate` returns only when nobody, weed included, holds their output."""
    code = (
        "import sys, pathlib; from bigupload.stores.local_store import start; "
        "print(start(pathlib.Path(sys.argv[1])).pid)"
    )
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
@pytest.mark.slow
def test_a_store_whose_disk_has_become_read_only_is_told_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = local_store.start(tmp_path)
    keys = started.access_key, started.secret_key, started.region
    try:
        written = local_store.write_credentials(tmp_path, *keys)
        before = written.read_bytes(), (tmp_path / "run.json").read_bytes()
        opened = os.open

        def read_only(path: str | os.PathLike[str], flags: int, *more: Any, **named: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and str(tmp_path) in str(path):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
            return opened(path, flags, *more, **named)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", read_only)
            assert local_store.write_credentials(tmp_path, *keys) == written
            assert local_store.stop(tmp_path)
        assert not alive(started.pid)
        assert (written.read_bytes(), (tmp_path / "run.json").read_bytes()) == before
        assert local_store.running(tmp_path) is None
        assert local_store.start(tmp_path).endpoint_url == started.endpoint_url
    finally:
        local_store.stop(tmp_path)


@needs_weed
@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@needs_weed
def test_remove_ends_it_and_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    store = local_store.start(home)
    try:
        (home / "sample.bin").write_bytes(bytes(5000))
        removed = local_store.remove(home)
        assert removed is not None
        assert (removed.data_dir, removed.stopped, removed.left) == (home, True, ())
        assert removed.freed_bytes > 5000
        assert not alive(store.pid)
        assert not home.exists()
        assert local_store.remove(home) is None
    finally:
        local_store.stop(home)


def test_remove_leaves_directories_alone_that_are_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(LocalStoreError, match="is not a local store's directory: nothing was removed"):
        local_store.remove(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "thesis.tex"]
    (tmp_path / "s3.json").touch()
    removed = local_store.remove(tmp_path)
    assert removed is not None
    assert removed.left == (tmp_path / "thesis.tex",)
    assert list(tmp_path.iterdir()) == [tmp_path / "thesis.tex"]


@pytest.mark.parametrize("is_deleted", [False, True], ids=["stays", "deleted by its release"])
def test_remove_leaves_no_lock_where_no_open_file_can_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_deleted: bool
) -> None:
    """On Windows, filelock deletes its file when it is released."""
    locked = local_store._locked

    @contextlib.contextmanager
    def releasing(home: Path, timeout_seconds: float) -> Iterator[None]:
        with locked(home, timeout_seconds):
            yield
        if is_deleted:
            (home / "lock").unlink()

    monkeypatch.setattr(local_store, "_locked", releasing)
    home = tmp_path / "home"
    local_store.make_private_directory(home)
    (home / "s3.json").touch()
    keep_open_files(monkeypatch)
    removed = local_store.remove(home)
    assert removed is not None
    assert removed.left == ()
    assert not home.exists()


def test_the_sample_file_goes_with_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`upload --local` makes it, and it is larger than all that people try the store with."""
    monkeypatch.setenv("BIGUPLOAD_LOCAL_STORE_DIR", str(tmp_path / "home"))
    sample = local_store.sample_path()
    sample.parent.mkdir(parents=True)
    sample.write_bytes(bytes(5000))
    removed = local_store.remove()
    assert removed is not None
    assert removed.freed_bytes == 5000
    assert not sample.exists()
    assert list(tmp_path.iterdir()) == []


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
