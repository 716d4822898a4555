"""A program that uses what is around an upload, for strict type checkers. It is never run.

Jobs, deletion, receipts, links, writers of text, and the adapters.
"""

from __future__ import annotations

import contextlib
import datetime
from pathlib import Path
from typing import assert_type

import boto3

import bigupload
from bigupload import Omitted, S3Options, Selection, Share, SyncStep, UploadFailed, UploadResult
from bigupload.adapters.boto3 import install
from bigupload.adapters.django import MediaService, S3ManifestStaticStorage, S3Storage, UploadedKey, UploadField
from bigupload.adapters.s3fs import S3FileSystem


def on_outcome(outcome: UploadResult | UploadFailed | SyncStep | Omitted) -> None:
    match outcome:
        case SyncStep(action=action, key=key):
            print(action, key)
        case UploadFailed(source=source, error=error):
            assert_type(error, bigupload.BigUploadError)
            print(source)
        case Omitted():
            assert_type(outcome, Omitted)
        case _:
            assert_type(outcome, UploadResult)


async def publish(row: bigupload.Row) -> bigupload.Row:
    assert_type(row.path, str)
    assert_type(row.result, UploadResult | None)
    return row


async def after_the_proof() -> None:
    deletion = bigupload.DeleteSource(proved_by="composite-etag", empty_dirs=True, links=True)
    digest, link, receipt = (
        bigupload.Digest("sha256", "xxh128"),
        bigupload.Link("7d"),
        bigupload.Receipt(Path("f.json")),
    )
    result = await bigupload.upload("f", "s3://b/k", then=(digest, link, publish, receipt, deletion))
    await bigupload.upload("f", "s3://b/k", then=publish)
    assert_type(result.source_deleted, bool)
    assert_type(result.sha256, str | None)
    assert_type(result.share, Share | None)
    if result.share is not None:
        assert_type(result.share.url, str | None)
        assert_type(result.share.expires_at, str | None)
    assert_type(await bigupload.share("s3://b/k", lasts="2d", s3=S3Options(profile="p")), Share)
    try:
        bigupload.upload_sync("f", to="s3://b/k", then=bigupload.Receipt("f.json"))
    except (bigupload.OutputUnwritable, bigupload.SourceNotDeleted) as e:
        assert_type(e.exit_code, int)


async def jobs() -> None:
    selection = Selection(exclude=["*.tmp"], newer_than=datetime.datetime.now(datetime.UTC))
    files = bigupload.select_files("photos", selection=selection)
    async for done in bigupload.upload_many(
        files, to="s3://b/p/", job="nightly", then=[bigupload.Link(3600), bigupload.DeleteSource()]
    ):
        assert_type(done, UploadResult | UploadFailed)
    synced = await bigupload.sync(
        "photos", "s3://b/p/", selection=selection, delete=True, on_outcome=on_outcome, then=bigupload.Link("1h")
    )
    assert_type(synced, bigupload.SyncResult)
    async with bigupload.Uploader(state_dir="state") as uploader:
        watching = uploader.watch(
            "card", "s3://b/card/", then=(bigupload.Digest("sha256"), bigupload.Receipt("r.json"))
        )
        async with contextlib.aclosing(watching) as outcomes:
            async for outcome in outcomes:
                assert_type(outcome, UploadResult | UploadFailed)
        async for verdict in uploader.verify_many(["f", ("g", "k")], "s3://b/p/"):
            assert_type(verdict, bigupload.Verification | bigupload.VerificationFailed)
    options: bigupload.SyncOptions = {"to": "s3://b/p/", "then": publish}
    await bigupload.sync("photos", **options)
    watched: bigupload.WatchOptions = {"to": "s3://b/p/", "until_idle": "1min", "then": ()}
    bigupload.watch("card", **watched)


async def writers() -> None:
    async with bigupload.Uploader() as uploader, uploader.open_writer("s3://b/k") as plain:
        assert_type(plain, bigupload.AsyncUploadWriter)
        await plain.writelines([b"a", memoryview(b"b")])


def adapters() -> None:
    client = install(boto3.client("s3"), require_proof="full-object", state_dir="state", on_result=print_result)
    client.upload_file("film.mov", "b", "film.mov")
    system = S3FileSystem(profile="films", require_proof="full-object", limit_rate="20MB/s")
    system.put_file("movie.mov", "b/movie.mov")
    with system.open("b/rows.csv", "wb") as file:
        file.write(b"a,b\n")
    storage = S3Storage(bucket_name="b", require_proof="full-object")
    S3ManifestStaticStorage()
    field = UploadField(
        accept=["video/*"], max_size=5_000_000_000, service=MediaService(url="https://media.example", api_key="sk_x")
    )
    field.user = "17"
    storage.save("name", UploadedKey("media/films/17.mp4"))


def print_result(result: UploadResult) -> None:
    print(result.verified)
