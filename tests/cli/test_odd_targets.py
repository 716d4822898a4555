"""Targets that are valid and probably a mistake: the object is stored as asked, and one warning names what is odd."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigupload import S3Options, Uploader, UsageError, events
from bigupload.testing.strict_s3 import StrictS3

from .support import Command, assert_refused, to

ODD = "s3://bucket//f/"
SAID = f"warning: the key in '{ODD}' has an empty segment (two slashes), which is kept: S3 joins no slashes"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Names of files are nobody's mistake."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a*1", "b "):
        (folder / name).write_bytes(b"content")
    return folder


@pytest.mark.parametrize("command", ["upload", "move", "sync", "watch"])
@pytest.mark.parametrize("progress", ["none", "plain"])
def test_commands(bigupload: Command, s3: StrictS3, folder: Path, command: str, progress: str) -> None:
    more = ["--idle", "1s", "--until-idle", "1s"] if command == "watch" else []
    ended = bigupload(command, folder, *to(s3, ODD), *more, "--progress", progress)
    assert ended.code == 0
    about = folder.name if command == "watch" else "bigupload"
    assert [line for line in ended.err.splitlines() if "warning" in line] == [f"{about}: {SAID}"]
    assert set(s3.objects["bucket"]) == {"/f/a*1", "/f/b "}


@pytest.mark.parametrize("command", ["upload", "move", "sync", "watch"])
def test_an_empty_target_is_none(bigupload: Command, s3: StrictS3, folder: Path, command: str) -> None:
    """As of a variable that is not set. It must not mean the local store's bucket at another store."""
    s3.create_bucket("bigupload")
    client = s3.client()
    client.put_object(Bucket="bigupload", Key="theirs", Body=b"")
    client.close()
    more = {"watch": ["--idle", "1s", "--until-idle", "1s"], "sync": ["--delete"]}.get(command, [])
    for empty in ("", " "):
        ended = bigupload(command, folder, *to(s3, empty), *more, "--progress", "none")
        assert_refused(ended, 2, "the target is empty: is a variable of the shell not set?")
    assert set(s3.objects["bigupload"]) == {"theirs"}
    assert len(list(folder.iterdir())) == 2


@pytest.mark.usefixtures("bigupload")
async def test_an_empty_target_of_the_library(s3: StrictS3, folder: Path) -> None:
    options = S3Options(endpoint_url=s3.url)
    async with Uploader(s3=options) as uploader:
        with pytest.raises(UsageError, match="the target is empty"):
            await uploader.upload(folder / "b ", to="")
        with pytest.raises(UsageError, match="the target is empty"):
            async with uploader.open_writer(to="", name="a"):
                pass


def test_one_file(bigupload: Command, s3: StrictS3, file: Path) -> None:
    ended = bigupload("upload", file, *to(s3, ODD), "--progress", "none")
    assert (ended.code, ended.err) == (0, f"{file.name}: {SAID}\n")
    assert bigupload("upload", file, *to(s3, "s3://bucket/f"), "--progress", "none").err == ""


@pytest.mark.usefixtures("bigupload")
async def test_the_library(s3: StrictS3, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    import bigupload as library

    told: list[str] = []

    def on_event(event: events.Event) -> None:
        if isinstance(event, events.Warned):
            told.append(event.message)

    options = library.S3Options(endpoint_url=s3.url)
    async with Uploader(s3=options) as uploader:
        await uploader.upload(b"content", to=f"{ODD}x", on_event=on_event)
        async with uploader.open_writer(to=f"{ODD}y", on_event=on_event) as writer:
            await writer.write(b"content")
        async for _ in uploader.upload_many([folder / "a*1"], to=ODD, on_event=on_event):
            pass
        await uploader.sync(folder, to=ODD, on_event=on_event)
    assert len(told) == 4
    assert all("has an empty segment" in message for message in told)
    assert sum(record.getMessage().startswith(f"the key in '{ODD}") for record in caplog.records) == 4
