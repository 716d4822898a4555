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
from bigupload import JobDone, Omitted, S3Options, Selection, Share, SyncStep, UploadFailed, UploadResult
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


async def on_done(done: JobDone) -> None:
    assert_type(done.files, int)
    assert_type(done.seconds, float)


async def after_the_proof() -> None:
    result = await bigupload.upload(
        "f", to="s3://b/k", delete_source=True, delete_if_proved="composite-etag", delete_empty_dirs=True,
        delete_links=True, keep_for="7d", receipt=Path("f.json"), share="7d", sha256=True, xxh128=True,
    )  # fmt: skip
    assert_type(result.source_deleted, bool)
    assert_type(result.source_kept_until, str | None)
    assert_type(result.sha256, str | None)
    assert_type(result.share, Share | None)
    if result.share is not None:
        assert_type(result.share.url, str | None)
        assert_type(result.share.expires_at, str | None)
    assert_type(await bigupload.share("s3://b/k", lasts="2d", s3=S3Options(profile="p")), Share)
    try:
        bigupload.upload_sync("f", to="s3://b/k", receipt="f.json")
    except (bigupload.OutputUnwritable, bigupload.SourceNotDeleted) as e:
        assert_type(e.exit_code, int)


async def jobs() -> None:
    selection = Selection(exclude=["*.tmp"], newer_than=datetime.datetime.now(datetime.UTC))
    files = bigupload.select_files("photos", selection=selection)
    async for done in bigupload.upload_many(
        files, to="s3://b/p/", job="nightly", delete_source=True, receipt="r.json", share=3600, on_done=on_done
    ):
        assert_type(done, UploadResult | UploadFailed)
    synced = await bigupload.sync(
        "photos", "s3://b/p/", selection=selection, delete=True, on_outcome=on_outcome, receipt="r.json", share="1h"
    )
    assert_type(synced, bigupload.SyncResult)
    async with bigupload.Uploader(state_dir="state") as uploader:
        watching = uploader.watch(
            "card", "s3://b/card/", receipt="r.json", share="7d", sha256=True, delete_source=True, keep_for=60.0
        )
        async with contextlib.aclosing(watching) as outcomes:
            async for outcome in outcomes:
                assert_type(outcome, UploadResult | UploadFailed)
        async for verdict in uploader.verify_many(["f", ("g", "k")], "s3://b/p/"):
            assert_type(verdict, bigupload.Verification | bigupload.VerificationFailed)
    options: bigupload.SyncOptions = {"to": "s3://b/p/", "receipt": "r.json"}
    await bigupload.sync("photos", **options)
    watched: bigupload.WatchOptions = {"to": "s3://b/p/", "until_idle": "1min", "share": "1h"}
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
