"""A program that uses every public name, for strict type checkers. It is never run."""

from __future__ import annotations

import asyncio
import csv
import io
import pickle
import shutil
import sys
import tarfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal, assert_type

import aiohttp
import boto3

import bigupload
from bigupload import KnownUpload, OrphanReport, ReadBack, S3Options, UploadResult, Verification, events
from bigupload.adapters.boto3 import install, uninstall


def on_event(event: bigupload.Event) -> None:
    if isinstance(event, events.PartUploaded):
        assert_type(event.number, int)
    assert_type(event.upload, bigupload.UploadIdentity)
    assert_type(event.upload.manifest, Path | None)


async def on_event_later(event: bigupload.Event) -> None: ...


async def program() -> None:
    s3 = S3Options(endpoint_url="https://minio.example:9000", region="eu-west-1")
    async with bigupload.Uploader(concurrency=8, limit_rate="20MB/s", hedge=False) as uploader:
        result = await uploader.upload("f", to="s3://b/k", s3=s3, checksum="sha256", on_event=on_event)
        assert_type(result, UploadResult)
        assert_type(result.verified, bigupload.Verified)
        assert_type(await uploader.resume(Path("m"), trust=True), UploadResult)
        assert_type(await uploader.list_uploads(), list[KnownUpload])
        handle = uploader.start("f", to="s3://b/k", s3=s3, on_event=on_event_later)
        assert_type(handle, bigupload.UploadHandle)
        async for event in handle:
            assert_type(event, bigupload.Event)
        assert_type(handle.progress, bigupload.Progress)
        assert_type(handle.manifest, Path | None)
        assert_type(await handle, UploadResult)
        assert_type(await handle.result(), UploadResult)
        handle.cancel()
        await handle.aclose()
        async with uploader.open_writer("s3://b/k", s3=s3, on_error="abort") as pushed:
            assert_type(pushed, bigupload.AsyncUploadWriter)
            assert_type(await pushed.write(b"data"), int)
        assert_type(pushed.result, UploadResult)
    with bigupload.open_writer(
        "s3://b/k", s3=s3, expected_size="5GB", uploader=bigupload.Uploader(limit_rate=1e6)
    ) as writer:
        assert_type(writer, bigupload.UploadWriter)
        with zipfile.ZipFile(writer, "w") as written, tarfile.open(fileobj=writer, mode="w|gz") as tar:
            written.write("f")
            tar.add("f")
        csv.writer(io.TextIOWrapper(writer, "utf-8")).writerow(["a"])
        pickle.dump({}, writer)
        shutil.copyfileobj(io.BytesIO(b""), writer)
        assert_type(writer.write(memoryview(b"")), int)
    assert_type(writer.result.verified, bigupload.Verified)
    assert_type(writer.durable_offset, int)
    with bigupload.open_writer(to="s3://b/k", text=True, encoding="utf-8") as text:
        assert_type(text, bigupload.TextUploadWriter)
        csv.writer(text).writerow(["a"])
        print("a", file=text)
    assert_type(text.result, UploadResult)
    written_as: bigupload.WriterOptions = {"to": "s3://b/k", "on_error": "keep"}
    assert_type(bigupload.open_writer(**written_as), bigupload.UploadWriter)
    told: asyncio.Queue[bigupload.Event] = asyncio.Queue()
    assert_type(
        bigupload.start("f", to="s3://b/k", on_event=told.put, uploader=bigupload.Uploader(hedge=False)),
        bigupload.UploadHandle,
    )
    await bigupload.upload("f", to="s3://b/k", on_event=lambda event: told.put(event))
    await bigupload.upload("f", to="s3://b/k", on_event=print)
    await bigupload.upload("f", to="s3://b/k", on_event=list[bigupload.Event]().append)
    assert_type(
        await bigupload.upload(
            "f", service="https://media.example", part_size="16MiB", uploader=bigupload.Uploader(concurrency=None)
        ),
        UploadResult,
    )
    assert_type(bigupload.upload_sync(Path("f"), to="s3://b/k", require_proof="full-object"), UploadResult)
    assert_type(
        await bigupload.resume("0123456789", source="g", uploader=bigupload.Uploader(limit_rate=1e6)), UploadResult
    )
    assert_type(await bigupload.adopt("s3://b/k", source="f", upload_id="u", s3=s3), UploadResult)
    assert_type(await bigupload.verify("f", "s3://b/k", require_proof=bigupload.Verified.SIZE), Verification)
    assert_type(await bigupload.read_back("f", "s3://b/k", on_event=on_event), ReadBack)
    assert_type(await bigupload.abort_orphans("s3://b/p", older_than="2d", dry_run=True), OrphanReport)
    await bigupload.abort("m", s3=S3Options(session=boto3.Session(profile_name="p")))
    with open("f", "rb") as file, zipfile.ZipFile(file) as archive, archive.open("member") as member:
        for source in (file, member, io.BytesIO(b"")):
            assert_type(await bigupload.upload(source, to="s3://b/folder/", name="f.bin"), UploadResult)
    reader = asyncio.StreamReader()
    chunks: AsyncIterator[bytes] = aiter(reader)
    await bigupload.upload(reader, to="s3://b/k", expected_size="5GB", end_marker=b"complete")
    await bigupload.upload(chunks, to="s3://b/k", allow_empty=True, uploader=bigupload.Uploader(temp_dir="/var/tmp"))
    await bigupload.upload([b"a", bytearray(b"b")], to="s3://b/k")
    await bigupload.upload((line.encode() for line in "lines"), to="s3://b/k")
    await bigupload.upload(sys.stdin.buffer, to="s3://b/k")
    async with aiohttp.ClientSession() as session, session.get("https://example.org") as response:
        await bigupload.upload(response.content, to="s3://b/k", expected_size=response.content_length)
    for data in (b"", bytearray(), memoryview(b"")):
        result = await bigupload.upload(data, to="s3://b/k")
        assert_type(result.guarded_by, Literal["fingerprint", "version", "checksums"])
    async for done in bigupload.upload_many(["f", Path("f"), (b"data", "key")], to="s3://b/folder/", job="nightly"):
        assert_type(done, UploadResult | bigupload.UploadFailed)
    options: bigupload.UploadOptions = {"to": "s3://b/k", "checksum": "md5"}
    await bigupload.upload("f", **options)
    try:
        pass
    except (bigupload.StoreUnreachable, bigupload.SourceChanged, bigupload.UploadCancelled) as e:
        assert_type(e.manifest, Path | None)


def adapted() -> None:
    """boto3 has no types of its own, and `boto3-stubs` may be there or not."""
    client = install(boto3.client("s3"), require_proof="full-object", on_result=print_result)
    client.upload_file("film.mov", "my-bucket", "film.mov", ExtraArgs={"ContentType": "video/mp4"})
    with open("film.mov", "rb") as file:
        uninstall(client).upload_fileobj(file, "my-bucket", "film.mov")


def print_result(result: bigupload.UploadResult) -> None:
    print(result.verified)
