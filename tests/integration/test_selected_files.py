"""Files that a program selects, and what becomes of those that can't be."""

from __future__ import annotations

import dataclasses
import os
import socket
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

import bigupload
from bigupload import (
    FileEntry,
    ObjectNotShown,
    S3Options,
    Selection,
    StoreUnreachable,
    UploadFailed,
    UploadResult,
    UsageError,
    Verification,
    VerificationFailed,
    select_files,
)
from bigupload.testing.faults import Status
from tests.tools import awkward_tree

from .backends import Backend
from .support import BUCKET, FAST, World, no_leaks


async def test_a_directory_is_uploaded_and_what_fails_is_an_outcome(world: World, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    names = ["a.txt", "sub/+%#? \u00e9.txt", "sub/\U0001f3ac", "sub.d/-rf"]
    for name in [*names, "skip/x.tmp"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    os.mkfifo(root / "pipe")
    bad = root / os.fsdecode(b"caf\xe9")
    bad.touch()
    files = select_files(root, selection=Selection(exclude=["*.tmp"]))
    to = f"s3://{BUCKET}/p/"
    outcomes = [
        each
        async for each in bigupload.upload_many(
            files, to=to, s3=world.options(), uploader=bigupload.Uploader(retry=FAST)
        )
    ]
    assert {each.key for each in outcomes if isinstance(each, UploadResult)} == {f"p/{name}" for name in names}
    (failed,) = [each for each in outcomes if isinstance(each, UploadFailed)]
    assert failed.source == str(bad)
    assert "its name is not UTF-8" in str(failed.error)
    assert {key: each.body for key, each in world.s3.objects[BUCKET].items()} == {
        f"p/{name}": name.encode() for name in names
    }


NAMES = [name for name in awkward_tree.AWKWARD if "\\" not in name]  # which SeaweedFS takes for a slash
NAMES += ["dir.txt", "dir/a", "dir/sub/z", "dir0", "y" * 255, "/".join(["y" * 100] * 10)]


@pytest.mark.exhaustive
async def test_awkward_names_become_keys_exactly(real_store: Backend, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (root / "large\nfile\r").write_bytes(b"x" * (6 << 20))  # in two parts
    to, options = f"s3://{BUCKET}/awkward/", real_store.options
    sent = bigupload.upload_many(select_files(root), to=to, s3=options, part_size="5MiB")
    outcomes = [each async for each in sent]
    assert [each for each in outcomes if isinstance(each, UploadFailed)] == []
    assert {each.key for each in outcomes} == {f"awkward/{name}" for name in [*NAMES, "large\nfile\r"]}
    client = client_of(options)
    for name in NAMES:
        body = client.get_object(Bucket=BUCKET, Key=f"awkward/{name}")["Body"].read()
        assert body == name.encode()
    assert client.head_object(Bucket=BUCKET, Key="awkward/large\nfile\r")["ContentLength"] == 6 << 20
    listed = [each["Key"] for each in client.list_objects_v2(Bucket=BUCKET, Prefix="awkward/")["Contents"]]
    entries = [item.key async for item in select_files(root) if isinstance(item, FileEntry)]
    # SeaweedFS lists directory by directory: "dir/a" before "dir.txt".
    assert (listed if real_store.s3 is not None else sorted(listed)) == [f"awkward/{key}" for key in entries]
    client.close()


def client_of(options: S3Options) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=options.endpoint_url,
        region_name=options.region,
        verify=str(options.ca_bundle) if options.ca_bundle else None,
        aws_access_key_id=options.access_key,
        aws_secret_access_key=options.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )


async def test_a_program_verifies_what_it_uploaded(world: World) -> None:
    paths = [world.file(10 * (number != 5), f"{number}.bin", number) for number in range(20)]  # one is empty
    to = f"s3://{BUCKET}/p/"
    async for _ in bigupload.upload_many(paths, to=to, s3=world.options(), uploader=bigupload.Uploader(retry=FAST)):
        pass
    paths[3].write_bytes(b"other")
    paths[4].write_bytes(b"ten others")
    async with no_leaks():
        found = bigupload.verify_many(
            [*paths, (b"x", "bytes")], to, s3=world.options(), uploader=bigupload.Uploader(retry=FAST)
        )
        verdicts = {each.key: each async for each in found}
    proved = [key for key, each in verdicts.items() if isinstance(each, Verification)]
    assert sorted(proved) == sorted(f"p/{number}.bin" for number in range(20) if number not in (3, 4))
    reasons = {key: str(each.error) for key, each in verdicts.items() if isinstance(each, VerificationFailed)}
    assert "has 10 bytes, and the file has 5" in reasons["p/3.bin"]
    assert "is not the file: the store's checksum is" in reasons["p/4.bin"]
    assert reasons["p/bytes"] == "bytes: only files can be compared with objects"


async def test_one_object_that_the_store_does_not_show_ends_no_verification(world: World) -> None:
    """As one that is encrypted with its owner's key among others. Expired credentials look the same."""
    paths = [world.file(10, f"{number}.bin", number) for number in range(3)]
    to = f"s3://{BUCKET}/p/"
    async for _ in bigupload.upload_many(paths, to=to, s3=world.options(), uploader=bigupload.Uploader(retry=FAST)):
        pass
    world.s3.script("HeadObject", Status(400), key="p/1.bin", repeat=True)
    verdicts = [
        each
        async for each in bigupload.verify_many(paths, to, s3=world.options(), uploader=bigupload.Uploader(retry=FAST))
    ]
    (failed,) = [each for each in verdicts if isinstance(each, VerificationFailed)]
    assert (failed.key, type(failed.error), len(verdicts)) == ("p/1.bin", ObjectNotShown, 3)
    synced = await bigupload.sync(
        world.directory,
        to=to,
        s3=world.options(),
        selection=Selection(include=["*.bin"]),
        uploader=bigupload.Uploader(retry=FAST),
    )
    assert (synced.uploaded, synced.same, synced.failed) == (0, 2, 1)


async def test_what_every_object_would_meet_ends_a_verification(world: World) -> None:
    path = world.file(10)
    options = world.options()
    with pytest.raises(UsageError, match="end the target with a slash"):
        await anext(
            bigupload.verify_many([path], f"s3://{BUCKET}/key", s3=options, uploader=bigupload.Uploader(retry=FAST))
        )
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens
        options = dataclasses.replace(options, endpoint_url=f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(StoreUnreachable):
            await anext(
                bigupload.verify_many([path], f"s3://{BUCKET}/p/", s3=options, uploader=bigupload.Uploader(retry=FAST))
            )
