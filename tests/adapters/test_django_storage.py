"""Django's storage: files that are saved are proved, and what fails commits nothing."""

# mypy: disable-error-code="import-untyped,misc"

from __future__ import annotations

import gc
import gzip
import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile, File
from django.core.files.storage import storages
from django.core.files.uploadedfile import InMemoryUploadedFile, TemporaryUploadedFile
from django.test import override_settings

import bigupload
import tests.adapters.django_settings
from bigupload.adapters.boto3 import NotTakenOver
from bigupload.adapters.django import S3ManifestStaticStorage, S3StaticStorage, S3Storage
from bigupload.stores import local_store
from bigupload.stores.local_store import LocalStore
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.surroundings import only_strict_s3
from tests.tools.weed import weed_client

assert tests.adapters.django_settings
MIB = 1024 * 1024
BUCKET = "django"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only_strict_s3(monkeypatch, tmp_path)


@pytest.fixture(scope="session")  # as the store lives
def bucket(weed: LocalStore) -> str:
    client = weed_client(weed)
    client.create_bucket(Bucket=BUCKET)
    client.close()
    local_store.make_room(BUCKET, weed.data_dir)
    return BUCKET


def options_of(weed: LocalStore) -> dict[str, Any]:
    """`OPTIONS` of `STORAGES`, as for django-storages."""
    return {
        "endpoint_url": weed.endpoint_url,
        "access_key": weed.access_key,
        "secret_key": weed.secret_key,
        "region_name": weed.region,
        "bucket_name": BUCKET,
        "addressing_style": "path",
    }


@pytest.fixture
def storage(weed: LocalStore, bucket: str) -> S3Storage:
    return S3Storage(**options_of(weed))


@pytest.fixture
def strict() -> Any:
    with StrictS3() as running:
        running.create_bucket(BUCKET)
        yield running


def of_strict(strict: StrictS3, **more: Any) -> S3Storage:
    return S3Storage(endpoint_url=strict.url, bucket_name=BUCKET, region_name=strict.region, **more)


def read(storage: S3Storage, name: str) -> bytes:
    with storage.open(name) as file:
        data: bytes = file.read()
    return data


class Breaking(File):
    """A file that can't be read to its end, as when the client or the disk has gone."""

    def read(self, *args: Any) -> bytes:
        data: bytes = super().read(*args)
        if self.file.tell() > 12 * MIB:
            raise OSError("the disk has gone")
        return data


def test_one_line_of_the_settings(weed: LocalStore, bucket: str) -> None:
    backend = {"BACKEND": "bigupload.adapters.django.S3Storage", "OPTIONS": options_of(weed)}
    with override_settings(STORAGES={"default": backend, "staticfiles": backend}):
        storage = storages["default"]
        assert type(storage) is S3Storage
        assert storage.save("a.txt", ContentFile(b"a")) == "a.txt"
        assert read(storage, "a.txt") == b"a"
        assert (storage.exists("a.txt"), storage.size("a.txt"), storage.listdir("")[1]) == (True, 1, ["a.txt"])
        storage.delete("a.txt")
        assert not storage.exists("a.txt")


@pytest.mark.parametrize("size", [0, 10, 12 * MIB])
def test_what_was_saved_is_proved(storage: S3Storage, weed: LocalStore, size: int) -> None:
    data = os.urandom(size)
    storage.save(f"films/{size}.mp4", ContentFile(data))
    client = weed_client(weed)
    found = client.get_object(Bucket=BUCKET, Key=f"films/{size}.mp4")
    assert (found["Body"].read(), found["ContentType"]) == (data, "video/mp4")
    assert "bigupload-token" in found["Metadata"], "boto3 sent it"
    client.close()


def test_the_files_of_a_form(storage: S3Storage) -> None:
    small = InMemoryUploadedFile(ContentFile(b"small"), "f", "s.txt", "text/x-mine", 5, "utf-8")
    assert read(storage, storage.save("s.txt", small)) == b"small"
    assert storage.connection.Object(BUCKET, "s.txt").content_type == "text/x-mine"
    with TemporaryUploadedFile("l.bin", "a/b", 12 * MIB, None) as large:
        large.write(b"x" * (12 * MIB))
        assert storage.size(storage.save("l.bin", large)) == 12 * MIB


def test_text_and_gzip(weed: LocalStore, bucket: str) -> None:
    storage = S3Storage(**options_of(weed), gzip=True)
    storage.save("a.css", ContentFile("é" * 1000))
    found = storage.connection.Object(BUCKET, "a.css").get()
    assert found["ContentEncoding"] == "gzip"
    assert gzip.decompress(found["Body"].read()).decode() == "é" * 1000


def test_object_parameters(weed: LocalStore, bucket: str) -> None:
    storage = S3Storage(**options_of(weed), object_parameters={"CacheControl": "max-age=7", "Metadata": {"a": "b"}})
    storage.save("o", ContentFile(b"o"))
    found = storage.connection.Object(BUCKET, "o")
    assert (found.cache_control, found.metadata["a"], found.content_type) == (
        "max-age=7",
        "b",
        storage.default_content_type,
    )


def test_a_file_that_breaks_off_commits_nothing(strict: StrictS3, tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(os.urandom(MIB) * 24)
    storage = of_strict(strict)
    with path.open("rb") as file, pytest.raises((OSError, S3UploadFailedError)):
        storage.save("film", Breaking(file))
    assert strict.objects[BUCKET] == {}
    with path.open("rb") as file:
        storage.save("film", File(file))
    assert strict.objects[BUCKET]["film"].body == path.read_bytes()


def test_a_refusal_is_boto3s_exception(strict: StrictS3) -> None:
    strict.script("PutObject", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(ClientError) as caught:
        of_strict(strict).save("a", ContentFile(b"a"))
    assert caught.value.response["Error"]["Code"] == "AccessDenied"
    assert strict.objects[BUCKET] == {}


def test_without_the_proof_nothing_is_saved(strict: StrictS3) -> None:
    strict.knobs.echo_checksums, strict.knobs.etags = False, "opaque"
    with pytest.raises(S3UploadFailedError, match="proved"):
        of_strict(strict, require_proof="full-object").save("a", ContentFile(b"a"))
    with pytest.raises(ValueError, match="some"):
        _ = of_strict(strict, require_proof="some").connection


def test_settings_name_the_options(weed: LocalStore, bucket: str, tmp_path: Path) -> None:
    with override_settings(BIGUPLOAD_REQUIRE_PROOF="full-object", BIGUPLOAD_STATE_DIR=tmp_path / "here"):
        storage = S3Storage(**options_of(weed))
        assert storage.require_proof == "full-object"
        storage.save("film", ContentFile(bytes(12 * MIB)))
        assert list((tmp_path / "here").glob("*.jsonl"))
    with pytest.raises(ImproperlyConfigured, match="Invalid setting"):
        S3Storage(proof="full-object")


def test_other_classes(weed: LocalStore, bucket: str) -> None:
    static = S3StaticStorage(**options_of(weed))
    assert "Signature" not in static.url("a.css")
    assert "Signature" in S3Storage(**options_of(weed)).url("a.css")
    assert S3ManifestStaticStorage(**options_of(weed)).save("b.css", ContentFile(b"b")) == "b.css"


def test_it_is_deconstructed_and_pickled_as_itself(storage: S3Storage) -> None:
    """A migration names it; django-storages pickles it."""
    _ = storage.connection
    path, _arguments, options = storage.deconstruct()
    assert path == "bigupload.adapters.django.storage.S3Storage"
    assert options["bucket_name"] == BUCKET
    again = pickle.loads(pickle.dumps(storage))
    assert again.save("p", ContentFile(b"p")) == "p"


# -- open(name, "w")


class Broken(Exception):
    """What goes wrong in a block."""


def write_and_break(file: Any, data: bytes) -> None:
    with file as opened:
        opened.write(data)
        raise Broken


def test_a_file_that_is_written(storage: S3Storage, weed: LocalStore) -> None:
    data = os.urandom(12 * MIB)
    with storage.open("w/film.mp4", "wb") as file:
        assert (file.write(data[:7]), file.write(data[7:]), file.tell()) == (7, 12 * MIB - 7, 12 * MIB)
        file.flush()
    assert file.closed
    assert read(storage, "w/film.mp4") == data
    assert storage.connection.Object(BUCKET, "w/film.mp4").content_type == "video/mp4"
    file = storage.open("w/text.txt", "w")
    file.write("é")
    file.close()
    file.close()
    assert read(storage, "w/text.txt") == "é".encode()


def test_an_exception_in_the_block_makes_no_object(strict: StrictS3) -> None:
    """django-storages makes a truncated one."""
    storage = of_strict(strict)
    with pytest.raises(Broken):
        write_and_break(storage.open("film", "wb"), bytes(12 * MIB))
    assert strict.objects[BUCKET] == {}


def test_whatever_a_library_writes_by_is_in_the_object(strict: StrictS3) -> None:
    """Django's file hands what it does not have on to a temporary file, of which nothing comes into the object."""
    storage = of_strict(strict)
    with storage.open("lines", "wb") as file:
        file.writelines([b"one", "two"])
    with storage.open("film.zip", "wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("film", bytes(1000))
    with storage.open("pixels", "wb") as file:
        assert (file.readable(), file.seekable(), file.writable(), file.isatty()) == (False, False, True, False)
        with pytest.raises(io.UnsupportedOperation):
            file.fileno()  # by which Pillow, for one, writes around the file
        for change in (file.seek, file.truncate):
            with pytest.raises(io.UnsupportedOperation, match="Write to a file"):
                change(0)
        file.write(b"pixels")
    found = {key: stored.body for key, stored in strict.objects[BUCKET].items()}
    assert (found["lines"], found["pixels"]) == (b"onetwo", b"pixels")
    assert zipfile.ZipFile(io.BytesIO(found["film.zip"])).read("film") == bytes(1000)


def test_a_closed_file_is_not_written_and_not_closed_again(strict: StrictS3) -> None:
    storage = of_strict(strict)
    with pytest.raises(Broken):
        write_and_break(file := storage.open("film", "wb"), b"the first half")
    with pytest.raises(ValueError, match="closed file"):
        file.write(b"the second half")
    assert not file.writable()
    file.close()
    assert strict.objects[BUCKET] == {}
    with file.open("wb") as again:
        again.write(b"whole")
    assert strict.objects[BUCKET]["film"].body == b"whole"
    with pytest.raises(ValueError, match="new mode"):
        file.open("rb")


def test_an_exception_before_the_first_write_makes_no_empty_file(strict: StrictS3) -> None:
    file = of_strict(strict).open("film", "wb")

    def fail() -> None:
        try:
            raise Broken
        finally:
            file.close()

    with pytest.raises(bigupload.UsageError, match="Broken was handled"):
        fail()
    assert file.closed
    assert strict.objects[BUCKET] == {}


@pytest.mark.exhaustive
@pytest.mark.parametrize("size", [1, 20_000])
@pytest.mark.parametrize("kind", [io.TextIOWrapper, io.BufferedWriter])
def test_what_wraps_a_file_and_is_never_closed_makes_no_object(strict: StrictS3, kind: Any, size: int) -> None:
    """Python's wrappers close what they wrap when they are collected."""
    wrapper = kind(of_strict(strict).open("film", "wb"))
    wrapper.write("x" * size if kind is io.TextIOWrapper else bytes(size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # there is one once an upload has begun
        del wrapper
        gc.collect()
    strict.settle()
    assert strict.objects[BUCKET] == {}


def test_nothing_written_is_an_empty_file_where_there_is_none(storage: S3Storage) -> None:
    """As django-storages has it."""
    storage.open("empty", "w").close()
    assert storage.size("empty") == 0
    storage.save("full", ContentFile(b"full"))
    storage.open("full", "w").close()
    assert storage.size("full") == 4


def test_parameters_that_only_boto3_has(weed: LocalStore, bucket: str) -> None:
    storage = S3Storage(**options_of(weed), object_parameters={"BucketKeyEnabled": True})
    with pytest.warns(NotTakenOver, match="BucketKeyEnabled"):
        file = storage.open("own", "wb")
    file.write(b"own")
    file.close()
    assert read(storage, "own") == b"own"


def test_a_refusal_of_a_write_is_boto3s_exception(strict: StrictS3) -> None:
    file = S3Storage(endpoint_url=strict.url, bucket_name="no-such-bucket", region_name=strict.region).open("a", "wb")
    file.write(b"a")
    with pytest.raises(ClientError) as caught:
        file.close()
    assert caught.value.response["Error"]["Code"] == "NoSuchBucket"
