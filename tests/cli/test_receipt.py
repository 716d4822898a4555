"""`--receipt` of `upload` and `sync`, and `verify --receipt`."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import xxhash

import bigupload as package
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StoreResponse, StrictS3
from bigupload.testing.strict_s3.model import Checksum
from bigupload.verification.receipts import KIND, VERSION, ReceiptFile
from tests.crash.running import Place, end_of, until
from tests.tools.cases import each_case
from tests.tools.receipts import SCHEMA, FullDisk, read, rows_of

from .support import IN_PARTS, PART, SIZE, Command, assert_refused, to

QUIET = ("--progress", "none")
NAMES = ("a.txt", "sub/b c.txt", "sub/\u00e4.txt")


@pytest.fixture
def tree(place: Place, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = place.directory / "tree"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (root / "large").write_bytes(b"x" * SIZE)
    monkeypatch.chdir(place.directory)
    return root


@pytest.fixture
def receipt(bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a file whose object has a version, and a SHA-256 beside its own checksum."""
    monkeypatch.setattr(s3.knobs, "versioning", True)
    assert bigupload("upload", file, *to(s3), *QUIET, "--sha256", "--receipt", tmp_path / "receipt.json").code == 0
    sha256 = in_base64(hashlib.sha256(file.read_bytes()).digest())

    def respond(op: str, response: StoreResponse) -> StoreResponse:
        more = {"x-amz-checksum-sha256": sha256} if op == "HeadObject" else {}
        return dataclasses.replace(response, headers={**response.headers, **more})

    monkeypatch.setattr(s3.knobs, "respond", respond)
    return tmp_path / "receipt.json"


def test_the_schema_has_the_fields() -> None:
    of_file = SCHEMA["$defs"]["file"]
    assert set(of_file["properties"]) == set(of_file["required"]) == set(ReceiptFile.__annotations__)


def test_of_one_file(
    bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3.knobs, "versioning", True)
    receipt = tmp_path / "receipt.json"
    ended = bigupload("upload", file, *to(s3), *IN_PARTS, *QUIET, "--receipt", receipt, "--sha256", "--json")
    assert ended.code == 0, ended.err
    found, result = read(receipt), ended.result
    assert (found["target"], found["endpoint"], found["bigupload"]) == ("s3://bucket/key", s3.url, package.__version__)
    assert found["sums"] == {"files": 1, "size": SIZE, "failed": 0}
    (row,) = found["files"]
    for each in (found["begun_at"], found["ended_at"], row["proved_at"]):
        assert datetime.datetime.fromisoformat(each).tzinfo is not None
    assert {name: row[name] for name in ("size", "etag", "checksum", "verified", "version_id", "url", "key")} == {
        name: result[name] for name in ("size", "etag", "checksum", "verified", "version_id", "url", "key")
    }
    assert row["version_id"]
    assert row["source"] == str(file)
    assert row["sha256"] == result["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "secret" not in receipt.read_text().lower()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]

    os.remove(file)
    assert bigupload("verify", "--receipt", receipt, "--endpoint-url", s3.url).out == "full-object: 1 file\n"


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", ["upload", "sync"])
def test_of_many_files_also_those_that_were_there(
    bigupload: Command, s3: StrictS3, tree: Path, tmp_path: Path, command: str
) -> None:
    receipt = tmp_path / "receipt.json"
    options = [*to(s3, "s3://bucket/p/"), *QUIET, "--part-size", str(PART), "--receipt", receipt]
    s3.script("PutObject", Status(403, "AccessDenied"), key="p/a.txt", repeat=True)
    assert bigupload(command, tree, *options).code == 1
    s3.clear()
    assert read(receipt)["sums"] == {"files": 3, "size": sum(map(len, map(str.encode, NAMES[1:]))) + SIZE, "failed": 1}
    assert bigupload(command, tree, *options).code == 0
    found = read(receipt)
    assert {row["key"] for row in found["files"]} == {"p/large", *(f"p/{name}" for name in NAMES)}
    assert {row["skipped"] for row in found["files"]} == {True, False}

    there = ["--receipt", receipt, "--endpoint-url", s3.url, *QUIET]
    assert bigupload("verify", *there).out == "full-object: 4 files\n"
    copy = shutil.copytree(tree, tmp_path / "copy")
    assert bigupload("verify", copy, "--receipt", receipt).out == "full-object: 4 files\n"
    flipped = bytearray((copy / "large").read_bytes())
    flipped[4_000_000] ^= 1
    (copy / "large").write_bytes(flipped)
    (copy / "a.txt").unlink()
    ended = bigupload("verify", copy, "--receipt", receipt, *QUIET)
    assert (ended.code, ended.out) == (1, "full-object: 2 files\n")
    assert "large is another file: its crc64nvme is not the receipt's" in ended.err
    assert "a.txt: No such file or directory" in ended.err


def test_an_object_that_is_another_one_now(bigupload: Command, s3: StrictS3, tree: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    assert bigupload("upload", tree, *to(s3, "s3://bucket/p/"), *QUIET, "--receipt", receipt).code == 0
    (tree / "a.txt").write_bytes(b"A.TXT")
    assert bigupload("upload", tree / "a.txt", *to(s3, "s3://bucket/p/"), *QUIET).code == 0
    (tree / "large").write_bytes(b"x")
    assert bigupload("upload", tree / "large", *to(s3, "s3://bucket/p/"), *QUIET).code == 0
    del s3.objects["bucket"]["p/sub/b c.txt"]
    there = ["--receipt", receipt, "--endpoint-url", s3.url, *QUIET]
    ended = bigupload("verify", *there, "--json")
    *rows, sums = map(json.loads, ended.out.splitlines())
    assert (ended.code, sums["files"], sums["failed"]) == (1, 1, 3)
    assert {row["key"]: row["error"] for row in rows if "error" in row} == {
        "p/a.txt": "ObjectMismatch", "p/large": "ObjectMismatch", "p/sub/b c.txt": "ObjectNotFound",
    }  # fmt: skip
    assert "s3://bucket/p/a.txt is another object: its crc64nvme is " in ended.err


def test_an_object_of_another_writer_with_the_same_etag(
    bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path
) -> None:
    """Not every store's ETag depends on the content."""
    receipt = tmp_path / "receipt.json"
    assert bigupload("upload", file, *to(s3), *QUIET, "--receipt", receipt).code == 0
    (found,) = s3.objects["bucket"].values()
    found.checksum = Checksum("CRC32", "FULL_OBJECT", "AAAAAA==")
    ended = bigupload("verify", "--receipt", receipt, "--endpoint-url", s3.url, *QUIET)
    assert ended.code == 1
    assert "it has a checksum by CRC32, and had one by crc64nvme" in ended.err


def altered(receipt: Path, **fields: object) -> Path:
    """The receipt, with other values in its first row."""
    head, row, *rest = receipt.read_text().splitlines()
    other = receipt.with_name("altered.json")
    other.write_text("\n".join([head, json.dumps({**json.loads(row), **fields}), *rest, ""]))
    return other


def in_base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


NO_CRC = f"crc64nvme:{in_base64(bytes(8))}"
OTHER_ETAG = {"etag": f'"{"0" * 32}"'}


@each_case(
    ("fields", "says"),
    [
        ({"checksum": NO_CRC}, "its crc64nvme is "),
        ({"checksum": "crc99:AAAA"}, "had one by crc99"),
        (OTHER_ETAG, "it has another ETag"),
        ({**OTHER_ETAG, "checksum": None}, "it has another ETag"),
        ({**OTHER_ETAG, "version_id": None}, "it has another ETag"),
        ({"version_id": "v"}, "it is another version"),
        ({"version_id": "v", "checksum": None}, "it is another version"),
        ({"version_id": "v", "checksum": None, "etag": ""}, "it is another version"),
        ({"sha256": "0" * 64}, "its sha256 is "),
        ({"sha256": "0" * 64, "checksum": None, "version_id": None, "etag": ""}, "its sha256 is "),
    ],
)
def test_each_value_of_a_row_must_be_the_objects(
    bigupload: Command, s3: StrictS3, file: Path, receipt: Path, fields: dict[str, object], says: str
) -> None:
    ended = bigupload("verify", "--receipt", altered(receipt, **fields), "--endpoint-url", s3.url, *QUIET)
    assert (ended.code, ended.out) == (1, "")
    assert "s3://bucket/key is another object" in ended.err
    assert says in ended.err
    assert bigupload("verify", "--receipt", receipt, "--endpoint-url", s3.url).out == "full-object: 1 file\n"


@each_case(
    ("fields", "proof"),
    [
        ({"checksum": None, "sha256": None}, "composite-etag"),
        ({"checksum": None}, "full-object"),
        ({"checksum": None, "etag": "", "version_id": None}, "full-object"),  # by the SHA-256
        ({"etag": "", "version_id": None}, "full-object"),
    ],
)
def test_what_a_row_lacks_is_not_compared(
    bigupload: Command, s3: StrictS3, receipt: Path, fields: dict[str, object], proof: str
) -> None:
    ended = bigupload("verify", "--receipt", altered(receipt, **fields), "--endpoint-url", s3.url, *QUIET)
    assert (ended.code, ended.out) == (0, f"{proof}: 1 file\n"), ended.err


NOTHING: dict[str, object] = dict.fromkeys(("checksum", "sha256", "xxh128"))


@each_case(
    ("fields", "says"),
    [
        ({"checksum": NO_CRC}, "is another file: its crc64nvme is not the receipt's"),
        ({"checksum": f"sha256:{in_base64(bytes(32))}"}, "is another file: its sha256 is not"),
        ({"sha256": "0" * 64}, "is another file: its sha256 is not"),
        ({"xxh128": "0" * 32}, "is another file: its xxh128 is not"),
        ({**NOTHING, "xxh128": "0" * 32}, "is another file: its xxh128 is not"),
        ({**NOTHING, **OTHER_ETAG, "verified": "composite-etag"}, "is another file: its ETag is not"),
        ({"checksum": "crc64nvme:AAAA"}, "the receipt's checksum crc64nvme:AAAA is malformed"),
        ({"checksum": "crc99:AAAA"}, "the receipt's checksum crc99:AAAA is malformed"),
    ],
)
def test_each_value_of_a_row_must_be_the_copys(
    bigupload: Command, file: Path, receipt: Path, fields: dict[str, object], says: str
) -> None:
    ended = bigupload("verify", file, "--receipt", altered(receipt, **fields), *QUIET)
    assert (ended.code, ended.out) == (1, "")
    assert f"{file} " in ended.err
    assert says in ended.err


def test_a_copy_is_proved_by_any_digest_of_the_whole_file(bigupload: Command, file: Path, receipt: Path) -> None:
    xxh128 = xxhash.xxh3_128_hexdigest(file.read_bytes())
    md5 = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    for fields, proof in [
        ({"xxh128": xxh128}, "full-object"),
        ({**NOTHING, "xxh128": xxh128}, "full-object"),
        ({**NOTHING, "etag": f'"{md5}"', "verified": "composite-etag"}, "composite-etag"),
    ]:
        ended = bigupload("verify", file, "--receipt", altered(receipt, **fields), "--json")
        assert (ended.code, json.loads(ended.out.splitlines()[0])["verified"]) == (0, proof), ended.err


def test_what_was_compared_is_said_of_every_file(bigupload: Command, s3: StrictS3, tree: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    assert bigupload("upload", tree, *to(s3, "s3://bucket/p/"), *QUIET, "--receipt", receipt).code == 0
    there = ["--receipt", altered(receipt, checksum=None), "--endpoint-url", s3.url]
    ended = bigupload("verify", *there)
    assert ended.out == "composite-etag: 1 file\nfull-object: 3 files\n"
    assert ended.err.endswith(
        "altered.json: each object's ETag is the receipt's (1 file), "
        "the store's checksum of each whole object is the receipt's (3 files)\n"
    )
    ended = bigupload("verify", tree, *there[:2], "--require-proof", "size")
    assert ended.err.endswith(
        "the checksum of each file is the receipt's (3 files), only the sizes were compared (1 file)\n"
    )


def test_a_receipt_that_can_not_be_written_is_found_before_anything_is_sent(
    bigupload: Command, s3: StrictS3, tree: Path, file: Path, tmp_path: Path
) -> None:
    (tmp_path / "directory").mkdir()
    before = len(s3.requests)
    for name, code, says in (
        ("no/receipt", 1, "can't write --receipt no/receipt: No such file or directory"),
        ("directory", 1, "can't write --receipt directory: it is a directory"),
        ("", 2, "Invalid value for '--receipt': the name is empty: is a variable of the shell not set?"),
        ("tree/receipt", 2, "--receipt tree/receipt would be uploaded itself while it is written"),
    ):
        assert_refused(bigupload("upload", "tree", *to(s3, "s3://bucket/p/"), *QUIET, "--receipt", name), code, says)
    assert_refused(bigupload("upload", file, *to(s3), *QUIET, "--receipt", "no/r"), 1, "can't write --receipt no/r")
    assert_refused(
        bigupload("upload", "tree", *to(s3, "s3://bucket/p/"), "--dry-run", "--receipt", "r"), 2, "leave out --receipt"
    )
    assert len(s3.requests) == before


def test_a_file_that_is_uploaded_is_not_replaced(bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path) -> None:
    before, body = len(s3.requests), file.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(file)
    for option in ("--receipt", "--write-checksums"):
        for name in (file, link):
            ended = bigupload("upload", file, *to(s3), *QUIET, option, name)
            assert_refused(ended, 2, f"{option} {name} would replace the file that is uploaded")
    assert (len(s3.requests), file.read_bytes()) == (before, body)


def test_an_upload_that_fails_leaves_the_receipt_of_an_earlier_one(
    bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path
) -> None:
    receipt = tmp_path / "receipt.json"
    receipt.write_text("earlier")
    for target in ("s3://nowhere/key", "s3://bucket/key"):
        s3.script("PutObject", Status(403, "AccessDenied"), repeat=True)
        assert bigupload("upload", file, *to(s3, target), *QUIET, "--receipt", receipt).code == 1
        assert receipt.read_text() == "earlier"
        assert [path.name for path in tmp_path.iterdir() if "receipt" in path.name] == ["receipt.json"]


def test_a_device_is_written_and_not_replaced(bigupload: Command, s3: StrictS3, file: Path) -> None:
    assert bigupload("upload", file, *to(s3), *QUIET, "--receipt", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()


@each_case("kind", ["receipt", "checksums"])
def test_standard_output_that_is_a_file_is_written_and_not_replaced(
    bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path, kind: str
) -> None:
    """`/dev/stdout` is a name of a descriptor, which a shell's `>` lets lead to a file. Others write there, too."""
    link, option = tmp_path / f"link-{kind}", {"receipt": "--receipt", "checksums": "--write-checksums"}[kind]
    with (tmp_path / f"{kind}.txt").open("w+") as output:
        link.symlink_to(f"/dev/fd/{output.fileno()}")
        output.write("before\n")
        output.flush()
        assert bigupload("upload", file, *to(s3, f"s3://bucket/{kind}"), *QUIET, option, link).code == 0
        output.write("after\n")
        output.flush()
        output.seek(0)
        before, *written, after = output.read().splitlines()
    assert (before, after) == ("before", "after")
    assert "sha256" in "".join(written) if kind == "receipt" else written[0].endswith(str(file))
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]


def test_a_watch_needs_a_file_for_its_receipt(bigupload: Command, s3: StrictS3, tree: Path, tmp_path: Path) -> None:
    with (tmp_path / "output").open("w") as output:
        ended = bigupload("watch", tree, *to(s3, "s3://bucket/p/"), *QUIET, "--receipt", f"/dev/fd/{output.fileno()}")
    assert_refused(ended, 1, "a watch continues its receipt, so name a file")


def test_two_processes_with_one_receipt(bigupload: Command, s3: StrictS3, tree: Path, place: Place) -> None:
    """The second one is refused, and the first one's receipt is unharmed."""
    receipt, watched = place.directory / "receipt", place.directory / "watched"
    watched.mkdir()
    (watched / "film").write_bytes(b"film")
    options = [*to(s3, "s3://bucket/p/"), *QUIET, "--receipt", receipt]
    with place.start("watch", watched, *options, "--idle", "1s") as process:
        until(lambda: len(rows_of(receipt)) == 1, process)
        ended = bigupload("move", tree, *options)
        assert_refused(ended, 1, f"can't write --receipt {receipt}: another process writes it")
        process.terminate()
        end_of(process)
    assert (tree / "large").exists()
    assert bigupload("move", tree, *options).code == 0
    assert {row["key"] for row in read(receipt)["files"]} == {"p/film", "p/large", *(f"p/{name}" for name in NAMES)}


def test_a_disk_that_is_full_at_the_end(bigupload: Command, s3: StrictS3, file: Path) -> None:
    """The upload is a success, and the status says that what follows it is not."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    ended = bigupload("upload", file, *to(s3), *QUIET, "--receipt", "/dev/full")
    assert (ended.code, ended.out) == (3, f"{s3.url}/bucket/key\n")
    assert "the upload is done, but can't write --receipt /dev/full: No space left on device" in ended.err


def test_what_verify_refuses(bigupload: Command, s3: StrictS3, tree: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    assert bigupload("upload", tree, *to(s3, "s3://bucket/p/"), *QUIET, "--receipt", receipt).code == 0
    text = receipt.read_text()
    for name, content, code, says in (
        ("none", None, 1, "can't read the receipt none: No such file or directory"),
        ("empty", "", 2, "empty is not a receipt"),
        ("text", "x", 2, "text is not a receipt"),
        ("deep", '{"a": ' * 100_000, 2, "deep is not a receipt"),
        ("list", "[]", 2, "list is not a receipt"),
        ("later", text.replace('"version": 2', '"version": 3'), 2, "later is a receipt of version 3, and this reads 2"),
        ("lacks", text.replace('"etag"', '"no"'), 2, "lacks is a receipt that was damaged: a field is missing"),
    ):
        if content is not None:
            (tmp_path / name).write_text(content)
        assert_refused(bigupload("verify", "--receipt", name, "--endpoint-url", s3.url), code, says)
    if Path("/dev/zero").exists():  # it has no end
        assert_refused(bigupload("verify", "--receipt", "/dev/zero", "--endpoint-url", s3.url), 2, "is not a receipt")
    there = ["--receipt", receipt, "--endpoint-url", s3.url]
    assert_refused(bigupload("verify", tree / "a.txt", *there), 2, "is of 4 files, and", "name the directory")
    assert_refused(bigupload("verify", tree, "s3://bucket/p/", *there), 2, "leave out the s3:// URL")
    assert_refused(bigupload("verify", *there, "--download"), 2, "leave out --download")
    assert_refused(
        bigupload("verify", "--receipt", receipt, "--endpoint-url", "http://127.0.0.1:1"),
        2,
        f"this receipt is of the store {s3.url}, and the command asks http://127.0.0.1:1",
    )
    assert_refused(bigupload("verify", "--receipt", receipt, "--local"), 2, "not of the local store: leave out --local")
    assert_refused(bigupload("verify"), 2, "Missing argument 'PATH'")
    assert_refused(bigupload("verify", tree), 2, "Missing argument 's3://BUCKET/KEY'")


def lines_of(document: dict[str, Any]) -> list[Any]:
    """The lines of a receipt of `read`."""
    head = {name: value for name, value in document.items() if name not in ("files", "sums", "ended_at")}
    return [head, *document["files"], {"sums": document["sums"], "ended_at": document["ended_at"]}]


def version_1(document: dict[str, Any]) -> str:
    """A receipt of `read` as earlier releases wrote it: one document, a line each field and each file."""
    fields = {**document, "version": 1}
    files = ",".join(f"\n  {json.dumps(file)}" for file in fields.pop("files"))
    end = f' "sums": {json.dumps(fields.pop("sums"))},\n "ended_at": {json.dumps(fields.pop("ended_at"))}\n}}\n'
    head = "".join(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in fields.items())
    return f'{{\n{head} "files": [{files}\n ],\n{end}'


def test_a_receipt_that_was_damaged_proves_nothing(
    bigupload: Command, s3: StrictS3, tree: Path, tmp_path: Path
) -> None:
    """A row that is lost would be a file that nobody verifies."""
    receipt, damaged = tmp_path / "receipt.json", tmp_path / "damaged.json"
    assert bigupload("upload", tree, *to(s3, "s3://bucket/p/"), *QUIET, "--receipt", receipt).code == 0
    text, document = receipt.read_text(), read(receipt)
    rows, sums = document["files"], document["sums"]

    def refused(content: str, says: str) -> None:
        damaged.write_text(content)
        ended = bigupload("verify", "--receipt", damaged, "--endpoint-url", s3.url)
        assert_refused(ended, 2, f"damaged.json is a receipt that was damaged: {says}")
        assert_refused(bigupload("verify", tree, "--receipt", damaged), 2, "damaged")

    def with_rows(*files: object) -> dict[str, Any]:
        return {**document, "files": files}

    grown = {**sums, "size": sums["size"] + rows[2]["size"] - rows[3]["size"]}
    wrong_sums: list[object] = [{**sums, name: wrong} for name in sums for wrong in (-1, True, "4", None)]
    lost = [with_rows(*rows[:at], *rows[at + 1 :]) for at in range(len(rows))]
    cases: list[tuple[dict[str, Any], str]] = [
        *((each, "it has the rows of 3 files, and its sums say 4") for each in lost),
        (with_rows(), "it has the rows of 0 files, and its sums say 4"),
        (with_rows(*rows, rows[0]), "it has the same row twice, of p/"),
        (with_rows(*rows[:3], {**rows[3], "size": 0}), "its files have "),
        (with_rows(rows[0], rows[0], *rows[2:]), "it has the same row twice, of p/"),
        (with_rows(*rows[:3], rows[2]) | {"sums": grown}, "it has the same row twice, of p/"),
        *((with_rows(*rows[:3], {**rows[3], "size": wrong}), "a field is missing") for wrong in (-1, True, "1", 1.0)),
        *(({**document, "sums": wrong}, "its sums are missing or wrong") for wrong in (*wrong_sums, None, [], 4, {})),
    ]  # fmt: skip
    for content, says in cases:
        refused("".join(f"{json.dumps(line)}\n" for line in lines_of(content)), says)
        refused(version_1(content), says)
    for end in (*range(27), *range(61, len(text), 7), len(text) - 1):
        damaged.write_text(text[:end])
        says = "is a receipt that was damaged: it " if end > 60 else "is not a receipt"
        if "\n" in text[:end]:  # the head is whole: its command may have been killed
            says = "does not end with its sums: if the command that writes it was killed, run it again"
        assert_refused(bigupload("verify", "--receipt", damaged, "--endpoint-url", s3.url), 2, says)
    lines = text.splitlines(keepends=True)
    for at in range(1, len(lines)):
        if at + 1 < len(lines):
            refused("".join([*lines[:at], *lines[at + 1 :]]), "it ")
        half = lines[at][: len(lines[at]) // 2]
        refused("".join([*lines[:at], f"{half}\n", *lines[at + 1 :]]), "a field is missing or wrong")
    damaged.write_text(text + lines[1][:20])  # of a receipt that was appended to
    ended = bigupload("verify", "--receipt", damaged, "--endpoint-url", s3.url, *QUIET)
    assert (ended.code, ended.out) == (0, "full-object: 4 files\n")
    assert "warning: the last line of the receipt" in ended.err
    damaged.write_text("".join(lines[1:]))
    assert_refused(bigupload("verify", "--receipt", damaged, "--endpoint-url", s3.url), 2, "is not a receipt")


def test_a_receipt_of_version_1_is_read_and_not_continued(
    bigupload: Command, s3: StrictS3, tree: Path, tmp_path: Path
) -> None:
    receipt, options = tmp_path / "receipt.json", [*to(s3, "s3://bucket/p/"), *QUIET]
    assert bigupload("upload", tree, *options, "--receipt", receipt).code == 0
    text = version_1(read(receipt))
    for content in (text, json.dumps(json.loads(text)), json.dumps(json.loads(text), indent=4)):
        receipt.write_text(content)
        assert bigupload("verify", "--receipt", receipt, "--endpoint-url", s3.url).out == "full-object: 4 files\n"
        assert bigupload("verify", tree, "--receipt", receipt).out == "full-object: 4 files\n"
    ended = bigupload("move", tree, *options, "--receipt", receipt)
    assert_refused(ended, 2, "is a receipt of an earlier version, which is only read: name another file")
    assert (len(list(tree.rglob("*.txt"))), receipt.read_text()) == (len(NAMES), content)
    for end in (*range(28), *range(61, len(text) - 2, 7)):
        receipt.write_text(text[:end])
        says = "is a receipt that was damaged: it is not JSON to its end" if end > 60 else "is not a receipt"
        assert_refused(bigupload("verify", "--receipt", receipt, "--endpoint-url", s3.url), 2, says)


def test_a_receipt_without_a_file_verifies_nothing(bigupload: Command, s3: StrictS3, tmp_path: Path) -> None:
    head = {"kind": KIND, "version": VERSION, "target": "s3://bucket/p/", "endpoint": s3.url}
    sums = {"sums": {"files": 0, "size": 0, "failed": 0}}
    (tmp_path / "empty").write_text(f"{json.dumps(head)}\n{json.dumps(sums)}\n")
    ended = bigupload("verify", "--receipt", tmp_path / "empty", "--endpoint-url", s3.url)
    assert_refused(ended, 2, "empty has no file: there is nothing to verify")


def test_a_proof_that_is_too_weak(bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    options = [*to(s3), *IN_PARTS, *QUIET, "--checksum", "sha256", "--receipt", receipt]
    assert bigupload("upload", file, *options).code == 0
    there = ["--receipt", receipt, "--endpoint-url", s3.url]
    assert bigupload("verify", *there).out == "composite-checksum: 1 file\n"
    ended = bigupload("verify", file, "--receipt", receipt)
    assert ended.code == 1
    assert "the receipt has no checksum of the whole of" in ended.err
    assert bigupload("upload", file, *options, "--sha256").code == 0
    assert bigupload("verify", file, "--receipt", receipt).out == "full-object: 1 file\n"


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", ["upload", "sync"])
def test_what_is_deleted_is_in_the_receipt_before(
    bigupload: Command, s3: StrictS3, tree: Path, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk the files stay, the receipt is whole, and the same command does the rest."""
    receipt = tmp_path / "receipt.json"
    options = [*to(s3, "s3://bucket/p/"), *QUIET, "--part-size", str(PART), "--delete-source", "--receipt", receipt]
    disk = FullDisk(monkeypatch)
    ended = bigupload(command, tree, *options)
    assert ended.code == 1
    assert "is in the store and stays here: can't write --receipt" in ended.err
    assert not receipt.exists(), "it would have no file"
    disk.room = float("inf")
    assert bigupload(command, tree, *options).code == 0
    found = read(receipt)
    assert {row["key"] for row in found["files"]} == {"p/large", *(f"p/{name}" for name in NAMES)}
    assert found["sums"]["files"] == 4
    assert not any(path.is_file() for path in tree.rglob("*"))
    assert bigupload("verify", "--receipt", receipt, "--endpoint-url", s3.url).out == "full-object: 4 files\n"
