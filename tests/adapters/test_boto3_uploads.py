"""`upload_file` and `upload_fileobj` of a client with the adapter: what they upload, and how they report it."""

from __future__ import annotations

import gzip
import inspect
import io
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig

from bigupload import UploadResult, Verified
from bigupload.adapters.boto3 import NotTakenOver, install, uninstall
from bigupload.testing.strict_s3 import StrictS3
from tests.integration.support import content

MIB = 1024 * 1024
LARGE = content(9 * MIB + 77)
FileOf = Callable[[bytes], str]


class OneWay:
    """A stream: it has `read` and nothing else, and returns less than it is asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, 700_001) if size > 0 else size)


def body(s3: StrictS3, key: str = "key") -> bytes:
    return s3.objects["bucket"][key].body


@pytest.mark.parametrize("data", [b"", b"small", LARGE], ids=["empty", "small", "large"])
def test_a_file(client: Any, s3: StrictS3, results: list[UploadResult], file_of: FileOf, data: bytes) -> None:
    seen: list[int] = []
    assert client.upload_file(file_of(data), "bucket", "key", Callback=seen.append) is None
    assert body(s3) == data
    assert sum(seen) == len(data)
    assert [result.verified for result in results] == [Verified.FULL_OBJECT]
    assert s3.count("CreateMultipartUpload") == (len(data) > 8 * MIB)


def test_a_path_object(client: Any, s3: StrictS3, file_of: FileOf) -> None:
    client.upload_file(Path(file_of(b"data")), "bucket", "a/key")
    assert body(s3, "a/key") == b"data"


@pytest.mark.exhaustive
@pytest.mark.parametrize("data", [b"", b"small", LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("kind", ["memory", "file", "stream", "gzip"])
def test_a_file_object(
    client: Any, s3: StrictS3, results: list[UploadResult], file_of: FileOf, tmp_path: Path, data: bytes, kind: str
) -> None:
    seen: list[int] = []
    path = file_of(data)
    if kind == "gzip":
        (tmp_path / "packed").write_bytes(gzip.compress(data))
    made: dict[str, Callable[[], Any]] = {
        "memory": lambda: io.BytesIO(data),
        "file": lambda: open(path, "rb"),  # noqa: SIM115 - closed below
        "stream": lambda: OneWay(data),
        "gzip": lambda: gzip.open(tmp_path / "packed"),  # noqa: SIM115 - as above
    }
    fileobj = made[kind]()
    client.upload_fileobj(fileobj, "bucket", "key", Callback=seen.append)
    assert body(s3) == data
    assert sum(seen) == len(data)
    assert results[-1].verified is Verified.FULL_OBJECT
    assert fileobj.read() == b"", "it is at its end, and open"
    if kind != "stream":
        fileobj.close()


class Decrypting(io.BytesIO):
    """Has a `read` of its own, as objects that count, limit or decrypt have."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size).swapcase()


@pytest.mark.parametrize("data", [b"small", b"large" * 2_000_000], ids=["small", "large"])
def test_the_read_of_a_subclass_is_what_is_uploaded(client: Any, s3: StrictS3, data: bytes) -> None:
    client.upload_fileobj(Decrypting(data.swapcase()), "bucket", "key")
    assert body(s3) == data


class Shorter:
    """Its end lies 100 bytes behind the last one that it gives."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, size: int = -1) -> bytes:
        piece = self._data[self._at :] if size < 0 else self._data[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, len(self._data) + 100)[whence]
        return self._at

    def tell(self) -> int:
        return self._at


@pytest.mark.parametrize("data", [b"", b"small", LARGE], ids=["empty", "small", "large"])
def test_a_file_object_that_ends_early_makes_no_object(client: Any, s3: StrictS3, data: bytes) -> None:
    says = (
        r"Failed to upload Shorter object to bucket/key: (it ended after [\d,]+ of|key changed while it was uploaded$)"
    )
    with pytest.raises(S3UploadFailedError, match=says):
        client.upload_fileobj(Shorter(data), "bucket", "key")
    assert s3.objects["bucket"] == {}
    assert s3.uploads == {}


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_read_that_ends_the_program_ends_no_other_upload(
    client: Any, s3: StrictS3, kind: type[BaseException]
) -> None:
    """Whoever catches it, as a test runner or a server does, uploads on."""

    class Ending(OneWay):
        def read(self, size: int = -1) -> bytes:
            if not (data := super().read(size)):
                raise kind
            return data

    with pytest.raises(kind):
        client.upload_fileobj(Ending(LARGE), "bucket", "key")
    assert s3.objects["bucket"] == {}
    client.upload_fileobj(OneWay(LARGE), "bucket", "key")
    assert body(s3) == LARGE


def test_a_file_object_that_does_not_block_is_not_at_its_end(client: Any, s3: StrictS3) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with open(reading, "rb", buffering=0) as file, open(writing, "wb", buffering=0) as other:
        other.write(b"the first half")
        with pytest.raises(ValueError, match="let it block"):
            client.upload_fileobj(file, "bucket", "key")
    assert s3.objects["bucket"] == {}


@pytest.mark.exhaustive
@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("kind", [io.BytesIO, OneWay])
def test_a_file_object_is_uploaded_from_its_position_on(client: Any, s3: StrictS3, data: bytes, kind: Any) -> None:
    fileobj = kind(b"header" + data)
    fileobj.read(6)
    client.upload_fileobj(fileobj, "bucket", "key")
    assert body(s3) == data


def test_the_methods_of_a_resource(s3: StrictS3, results: list[UploadResult], file_of: FileOf) -> None:
    resource = boto3.resource("s3")
    install(resource.meta.client, on_result=results.append)
    path = file_of(b"data")
    resource.Bucket("bucket").upload_file(path, "one")
    resource.Bucket("bucket").upload_fileobj(io.BytesIO(b"data"), "two")
    resource.Object("bucket", "three").upload_file(path)
    resource.Object("bucket", "four").upload_fileobj(io.BytesIO(b"data"))
    assert [result.key for result in results] == ["one", "two", "three", "four"]
    assert {key: body(s3, key) for key in s3.objects["bucket"]} == dict.fromkeys(
        ("one", "two", "three", "four"), b"data"
    )
    uninstall(resource.meta.client)
    resource.meta.client.close()


@pytest.mark.slow
def test_many_threads(client: Any, s3: StrictS3, results: list[UploadResult], tmp_path: Path) -> None:
    """Small and large, and two of them to one key."""
    sizes = [1, 9 * MIB, 1000] * 3
    for number, size in enumerate(sizes):
        (tmp_path / str(number)).write_bytes(content(size))
    with ThreadPoolExecutor(9) as pool:
        list(pool.map(lambda n: client.upload_file(str(tmp_path / str(n)), "bucket", f"key-{n}"), range(len(sizes))))
        list(pool.map(lambda _: client.upload_file(str(tmp_path / "1"), "bucket", "same"), range(2)))
    assert [len(body(s3, f"key-{n}")) for n in range(len(sizes))] == sizes
    assert body(s3, "same") == content(9 * MIB)
    assert len(results) == len(sizes) + 2


def test_in_an_event_loop(client: Any, s3: StrictS3) -> None:
    """boto3's methods block, in a notebook's cell as well."""
    import asyncio

    async def program() -> None:
        client.upload_fileobj(io.BytesIO(b"data"), "bucket", "key")

    asyncio.run(program())
    assert body(s3) == b"data"


def test_the_content_type_is_that_of_boto3(client: Any, plain: Any, s3: StrictS3, tmp_path: Path) -> None:
    """boto3 guesses none, and S3 takes its own."""
    (tmp_path / "film.mp4").write_bytes(b"data")
    client.upload_file(str(tmp_path / "film.mp4"), "bucket", "film.mp4")
    assert plain.head_object(Bucket="bucket", Key="film.mp4")["ContentType"] == "binary/octet-stream"


# -- Config


def test_a_chunk_size_and_a_concurrency(
    client: Any, s3: StrictS3, results: list[UploadResult], file_of: FileOf
) -> None:
    config = TransferConfig(multipart_threshold=1, multipart_chunksize=5 * MIB, max_concurrency=1)
    client.upload_file(file_of(LARGE), "bucket", "key", Config=config)
    assert results[-1].parts == 2
    client.upload_file(file_of(LARGE), "bucket", "key", Config=TransferConfig(multipart_chunksize=1))
    assert results[-1].parts == 2, "boto3 makes parts that S3 takes of any chunk size"


def test_no_threads(client: Any, s3: StrictS3, file_of: FileOf) -> None:
    client.upload_file(file_of(LARGE), "bucket", "key", Config=TransferConfig(use_threads=False))
    assert body(s3) == LARGE


def test_one_put_below_an_explicit_threshold(
    client: Any, s3: StrictS3, results: list[UploadResult], file_of: FileOf
) -> None:
    """Only boto3 sends it so: bigupload sends parts, because one PUT can't resume."""
    config = TransferConfig(multipart_threshold=20 * MIB)
    with pytest.warns(NotTakenOver, match="multipart_threshold=20971520 asks for one PUT"):
        client.upload_file(file_of(LARGE), "bucket", "key", Config=config)
    fileobj = io.BytesIO(b"x" + LARGE)
    fileobj.read(1)
    with pytest.warns(NotTakenOver):
        client.upload_fileobj(fileobj, "bucket", "other", Config=config)
    assert body(s3) == body(s3, "other") == LARGE
    assert s3.count("CreateMultipartUpload") == 0
    assert results == []


# -- Callback


def test_a_callback_runs_in_the_thread_of_its_caller(client: Any, file_of: FileOf) -> None:
    threads: set[int] = set()
    client.upload_file(file_of(LARGE), "bucket", "key", Callback=lambda _: threads.add(threading.get_ident()))
    assert threads == {threading.get_ident()}


def test_what_a_callback_raises_ends_the_upload_which_resumes(
    client: Any, s3: StrictS3, results: list[UploadResult], file_of: FileOf
) -> None:
    def fail(_: int) -> None:
        raise ZeroDivisionError

    path = file_of(LARGE)
    s3.hold("UploadPart")  # otherwise it may be complete by then
    with pytest.raises(ZeroDivisionError):
        client.upload_file(path, "bucket", "key", Callback=fail)
    s3.release()
    assert "key" not in s3.objects["bucket"]
    seen: list[int] = []
    client.upload_file(path, "bucket", "key", Callback=seen.append)
    assert body(s3) == LARGE
    assert sum(seen) == len(LARGE)
    assert s3.count("CreateMultipartUpload") == 1


# -- install and uninstall


def test_the_signatures_are_those_of_boto3(client: Any, plain: Any) -> None:
    for name in ("upload_file", "upload_fileobj"):
        ours, theirs = (inspect.signature(getattr(each, name)) for each in (client, plain))
        assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == [
            (p.name, p.kind, p.default) for p in theirs.parameters.values()
        ]


def test_uninstall(client: Any, plain: Any, s3: StrictS3, results: list[UploadResult]) -> None:
    install(client, on_result=results.append)  # again: the options change, and nothing is nested
    assert uninstall(client) is client
    assert client.upload_file.__func__ is not None
    assert not {"upload_file", "upload_fileobj"} & vars(client).keys()
    client.upload_fileobj(io.BytesIO(b"data"), "bucket", "key")
    assert results == []
    assert uninstall(plain) is plain


def test_what_stood_in_place_of_the_methods_comes_back(plain: Any) -> None:
    own = plain.upload_file = lambda *_, **__: None
    uninstall(install(plain))
    assert plain.upload_file is own


def test_what_is_no_client(plain: Any) -> None:
    for wrong in (boto3.resource("s3"), boto3.Session(), None):
        with pytest.raises(TypeError, match=r"install takes a boto3 client for S3: boto3.client\('s3'\)"):
            install(wrong)  # type: ignore[type-var]  # a caller's mistake
    with pytest.raises(ValueError, match="no-such-proof"):
        install(plain, require_proof="no-such-proof")  # type: ignore[arg-type]  # the same
    assert not {"upload_file", "upload_fileobj"} & vars(plain).keys()


def test_an_object_whose_proof_is_too_weak(s3: StrictS3, file_of: FileOf) -> None:
    client = install(boto3.client("s3"), require_proof="full-object")
    with pytest.raises(S3UploadFailedError, match="full-object is required"):
        client.upload_file(file_of(LARGE), "bucket", "key", ExtraArgs={"ChecksumAlgorithm": "SHA256"})
    client.close()


def test_the_state_directory(s3: StrictS3, file_of: FileOf, tmp_path: Path, bigupload_state: Path) -> None:
    client = install(boto3.client("s3"), state_dir=tmp_path / "manifests")
    client.upload_file(file_of(LARGE), "bucket", "key")
    assert len(list((tmp_path / "manifests").glob("*.jsonl"))) == 1
    assert not bigupload_state.exists() or not list(bigupload_state.glob("*.jsonl"))
    uninstall(client)
    client.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_a_forked_process(client: Any, s3: StrictS3, file_of: FileOf) -> None:
    """As Airflow's and Celery's workers: the child has neither the thread nor the connections, and hurts no parent."""
    path = file_of(LARGE)
    client.upload_file(path, "bucket", "before")
    child = os.fork()
    if not child:
        code = 1
        try:
            client.upload_file(path, "bucket", "child")
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    client.upload_file(path, "bucket", "after")
    assert body(s3, "before") == body(s3, "child") == body(s3, "after") == LARGE
