"""What a person gets wrong: the exit code, the one line on standard error, and what was left alone."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path

import pytest

from bigupload.core.retry_policy import RetryPolicy
from bigupload.manifests.journal import FileJournal
from bigupload.sources.file import FileSource
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Place
from tests.tools.cases import each_case

from .support import IN_PARTS, PART, SIZE, Command, assert_refused, to

# --- the file


def test_a_missing_file(bigupload: Command, s3: StrictS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message says what may be wrong; `tests/support/test_missing_files.py` has the rest."""
    monkeypatch.chdir(tmp_path)
    told = f"(the working directory is {tmp_path})"
    assert bigupload("upload", "nowhere.bin", *to(s3)).err == f"bigupload: no such file: nowhere.bin {told}\n"
    (tmp_path / "Film.mov").touch()
    assert_refused(bigupload("upload", "film.mov", *to(s3)), 1, "no such file: film.mov; there is 'Film.mov', whose")
    assert_refused(bigupload("sync", "none", *to(s3, "s3://bucket/p/")), 1, f"no such directory: none {told}")
    gone = f"no such directory: {tmp_path}/a/b; {tmp_path}/a does not exist"
    assert_refused(bigupload("watch", "a/b", *to(s3, "s3://bucket/p/")), 1, gone)


@pytest.mark.usefixtures("stopped")
def test_a_working_directory_that_was_deleted(
    bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for call in (["upload", "f"], ["upload", "."], ["upload", "*"], ["move", "f"], ["sync", "."], ["watch", "."]):
        ended = bigupload(*call, *to(s3, "s3://bucket/p/"), "--progress", "none")
        assert_refused(ended, 1, "the working directory was deleted: change into another one, then run again")
    assert_refused(bigupload("abort", "m"), 1, "the working directory was deleted")
    assert bigupload("upload", file, *to(s3)).code == 0, "an absolute path needs none"


def test_a_file_that_can_t_be_read_any_more(
    bigupload: Command, s3: StrictS3, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network file system whose server restarted. What was uploaded stays, and the line says what to do."""
    read = FileSource._read

    def stale(source: FileSource, buffer: memoryview, offset: int) -> int:
        if PART <= offset < SIZE:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(source, buffer, offset)

    with monkeypatch.context() as patch:
        patch.setattr(FileSource, "_read", stale)
        ended = bigupload("upload", file, *to(s3), *IN_PARTS, "--progress", "none")
    assert_refused(ended, 75, f"can't read {file} at byte 5,242,880: Stale file handle")
    assert ended.complaint.endswith(": try again when it can be read")
    assert bigupload("upload", file, *to(s3), *IN_PARTS, "--progress", "none").code == 0


@pytest.mark.parametrize(
    "command",
    [["upload"], ["upload", *IN_PARTS], ["upload", "--follow", "--idle", "1s"], ["move"], ["sync"]],
    ids=" ".join,
)
def test_a_file_system_that_ended(
    bigupload: Command, s3: StrictS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """As FUSE does whose process was killed: to close what was read fails, too. No upload does for that."""
    source, close, failed = tmp_path / "mounted", os.close, 0
    source.mkdir()
    path = source / "file"
    path.write_bytes(bytes(SIZE if IN_PARTS[0] in command else 1000))
    mounted = {source.stat().st_ino, path.stat().st_ino}

    def close_of_mounted(fd: int) -> None:
        nonlocal failed
        inode = os.fstat(fd).st_ino
        close(fd)
        if inode in mounted:
            failed += 1
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr(os, "close", close_of_mounted)
    name, *options = command
    what = source if name == "sync" else path
    ended = bigupload(name, what, *to(s3, "s3://bucket/p/"), *options, "--progress", "none")
    assert (ended.code, ended.err) == (0, "")
    assert failed
    assert "p/file" in s3.objects["bucket"]


def test_a_file_system_that_ended_before(
    bigupload: Command, s3: StrictS3, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object) -> int:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr(FileSource, "_read", ended)
    said = "the program that serves its file system (FUSE) has ended: mount it again"
    assert_refused(bigupload("upload", file, *to(s3), *IN_PARTS), 1, f"can't read {file} at its end: {said}")


@pytest.mark.parametrize("words", [["upload", "x", "--to"], ["store", "status", "--log-file"], ["upload", "--local=1"]])
def test_a_value_that_is_missing_or_too_many(bigupload: Command, words: list[str]) -> None:
    command = " ".join(words[:2] if words[0] == "store" else words[:1])
    assert_refused(bigupload(*words), 2, f"(see bigupload {command} --help)")


def test_a_directory(bigupload: Command, s3: StrictS3, tmp_path: Path) -> None:
    assert_refused(bigupload("upload", tmp_path, *to(s3)), 2, "bigupload: many files can't become one object: end the")


@pytest.mark.parametrize("kind", ["device", "pipe", "socket"])
def test_a_special_file(bigupload: Command, s3: StrictS3, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "special"
    if kind == "device":
        path = Path("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(path))
    assert_refused(bigupload("upload", path, *to(s3)), 1, "is not a regular file: copy it into one first")


def test_an_unreadable_file(bigupload: Command, s3: StrictS3, file: Path) -> None:
    bigupload("upload", "nowhere.bin", *to(s3))  # what it imports is imported before this process may read less
    file.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        ended = bigupload("upload", file, *to(s3))
    finally:
        if root:
            os.seteuid(0)
    assert_refused(ended, 1, f"can't read {file}: Permission denied")


def test_nothing_was_begun_for_any_of_them(bigupload: Command, s3: StrictS3, place: Place) -> None:
    before = len(s3.requests)
    bigupload("upload", "nowhere.bin", *to(s3))
    assert len(s3.requests) == before
    assert not place.state.exists()


# --- the store


def test_a_wrong_bucket(bigupload: Command, s3: StrictS3, file: Path) -> None:
    ended = bigupload("upload", file, *to(s3, "s3://buckte/key"))
    assert_refused(ended, 1, "there is no bucket 'buckte'", "create it, or check the name")


def test_a_name_that_no_bucket_can_have(bigupload: Command, s3: StrictS3, file: Path) -> None:
    rules = "3 to 63 lower-case letters, digits, dots and hyphens"
    ended = bigupload("upload", file, *to(s3, "s3://Big_Upload/"))
    assert_refused(ended, 1, f"there is no bucket 'Big_Upload' at this store: its name is invalid (S3: {rules})")
    ended = bigupload("upload", file, "s3://Big_Upload/", "--local", "--progress=none")
    assert_refused(ended, 2, f"'Big_Upload' is not a valid bucket name: it has {rules}")


def test_no_credentials(bigupload: Command, s3: StrictS3, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert_refused(bigupload("upload", file, *to(s3)), 1, "no AWS credentials: set AWS_ACCESS_KEY_ID", "--profile")


def test_wrong_credentials(bigupload: Command, s3: StrictS3, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    ended = bigupload("upload", file, *to(s3), "--progress", "none")
    assert_refused(ended, 1, "SignatureDoesNotMatch")
    assert "other" not in ended.err


def test_a_wrong_region(bigupload: Command, s3: StrictS3, file: Path) -> None:
    ended = bigupload("upload", file, *to(s3, "s3://far/key"), "--region", "us-east-1")
    assert_refused(ended, 1, "the bucket is in region eu-west-3: use --region eu-west-3")


def test_an_unknown_profile(bigupload: Command, s3: StrictS3, file: Path) -> None:
    assert_refused(bigupload("upload", file, *to(s3), "--profile", "nobody"), 2, "there is no profile nobody in ")


def test_an_aws_configuration_that_can_t_be_read(
    bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a byte order mark, as editors of Windows write it."""
    config = tmp_path / "config"
    config.write_bytes(b"\xef\xbb\xbf[default]\nregion = us-east-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.delenv("AWS_REGION", raising=False)
    where = ["--to", "s3://bucket/key", "--endpoint-url", s3.url]
    assert_refused(bigupload("upload", file, *where), 2, f"Unable to parse config file: {config}")


def test_an_endpoint_that_refuses_the_connection(
    bigupload: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetryPolicy, "delay", lambda *_: 0.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    where = ["--to", "s3://bucket/key", "--endpoint-url", f"http://127.0.0.1:{port}"]
    ended = bigupload("upload", file, *where, "--progress", "none")
    said = f"127.0.0.1:{port} refuses the connection: check that it runs, its address and its port"
    assert_refused(ended, 75, said, "try again")
    ended = bigupload("gc", "s3://bucket", *where[2:])
    assert_refused(ended, 75, said)


def test_an_endpoint_that_is_none(bigupload: Command, file: Path) -> None:
    ended = bigupload("upload", file, "--to", "s3://bucket/key", "--endpoint-url", "nonsense")
    assert_refused(ended, 2, "not an endpoint: 'nonsense' (write it like https://")


def test_parts_that_cannot_hold_the_file(bigupload: Command, s3: StrictS3, tmp_path: Path) -> None:
    big = tmp_path / "big.bin"
    with big.open("wb") as opened:
        opened.truncate(10_001 * PART)
    ended = bigupload("upload", big, *to(s3), "--part-size", "5MiB")
    assert_refused(ended, 2, "in 10,000 parts: use a part size of 6MiB or more")
    ended = bigupload("upload", big, *to(s3), "--part-size", "4MiB")
    assert_refused(ended, 2, "a part size of 4 MiB is below the store's 5 MiB: use that or more")
    assert not s3.uploads


def test_a_part_size_is_refused_before_it_is_told_what_is_replaced(
    bigupload: Command, s3: StrictS3, file: Path, stopped: Path
) -> None:
    bad = ["upload", file, *to(s3), "--part-size", "1KB", "--progress", "plain"]
    assert_refused(bigupload(*bad, "--no-resume"), 2, "a part size of 1 kB is below the store's 5 MiB")
    assert bigupload("upload", file, *to(s3), "--progress", "none").code == 0
    assert_refused(bigupload(*bad), 2, "a part size of 1 kB is below the store's 5 MiB")


# --- the manifest


def test_a_damaged_manifest(bigupload: Command, s3: StrictS3, file: Path, stopped: Path) -> None:
    damaged = b"\0" * 100 + stopped.read_bytes()
    stopped.write_bytes(damaged)
    says = ("its first line can't be read; nothing was changed", "name another --manifest, or move this file away")
    assert_refused(bigupload("upload", file, *to(s3)), 1, str(stopped), *says)
    for command in ("resume", "abort"):  # they have no --manifest
        says = ("is not a manifest, or its first line is damaged; nothing was changed", "repeat its upload command")
        ended = bigupload(command, stopped)
        assert_refused(ended, 1, str(stopped), *says)
        assert "--manifest" not in ended.err
        assert ended.err.count(str(stopped)) == 1
    assert stopped.read_bytes() == damaged
    assert len(s3.uploads) == 1
    (row,) = [json.loads(line) for line in bigupload("status", "--json").out.splitlines()]
    assert (row["status"], row["manifest"]) == ("unreadable", str(stopped))
    assert row["error"].count(str(stopped)) == 1


def test_a_file_in_a_manifest_s_place(bigupload: Command, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    Path("movie").write_bytes(b"no manifest")
    for name in ("movie", "file.bin"):
        for command in ("resume", "abort"):
            ended = bigupload(command, name)
            assert_refused(ended, 1, f"bigupload: {name} is not a manifest", "bigupload status lists the manifests")


def test_a_state_directory_that_can_t_be_searched(
    bigupload: Command, s3: StrictS3, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest can't be opened either, which is told in one line."""

    def denied(path: Path, *_: object, **__: object) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", denied)
    assert_refused(bigupload("upload", file, *to(s3), *IN_PARTS), 1, "can't write the manifest", "Permission denied")


def test_a_state_directory_whose_name_is_too_long(
    bigupload: Command, s3: StrictS3, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGUPLOAD_STATE_DIR", f"/{'n' * 300}")
    assert_refused(bigupload("upload", file, *to(s3), *IN_PARTS), 1, "can't write the manifest", "File name too long")


def test_a_state_directory_that_is_a_file(
    bigupload: Command, s3: StrictS3, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGUPLOAD_STATE_DIR", str(file))
    ended = bigupload("upload", file, *to(s3), *IN_PARTS)
    assert_refused(ended, 1, f"{file} must be a directory: set BIGUPLOAD_STATE_DIR, or name another --manifest")
    ended = bigupload("upload", f"{file.parent}/", "--to", "s3://bucket/", "--endpoint-url", s3.url)
    assert_refused(ended, 1, "can't write the job's record", "set BIGUPLOAD_STATE_DIR to a directory that you can")
    says = f"can't list the state directory {file}: Not a directory. To use another one, set BIGUPLOAD_STATE_DIR"
    of_store = ["gc", "s3://bucket/", "--endpoint-url", s3.url]
    for command in (
        ["status"], ["resume"], ["abort", "6c1f6f0e"], ["abort", "6c1"], ["resume", "6c1f6f0e"], of_store,
        [*of_store, "--dry-run"],
    ):  # fmt: skip
        assert_refused(bigupload(*command), 1, says)
    monkeypatch.setenv("BIGUPLOAD_STATE_DIR", str(file / "state"))
    assert_refused(bigupload(*of_store), 1, says.replace(str(file), str(file / "state")))


def test_a_locked_manifest(bigupload: Command, s3: StrictS3, file: Path, stopped: Path) -> None:
    with FileJournal(stopped):
        for arguments in (["upload", file, *to(s3)], ["resume", stopped], ["abort", stopped]):
            assert_refused(bigupload(*arguments), 75, f"(process {os.getpid()})", "wait for it, or stop it first")


def test_another_file_s_manifest(bigupload: Command, s3: StrictS3, tmp_path: Path, stopped: Path) -> None:
    other = tmp_path / "other.bin"
    other.write_bytes(b"other")
    before = stopped.read_bytes()
    ended = bigupload("upload", other, *to(s3), "--manifest", stopped)
    assert_refused(ended, 1, f"{stopped} is the manifest of", "file.bin", "name another --manifest")
    assert stopped.read_bytes() == before


def test_a_missing_manifest(bigupload: Command) -> None:
    assert_refused(bigupload("resume", "none.jsonl"), 1, "no such manifest: none.jsonl")
    assert_refused(bigupload("abort", "none.jsonl"), 1, "no such manifest: none.jsonl")
    assert_refused(
        bigupload("abort", "all"), 1, "no such manifest: all (`bigupload status` shows those of this machine)"
    )


def test_a_manifest_that_is_no_file(bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path) -> None:
    ended = bigupload("upload", file, *to(s3), "--manifest", tmp_path)
    assert_refused(ended, 1, "is not a regular file: name another --manifest")


def test_a_file_of_another_size(bigupload: Command, s3: StrictS3, file: Path, stopped: Path) -> None:
    kept = file.rename(file.with_name("kept.bin"))
    file.write_bytes(b"short")
    ended = bigupload("upload", file, *to(s3), "--progress", "none")
    assert_refused(ended, 1, "has 5 bytes now and had 5,243,880", "nothing was changed", "--on-change restart")
    assert len(s3.uploads) == 1
    *_, command = ended.complaint.partition("resume with that as the source: bigupload ")
    assert command == f"resume {stopped} --source PATH"
    assert bigupload(*command.replace("PATH", str(kept)).split(), "--progress", "none").code == 0


# --- the call


@each_case(
    ("arguments", "says"),
    [
        ([], "name one target: bigupload upload PATH... s3://BUCKET/KEY (or --to s3://…, --service URL, or --local)"),
        (["--to", "s3://b/k", "--local", "--service", "https://media.example"], "name one target"),
        (["--to", "s3://b/k", "--service", "https://media.example"], "name one target"),
        (["--service", "https://media.example", "--local"], "name one target"),
        (["--service", "media.example"], "write its URL like https://media.example.com"),
        (["--service", "https://u:p@media.example"], "holds no credentials"),
        (["--service", "https://h", "--sse", "AES256", "--tag", "a=b"], "leave out --tag, --sse"),
        (["--service", "https://h", "--if-none-match", "--addressing", "path"], "out --if-none-match, --addressing"),
        (["--to", "http://b/k"], "write it like s3://bucket/key"),
        (["s3:/b/k"], "not a target: 's3:/b/k' (write it like s3://b/k)"),
        (["s3//b/k"], "; 's3//b/k' is not a target: write s3://b/k (see"),
        ([" s3://b/k"], "; ' s3://b/k' is not a target: write s3://b/k (see"),
        (["--to", " s3://b/k"], "not a target: ' s3://b/k' (write it like s3://b/k, without the space)"),
        (["s3:/b/k", "--local"], "not a target: 's3:/b/k'"),
        (["https://b.s3.amazonaws.com/k"], "not a target: 'https://b.s3.amazonaws.com/k' (write it like s3://bucket/key"),
        (["b/k"], "name one target"),
        (["", "s3://b/k"], "a file name is empty: is a variable of the shell not set?"),
        (["--to", "s3://b/k", "--limit-rate", "20:00"], "write it like 08:00=2MB/s,20:00=off"),
        (["--to", "s3://b/k", "--give-up-after", "20"], "write it like 2d, 12h or 30min"),
        (["--to", "s3://b/k", "--response-timeout", "20"], "write it like 2d, 12h or 30min"),
        (["--to", "s3://b/k", "--response-timeout", "0s"], "--response-timeout must be above 0"),
        (["--to", "s3://b/k", "--on-done", "true", "--on-done-timeout", "0s"], "--on-done-timeout must be above 0"),
        (["--to", "s3://b/k", "--endpoint-url", "minio:9000"], "write it like https://s3.example.com:9000"),
        (["--to", "s3://b/k", "--no-verify-ssl", "--ca-bundle", "x"], "leave one out"),
        (["--to", "s3://b/k", "--sse", "AES256", "--sse-kms-key-id", "x"], "a KMS key goes with aws:kms encryption"),
        (["--to", "s3://"], "write it like s3://bucket/key"),
        (["--to", "s3://b/k", "--part-size", "16 parsecs"], "write it like 16MiB or 20MB"),
        (["--to", "s3://b/k", "--part-size", "-5MiB"], "write it like 16MiB or 20MB"),
        (["--to", "s3://b/k", "--part-size", "0"], "--part-size is a whole number of bytes from 1 on"),
        (["--to", "s3://b/k", "--limit-rate", "fast"], "write it like 20MB/s"),
        (["--to", "s3://b/k", "--limit-rate", "20"], "'20' is 20 bytes a second, and the least is"),
        (["--to", "s3://b/k", "--concurrency", "0"], "neither auto nor a number from 1 to 256"),
        (["--to", "s3://b/k", "--concurrency", "many"], "neither auto nor a number from 1 to 256"),
        (["--to", "s3://b/k", "--metadata", "novalue"], "not KEY=VALUE"),
        (["--to", "s3://b/k", "--checksum", "adler"], "crc64nvme"),
        (["--to", "s3://b/k", "--require-proof", "faith"], "full-object"),
        (["--to", "s3://b/k", "--frobnicate"], "No such option"),
        (["--local", "--endpoint-url", "http://x"], "leave out --endpoint-url"),
        (["--to", "s3://b/k", "--dask", "foo"], "--dask is like 'tcp://scheduler:8786', or like 'local:4', not 'foo'"),
        (["--local", "--ca-bundle", "/nope"], "can't use the CA bundle /nope: No such file or directory"),
        (["--local", "--ca-bundle", __file__], f"can't use the CA bundle {__file__}: "),
        (["--to", "s3://b/k", "--to", "s3://b/l"], "--to is given twice: name one target, and run"),
        (["--local", "--service", "http://a", "--service", "http://b"], "--service is given twice"),
    ],
)  # fmt: skip
def test_a_call_that_makes_no_sense(bigupload: Command, file: Path, arguments: list[str], says: str) -> None:
    assert_refused(bigupload("upload", file, *arguments), 2, says)


def test_calls_of_other_commands_that_make_no_sense(bigupload: Command, file: Path) -> None:
    assert_refused(
        bigupload("resume", "--adopt", "s3://b/k"), 2, "--adopt s3://BUCKET/KEY needs --source PATH, and no manifest"
    )
    assert_refused(
        bigupload("resume", "--source", file), 2, "--source is for one manifest: name the one whose file was moved"
    )
    assert_refused(bigupload("resume", "m", "--region", "r"), 2, "the manifest names the store")
    assert_refused(bigupload("abort"), 2, "Missing argument 'MANIFEST...'")
    assert_refused(bigupload("gc"), 2, "s3://BUCKET/PREFIX, or --local")
    assert_refused(bigupload("verify", file), 2, "Missing argument", "bigupload verify --help")
    assert_refused(bigupload("verify", file, "s3://"), 2, "not a target: 's3://'")
    assert_refused(bigupload("uplaod"), 2, "No such command 'uplaod'", "Did you mean 'upload'?")
    assert_refused(bigupload("jobs"), 2, "No such command 'jobs'", "Did you mean 'status'?")
    assert_refused(bigupload("verify", file, "b/k"), 2, "not a target: 'b/k'")
    assert_refused(bigupload("gc", "bucket"), 2, "not a target: 'bucket'", "s3://bucket/prefix")
    assert_refused(bigupload("gc", "s3://b/", "--older-than", "7"), 2, "not a time: '7'", "write it like 2d")
    assert_refused(bigupload("bucket", "setup", "b"), 2, "not a target: 'b'")
    assert_refused(bigupload("bucket", "setup", "s3://b/k"), 2, "names more than a bucket")
    assert_refused(bigupload("store", "delete"), 2, "No such command 'delete'", "bigupload store --help")
    assert_refused(bigupload("store", "remove"), 2, "give --yes")
    assert_refused(bigupload("config", "show", "nope"), 2, "no such command: nope")
    assert_refused(bigupload("config", "show", "--nope"), 2, "no such option: --nope")
    assert_refused(bigupload("status", "extra"), 1, "no such upload: extra. bigupload status lists the ids")
    assert_refused(bigupload("keys", "create", "--owner", "A B"), 2, "not an owner's name: 'A B'")
    assert_refused(bigupload("serve"), 2, "name a place for the media")
    assert_refused(bigupload("serve", "--bucket", ""), 2, "not a bucket: ''")
    assert_refused(bigupload("serve", "--local", "--port", "99999"), 2, "99999 is not in the range")
    assert_refused(bigupload("serve", "--local", "--user-quota", "5"), 2, "--user-quota of 5 B has no room for a file")
    assert_refused(bigupload("check-url", "ftp://x"), 1, "not usable (not_a_url)")
    assert_refused(bigupload("-v"), 2, "Missing command")


def test_a_local_store_s_directory_that_is_a_file(
    bigupload: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGUPLOAD_LOCAL_STORE_DIR", str(file))
    says = f"can't make the local store's directory {file}: File exists (BIGUPLOAD_LOCAL_STORE_DIR names another)"
    ended = bigupload("store", "start")
    assert (ended.code, ended.err.splitlines()[-1]) == (1, f"bigupload: {says}")


def test_several_files_need_names_of_their_own(bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path) -> None:
    twin = tmp_path / "folder" / file.name
    twin.parent.mkdir()
    twin.write_bytes(b"twin")
    ended = bigupload("upload", file, twin, *to(s3, "s3://bucket/folder/"))
    assert_refused(ended, 2, "several files are named file.bin and would become one object")
    ended = bigupload("upload", file, tmp_path / "x", *to(s3))
    assert_refused(ended, 2, "2 files can't become one object: end the target with a slash, as in s3://bucket/key/")
    ended = bigupload("upload", file, tmp_path / "x", *to(s3, "s3://bucket/f/"), "--manifest", "m")
    assert_refused(ended, 2, "--manifest is for one file: leave it out, or")


def test_an_object_alone_with_the_local_store(bigupload: Command) -> None:
    """Were it the target, a sample file would replace the object that was meant as the source."""
    ended = bigupload("upload", "s3://bigupload/a.mov", "--local", "--name", "copy.mov")
    assert_refused(ended, 2, "is s3://bigupload/a.mov the source or the target? Name both")
    ended = bigupload("upload", "--files-from", "none.txt", "s3://bigupload/a/", "--local")
    assert_refused(ended, 2, "can't read --files-from none.txt")


@pytest.mark.parametrize("profile", [None, "nightly"])
def test_refused_credentials_are_named(
    bigupload: Command, s3: StrictS3, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, profile: str | None
) -> None:
    key, secret = "AKIAUNKNOWN12345WXYZ", "a-secret-that-nobody-sees"
    if profile is None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        used = "the credentials from AWS_ACCESS_KEY_ID"
    else:
        shared = tmp_path / "shared"
        shared.write_text(f"[{profile}]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
        monkeypatch.setenv("AWS_PROFILE", profile)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        used = f"the credentials of the profile nightly in {shared}"
    before = len(s3.requests)
    ended = bigupload("upload", file, *to(s3), "--part-size", "5MiB")
    assert_refused(
        ended, 1, "InvalidAccessKeyId", f"{used} (key ...WXYZ) were used: check that they belong to this store"
    )
    assert key[:-4] not in ended.err
    assert secret not in ended.err
    assert ended.err.count("\n") == 1
    assert len(s3.requests) == before + 1, "another attempt would be refused as well"


def test_a_session_token_of_other_keys(
    bigupload: Command, s3: StrictS3, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was left in the environment."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of yesterday's keys")
    for more in (IN_PARTS, ()):
        ended = bigupload("upload", file, *to(s3), *more, "--progress", "none")
        assert_refused(
            ended, 1, "InvalidToken", "the session token (AWS_SESSION_TOKEN, or that of the profile) is not of"
        )


def test_a_profile_with_a_role_alone(
    bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text("[profile nightly]\nrole_arn = arn:aws:iam::123456789012:role/nightly\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    ended = bigupload("upload", file, *to(s3), "--profile", "nightly")
    assert_refused(ended, 1, "missing: source_profile or credential_source. Add it to the profile in the AWS config")
    assert "AWS_ACCESS_KEY_ID" not in ended.err


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that takes no file")
def test_where_no_file_can_be(bigupload: Command, s3: StrictS3, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    why = "No such file or directory; name another --manifest, or set BIGUPLOAD_STATE_DIR to a directory that you can"
    assert_refused(
        bigupload("upload", file, *to(s3), "--manifest", "/proc/x.jsonl"),
        1,
        f"can't write the manifest /proc/x.jsonl: {why}",
    )
    monkeypatch.setenv("BIGUPLOAD_STATE_DIR", "/proc/nope")
    assert_refused(bigupload("upload", file, *to(s3), *IN_PARTS), 1, "can't write the manifest /proc/nope/", why)
    for command in ("upload", "sync"):
        ended = bigupload(command, file.parent, *to(s3, "s3://bucket/tree/"), "--progress", "none")
        assert_refused(ended, 1, "can't write the job's record /proc/nope/", "No such file or directory; set BIG")
        assert "Errno" not in ended.err
        assert ".lock" not in ended.err
