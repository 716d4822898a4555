"""API keys and signing secrets: the two files that the service's replicas share. And what can be an owner or an origin.

The keys' file holds of each key its SHA-256, its owner and its dates, never the key::

    {"version": 1, "keys": [{"id": "9f86d081", "owner": "me", "sha256": "…", "created_at": "…", "revoked_at": "…"}]}

Knows nothing of HTTP and of uploads, and needs neither the extra `service` nor a running loop.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import errno
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bigupload.errors import ServiceError, UsageError
from bigupload.records import dataclass
from bigupload.support.files import create_private, file_lock, reason_of, sync_directory, user_path
from bigupload.support.systems import sync_to_disk

_LOCK_SECONDS = 30.0


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, in a directory that is made (0700) where there is none. Blocks up to 30 s.

    Raises `ServiceError`. A directory that was there keeps its mode: it may hold more than this file.
    """
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.parent.chmod(0o700)  # a umask may have taken the owner's rights, too
        lock = file_lock(f"{path}.lock")
        lock.acquire(timeout=_LOCK_SECONDS)
    except OSError as e:  # also the timeout, which has no errno
        raise ServiceError(f"can't lock {path}: {e.strerror or 'another process is writing it'}") from e
    try:
        yield
    finally:
        lock.release()


def read_regular(path: Path) -> tuple[bytes, os.stat_result]:
    """The file's bytes, and what it was before they were read. Raises OSError.

    A symbolic link is followed: that is how secrets are mounted into containers. A pipe would block for ever.
    """
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file.read(), status


def write_private(path: Path, data: bytes) -> None:
    """Replace the file by one that holds `data`, mode 0600, on disk when this returns. To be called under its lock.

    Raises `ServiceError`: then the file is as it was. A symbolic link is refused: it would be replaced by a file, and
    a reader of the file that it points to would still read the old content.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        if path.is_symlink():
            raise ServiceError(f"{path} is a symbolic link: name the file itself")
        fresh.unlink(missing_ok=True)  # of a writer that was killed: we have the lock
        with os.fdopen(create_private(fresh), "wb") as file:
            if hasattr(os, "geteuid"):  # Windows has no modes, but `os.fchmod` since Python 3.13
                os.fchmod(file.fileno(), 0o600)  # whatever the umask left of it
                if os.geteuid() == 0 and path.exists():
                    # The service should run as another user than root, and must still be able to read the file.
                    os.fchown(file.fileno(), path.stat().st_uid, path.stat().st_gid)
            file.write(data)
            file.flush()
            sync_to_disk(file.fileno())
        fresh.replace(path)
    except OSError as e:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise ServiceError(f"can't write {path}: {reason_of(e)}; the file is unchanged") from e
    sync_directory(path.parent)


KEY_PREFIX = "sk_"
SHORTEST_SECRET = 32
"""Characters."""

_VERSION = 1
_RANDOM_BYTES = 32
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
OWNER = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """The file's record of a key; not the key itself. Dates are ISO 8601, UTC."""

    id: str
    owner: str
    """The owner's name: a path element of the keys of all objects that are uploaded with this API key."""
    created_at: str
    revoked_at: str | None = None


_Row = dict[str, Any]
_ApiKeys = list[ApiKey]  # inside of KeyFile, `list` is its method


@dataclass(frozen=True, kw_only=True)
class _Entry:
    key: ApiKey
    digest: str = field(repr=False)


class KeyFile:
    """The file of the API keys. Several processes may read and change it at once; `clock` gives seconds since 1970.

    The service calls `load` when it starts and `find` for each request. The other methods are for the commands.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._good: tuple[_Entry, ...] | None = None
        self._seen: tuple[int, ...] | None = None
        self._warned = False

    def create(self, owner: str) -> tuple[ApiKey, str]:
        """Create a key, and the file if it is missing.

        Returns:
            The row of the key in the file, and the key itself, which is kept nowhere.

        Raises:
            UsageError: The owner's name is not valid.
            ServiceError: The file can't be read or written; it is unchanged.
        """
        check_owner(owner)
        plain = KEY_PREFIX + _new_secret()
        with locked(self.path):
            rows = self._rows()
            taken = {row["id"] for row in rows}
            while (key_id := secrets.token_hex(4)) in taken:
                pass
            row = {"id": key_id, "owner": owner, "sha256": _digest(plain), "created_at": self._now()}
            self._write([*rows, row])
        return _key(row), plain

    def revoke(self, id_or_key: str) -> ApiKey:
        """Revoke a key, named by its id or by the key itself. Idempotent: the first date stays.

        Raises:
            UsageError: The file has no such key.
            ServiceError: The file can't be read or written.
        """
        wanted = id_or_key.strip()
        digest = _digest(wanted)
        if self._rows():  # else a mistyped path would get a directory and a lock file
            with locked(self.path):
                rows = self._rows()
                for row in rows:
                    if row["id"] == wanted or hmac.compare_digest(row["sha256"], digest):
                        if row.get("revoked_at") is None:
                            row["revoked_at"] = self._now()
                            self._write(rows)
                        return _key(row)
        # Without the words that were given: they may be a key of another file.
        raise UsageError(f"{self.path} has no such key: bigupload keys list shows the ids")

    def ensure(self) -> None:
        """Make an empty file if it is missing. Raises `ServiceError`."""
        if not os.path.lexists(self.path):  # else nothing is written beside it, which may be a read-only place
            with locked(self.path):
                if not os.path.lexists(self.path):
                    self._write([])

    def load(self) -> None:
        """Read the file, for `find`. Raises `ServiceError` where it is missing or broken."""
        try:
            self._look()
        except FileNotFoundError:
            raise ServiceError(
                f"there is no key file {self.path}: create it by bigupload keys create --owner NAME"
            ) from None
        except (OSError, ValueError) as e:
            raise ServiceError(_unreadable(self.path, e)) from e

    def find(self, presented: str) -> ApiKey | None:
        """The key that a client presents, or None where it is unknown or revoked.

        A file that changed is read again. While it can't be read, is broken or gone, what it last said holds, and one
        warning is logged: a half-edited file must lock nobody out. Raises `ServiceError` where it was never good.
        """
        # A plain SHA-256, without salt or stretching, is enough here: those make guessing dear, and nobody guesses 256
        # random bits; nor can one table serve against many keys, since no two are alike.
        digest = _digest(presented)
        found: ApiKey | None = None
        for entry in self._current():  # to the end: the time must not reveal how far down a key is
            if hmac.compare_digest(entry.digest, digest):
                found = entry.key
        return found if found is not None and found.revoked_at is None else None

    def holds(self, key_id: str, owner: str) -> bool:
        """Return whether the owner has an API key of this id that was not revoked."""
        keys = (entry.key for entry in self._current())
        return any((key.id, key.owner, key.revoked_at) == (key_id, owner, None) for key in keys)

    def _look(self) -> None:
        data, status = _read(self.path)
        self._seen = _stamp(status)  # also of a broken one: it is not parsed again before it changes
        self._good = tuple(_Entry(key=_key(row), digest=row["sha256"]) for row in _parse(data))

    def _current(self) -> tuple[_Entry, ...]:
        if self._good is None:
            self.load()
        assert self._good is not None
        try:
            if _stamp(os.stat(self.path)) == self._seen:  # noqa: PTH116 - at each request, and without Path's detour
                return self._good
            self._look()
            self._warned = False
        except (OSError, ValueError) as e:
            if isinstance(e, OSError):  # when it passes, the file may be what it was: look, and the next is warned of
                self._seen = None
            if not self._warned:
                _log.warning("%s; the keys that it held before stay valid", _unreadable(self.path, e))
                self._warned = True
        return self._good

    def _rows(self) -> list[_Row]:
        try:
            return _parse(read_regular(self.path)[0])
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as e:
            raise ServiceError(_unreadable(self.path, e)) from e

    def _write(self, rows: list[_Row]) -> None:
        write_private(self.path, json.dumps({"version": _VERSION, "keys": rows}, indent=1).encode() + b"\n")

    def _now(self) -> str:
        return datetime.datetime.fromtimestamp(self._clock(), datetime.UTC).isoformat(timespec="seconds")

    def list(self) -> _ApiKeys:
        """All keys, the oldest first, the revoked too; none where there is no file. Raises `ServiceError`."""
        return [_key(row) for row in self._rows()]


def check_owner(name: str) -> None:
    """Raise `UsageError` unless it can be an owner: it becomes a path element of objects' keys, and part of URLs."""
    if not OWNER.fullmatch(name):
        raise UsageError(
            f"not an owner's name: {name!r} (use 1 to 63 of a-z, 0-9, '-' and '_', and begin with a letter or a digit)"
        )


ANY_ORIGIN = "*"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")


def check_origin(origin: str, *, patterns: bool = False) -> str:
    """Return `origin`, if a browser may send it as `Origin`, or "*".

    A browser compares and sends an origin as text: https://app.example.com, with neither a path nor the default port,
    in lower case. A rule for another spelling would never match.

    Args:
        origin: What was given.
        patterns: Whether one "*" may stand in it, as in https://*.example.com. S3's rules allow that.

    Raises:
        UsageError: It is not an origin.
    """
    if origin == ANY_ORIGIN:
        return origin
    try:
        parts = urlsplit(origin)
        port = parts.port
        host = parts.netloc if port is None else parts.netloc.removesuffix(f":{port}")
        sound = (
            parts.scheme in _DEFAULT_PORTS
            and origin == f"{parts.scheme}://{parts.netloc}"
            and parts.username is None
            and port not in (0, _DEFAULT_PORTS[parts.scheme])
            and _HOST.fullmatch(host.replace("*", "x", 1) if patterns else host) is not None
        )
    except ValueError:  # brackets, a port over 65535
        sound = False
    if not sound:
        raise UsageError(
            f"not an origin: {origin!r} (write it like https://app.example.com: in lower case, without a path or a "
            "default port)"
        )
    return origin


def default_key_file() -> Path:
    """`$BIGUPLOAD_KEYS`, or a file among the user's data."""
    return service_file("BIGUPLOAD_KEYS", "keys.json")


def default_secret_file() -> Path:
    """`$BIGUPLOAD_SECRET_FILE`, or a file among the user's data."""
    return service_file("BIGUPLOAD_SECRET_FILE", "secret")


def load_secret(path: Path, *, create: bool) -> list[str]:
    """The secrets that sign upload handles, one a line: all are good for verifying, the last one signs.

    To change it without ending the uploads under way, append a new one, and take the old out 7 days later. `create`
    makes the file if it is missing. Raises `ServiceError`: missing, empty, a secret under 32 characters, or a file
    that others can read.
    """
    advice = "bigupload serve makes one"
    return read_secrets(path, "secret file", _check_length, new=_new_secret if create else None, advice=advice)


def _new_secret() -> str:
    return secrets.token_urlsafe(_RANDOM_BYTES)


def _check_length(secret: str) -> None:
    if len(secret) < SHORTEST_SECRET:
        raise UsageError(f"it is shorter than {SHORTEST_SECRET} characters")


def read_secrets(
    path: Path, what: str, check: Callable[[str], None], *, new: Callable[[], str] | None, advice: str
) -> list[str]:
    """Return the secrets of a file, one a line.

    Args:
        path: The file, which nobody else may read; of a file of root's, a group may.
        what: What it is called in messages.
        check: Raises UsageError for a line that can't be a secret.
        new: Makes a secret for a file that is missing; None: it must be there.
        advice: What to do if it is missing.

    Raises:
        ServiceError: It is missing, unreadable, readable for others, or holds something else.
    """
    if new is not None and not os.path.lexists(path):
        with locked(path):
            if not os.path.lexists(path):  # several that start at once must sign with the same
                write_private(path, new().encode() + b"\n")
    try:
        data, status = read_regular(path)
        lines = [line.strip() for line in data.decode().splitlines()]
    except FileNotFoundError:
        raise ServiceError(f"there is no {what} {path}: {advice}") from None
    except OSError as e:
        raise ServiceError(_unreadable(path, e)) from e
    except UnicodeDecodeError:
        raise ServiceError(f"the {what} {path} is not text: write one secret on each line") from None
    if is_open_to_others(status):
        raise ServiceError(f"other users can read the {what} {path}: run chmod 600 {path}")
    if not any(lines):
        raise ServiceError(f"the {what} {path} is empty: write one secret on each line")
    for number, line in enumerate(lines, 1):
        try:
            if line:
                check(line)
        except UsageError as e:
            raise ServiceError(f"line {number} of the {what} {path}: {e}") from None
    return [line for line in lines if line]


def add_secret(path: Path) -> str:
    """Put a new secret before the others of a file, so that it is accepted and signs nothing yet. Returns it.

    Raises:
        ServiceError: The file is missing, can't be used or can't be written.
    """
    with _changing(path) as secrets_:
        secrets_.insert(0, _new_secret())
        return secrets_[0]


def sign_with(path: Path, secret: str) -> None:
    """Make one of the secrets of a file the last one, which signs. Raises as `add_secret`."""
    with _changing(path) as secrets_:
        secrets_.remove(secret)
        secrets_.append(secret)


def remove_secret(path: Path, secret: str) -> None:
    """Take a secret out of a file. Raises as `add_secret`."""
    with _changing(path) as secrets_:
        secrets_.remove(secret)


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[list[str]]:
    """Yield the file's secrets, and write them as they were changed. Raises `ServiceError`."""
    if not os.path.lexists(path):  # else a mistyped path would get a directory and a lock file
        load_secret(path, create=False)
    with locked(path):
        before = load_secret(path, create=False)
        changed = list(before)
        yield changed
        if changed != before:
            write_private(path, "".join(f"{secret}\n" for secret in changed).encode())


def is_open_to_others(status: os.stat_result) -> bool:
    """Return whether others than this process's user can read a secret's file.

    A group may read a file of root's: so Kubernetes mounts Secrets for a user who is not root (`fsGroup`), and no user
    could change the file. PostgreSQL has the same rule: https://www.postgresql.org/docs/current/ssl-tcp.html
    """
    if not hasattr(os, "geteuid"):
        return False
    by_group = 0o040 if status.st_uid == 0 and os.geteuid() != 0 else 0
    return bool(status.st_mode & 0o077 & ~by_group)


def token_signing_key(secret: str, owner: str) -> str:
    """The key by which upload tokens of `owner` are signed: its ASCII characters are the HMAC's key.

    Whoever has it can make tokens of this owner, and neither those of others nor upload handles.
    """
    digest = hmac.digest(secret.encode(), f"bigupload upload tokens of {owner}".encode(), "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def service_file(variable: str, name: str) -> Path:
    """Return the path that an environment variable names, or that of the user's own file `name`."""
    override = os.environ.get(variable)
    return Path(override).expanduser() if override else user_path("data", instead=variable) / "service" / name


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()  # headers come with whatever was sent


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    """Return metadata that differs once a file was changed. A chmod that makes it readable changes only the ctime."""
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    """Read the file for the service. Raises OSError if it can't be read, or if others can write it."""
    data, status = read_regular(path)
    if status.st_mode & 0o022 and hasattr(os, "geteuid"):
        raise PermissionError(errno.EPERM, f"other users can write it, and so create keys: run chmod go-w {path}")
    return data, status


def _unreadable(path: Path, e: OSError | ValueError) -> str:
    return f"can't read the file {path}: {e.strerror if isinstance(e, OSError) else e}"


def _key(row: _Row) -> ApiKey:
    return ApiKey(id=row["id"], owner=row["owner"], created_at=row["created_at"], revoked_at=row.get("revoked_at"))


def _parse(data: bytes) -> list[_Row]:
    """The rows, with fields that are not ours kept. Raises ValueError, which says where and never what."""
    try:
        document = json.loads(data)
    except json.JSONDecodeError as e:
        raise ValueError(f"it is not JSON (line {e.lineno})") from None
    except (UnicodeDecodeError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(document, dict) or not isinstance(rows := document.get("keys"), list):
        raise ValueError("it is not a key file")
    if document.get("version") != _VERSION:
        raise ValueError(f"its version is not {_VERSION}: a newer bigupload wrote it")
    for number, row in enumerate(rows, 1):
        if not _is_row(row):
            raise ValueError(f"its key number {number} is incomplete")
    for name in ("id", "sha256"):  # of two with one digest, one may be revoked
        if len({row[name] for row in rows}) < len(rows):
            raise ValueError(f"two keys have the same {name}")
    return rows


def _is_row(row: object) -> bool:
    match row:
        case {"id": str(key_id), "owner": str(owner), "sha256": str(digest), "created_at": str(created), **rest}:
            matched = _ID.fullmatch(key_id) and OWNER.fullmatch(owner) and _SHA256.fullmatch(digest)
            revoked = rest.get("revoked_at")
            return bool(matched) and _is_date(created) and (revoked is None or _is_date(revoked))
    return False


def _is_date(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(datetime.datetime.fromisoformat(value))
    except ValueError:
        return False
