"""The local store's directory: making it, its credentials and keys, and removing it. Starts and ends no process."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
from pathlib import Path

from bigupload.errors import LocalStoreError

SAMPLE = "sample.bin"
"""The sample file is here too, so that removing the store removes it."""
_OURS = frozenset({
    "data", "lock", "run.json", "run.new", "s3.json", "s3.new", "security.toml", "security.new", "weed.log",
    "weed.log.old", SAMPLE, "sample.partial", "aws-credentials", "aws-credentials.new",
})  # fmt: skip
PROFILE = "bigupload-local"
"""The profile in the credentials file: one that is named goes before the keys in the environment."""
_LOG_LIMIT_BYTES = 10_000_000


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

    Only names that the store makes are deleted: a directory that was named by mistake keeps its files.

    Raises:
        LocalStoreError: a file can't be deleted.
    """
    try:
        for path in [home / name for name in _OURS]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
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


def telling_line(log_path: Path, start: int) -> str:
    """Find the line of the log that says why: the last fatal one, else the last error, else the last line."""
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
    write_private(path, f"[{PROFILE}]\n" + "".join(f"{name} = {value}\n" for name, value in rows.items()))
    return path
