"""Targets: URLs, stores, content types and where manifests are kept."""

from __future__ import annotations

import configparser
import contextlib
from pathlib import Path
from typing import Any

import pytest

from bigupload import errors
from bigupload.core.manifest import Target
from bigupload.manifests.state_directory import state_dir
from bigupload.options import S3Options
from bigupload.ports import UnsignedPart
from bigupload.sources.file import FileSource
from bigupload.stores import local_store
from bigupload.stores.s3 import access
from bigupload.stores.s3.access import refuse_unsuited, region_of
from bigupload.stores.s3.multipart import S3Store
from bigupload.stores.targets import connect, connect_service, oddities_of, parse_s3_url, reconnect, with_type_of
from tests.tools.cases import each_case

POINT = "arn:aws:s3:eu-west-1:123456789012:accesspoint/films"
"""An access point, in place of a bucket's name. `s3/test_access` has its address."""
POINT_IN_CHINA = "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/films"


@each_case(
    ("url", "name", "expected"),
    [
        ("s3://bucket/key", None, ("bucket", "key")),
        ("s3://bucket/key", "file", ("bucket", "key")),
        ("S3://bucket/a/b c+d?e#f%20", None, ("bucket", "a/b c+d?e#f%20")),
        ("s3://bucket", "file", ("bucket", "file")),
        ("s3://bucket/", "file", ("bucket", "file")),
        ("s3://bucket/folder/", "file", ("bucket", "folder/file")),
        ("s3://bucket//", "file", ("bucket", "/file")),
        ("s3://bucket/x://y", None, ("bucket", "x://y")),
        ("s3://b/" + "k" * 1024, None, ("b", "k" * 1024)),
        ("s3://b/" + "é" * 512, None, ("b", "é" * 512)),
        ("s3://b/a\nb", None, ("b", "a\nb")),
        ("s3://b/f/", "a\rb\x7f\n", ("b", "f/a\rb\x7f\n")),
        (f"s3://{POINT}/raw/a.mov", "file", (POINT, "raw/a.mov")),
        (f"s3://{POINT}/raw/", "file", (POINT, "raw/file")),
        (f"s3://{POINT}/", "file", (POINT, "file")),
        (f"s3://{POINT}", "file", (POINT, "file")),
        (f"s3://{POINT.replace('/', ':')}/raw/a:b", "file", (POINT.replace("/", ":"), "raw/a:b")),
        (f"s3://{POINT_IN_CHINA}/k", "file", (POINT_IN_CHINA, "k")),
        ("s3://films-abcdef-s3alias/k", "file", ("films-abcdef-s3alias", "k")),
        ("s3://bucket/arn:aws:s3", "file", ("bucket", "arn:aws:s3")),
    ],
)
def test_urls(url: str, name: str | None, expected: tuple[str, str]) -> None:
    assert parse_s3_url(url, name) == expected
    assert parse_s3_url("s3://{}/{}".format(*expected)) == expected, "as a manifest's target is shown"


@each_case(
    ("url", "name", "says"),
    [
        ("", "file", "not a target"), ("bucket/key", "file", "not a target"),
        ("s3:/bucket/key", "file", "not a target: .* .write it like s3://bucket/key, with a colon and two slashes"),
        ("S3//bucket/key", None, "not a target: .* .write it like s3://bucket/key, with a colon and two slashes"),
        ("s3:bucket", None, "not a target: .* .write it like s3://bucket, with a colon and two slashes"),
        (" s3://bucket/f/", "file", "not a target: ' s3://bucket/f/' .write it like s3://bucket/f/, without the space"),
        ("s3/bucket/key", "file", "write it like s3://bucket/key or s3://bucket/folder/"),
        ("s3://", "file", "not a target"), ("s3:///key", "file", "not a target"),
        ("https://bucket/key", "file", "not a target"),
        ("s3://bucket", None, "names no object"), ("s3://bucket/", None, "names no object"),
        ("s3://bucket/folder/", None, "names no object"), ("s3://b/" + "k" * 1025, None, "1,024 bytes"),
        ("s3://b/" + "é" * 513, None, "1,024 bytes"), ("s3://b/" + "k" * 1020 + "/", "file", "1,024 bytes"),
        ("s3://b/key\x1b", None, r"the character '\\x1b'"), ("s3://b/f/", "a\uffffb", r"the character '\\uffff'"),
        ("s3://bkt /f", None, "not a target: 's3://bkt /f' .write it like s3://bkt/f, without the space"),
        ("s3:// bkt", "f", "not a target: 's3:// bkt' .write it like s3://bkt, without the space"),
        ("s3://b\n/key", None, "not a target"), ("s3://\tb/key", None, "not a target"),
        ("s3://b/folder/", "no utf-8 \udcff", "UTF-8"), ("s3://b/no utf-8 \udcff", None, "UTF-8"),
        ("s3://arn:aws:s3-outposts:eu-west-1:123456789012:outpost/op-1/accesspoint/films/k", None,
         "S3 on Outposts is not supported"),
        ("s3://films-abcdef--op-s3/k", None, "S3 on Outposts is not supported"),
        ("s3://arn:aws:s3-object-lambda:eu-west-1:123456789012:accesspoint/films/k", None,
         "an Object Lambda access point takes no"),
        *((f"s3://arn:aws:s3::123456789012:accesspoint{name}/k", None, "Multi-Region Access Points are not supported")
          for name in ("/mfzwi23gnjvgw.mrap", ":films")),
        *((f"s3://arn:{rest}", None, "not an access point") for rest in (
            "aws:s3:::bucket/k", "aws:s3:eu-west-1:123:accesspoint/films/k", "aws:iam::123456789012:role/films/k", "",
            "aws:s3:eu-west-1:123456789012:accesspoint", "aws:s3:eu-west-1:123456789012:accesspoint/FILMS/k",
            "aws:s3:eu-west-1:123456789012:accesspoint/films:k",
        )),
    ],
)  # fmt: skip
def test_what_is_no_target(url: str, name: str | None, says: str) -> None:
    with pytest.raises(errors.UsageError, match=says) as caught:
        parse_s3_url(url, name)
    assert "\n" not in str(caught.value)


@each_case(
    ("url", "says"),
    [
        ("s3://b/f ", ["a space at the end of 'f '"]),
        ("s3://b/ f", ["a space at the beginning of ' f'"]),
        ("s3://b/f /", ["a space at the end of 'f '"]),
        ("s3://b//f", ["an empty segment (two slashes)"]),
        ("s3://b/f//", ["an empty segment (two slashes)"]),
        ("s3://b/a/../b", ["a segment '..'"]),
        ("s3://b/./b", ["a segment '.'"]),
        ("s3://b/*.mov", ["a '*'"]),
        ("s3://b/?", ["a '?'"]),
        ("s3://b//../* ", ["a space at the end of '* '", "an empty segment", "a segment '..'", "a '*'"]),
        *((f"s3://b{key}", []) for key in ("", "/", "/f", "/f/", "/a b/c.d/...", "/[a]{b}")),
        ("s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/films/f", []),
    ],
)
def test_a_target_that_is_probably_a_mistake(url: str, says: list[str]) -> None:
    found = oddities_of(url)
    assert len(found) == len(says)
    for warning, words in zip(found, says, strict=True):
        assert warning.startswith(f"the key in {url!r} has {words}")
        assert ", which is kept: " in warning


# -- stores


@pytest.fixture(autouse=True)
def no_aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")


@pytest.mark.parametrize(
    ("bucket", "more", "says"),
    [
        (POINT, {"region": "us-east-1"}, "the access point is in region eu-west-1, not in us-east-1"),
        (POINT, {"accelerate": True}, "accelerate can't be used with an access point"),
        ("films.example", {"accelerate": True}, "accelerate can't be used with a bucket whose name has dots"),
    ],
)
async def test_what_an_access_point_excludes(bucket: str, more: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.UsageError, match=says):
        await connect(bucket, "key", S3Options(access_key="AK", secret_key="SK", **more))
    assert region_of(bucket) == ("eu-west-1" if bucket == POINT else None)


async def test_an_endpoint_that_contains_the_bucket() -> None:
    """As many consoles show it: the object would get another key than the one that is reported."""
    for path in ("/films", "/films/", "/s3/films"):
        with pytest.raises(errors.UsageError, match="keys would begin with films/: write it without"):
            await connect("films", "key", S3Options(endpoint_url=f"https://s3.example{path}", region="r"))
    for path in ("", "/", "/s3", "/my-films", "/films/s3"):
        await connect("films", "key", S3Options(endpoint_url=f"https://s3.example{path}", region="r"))


def test_the_local_store_has_no_access_points() -> None:
    reached = S3Options(local=True, region="us-east-1")  # the region is the store's own
    with pytest.raises(errors.UsageError, match="the local store has no access points: name a bucket"):
        refuse_unsuited(POINT, reached)


async def test_connect_reaches_no_network() -> None:
    store = await connect("bucket", "key", S3Options(endpoint_url="https://minio.example", region="r"))
    assert store.target == Target(bucket="bucket", key="key", endpoint="https://minio.example", region="r")
    assert store.options() == {"endpoint_url": "https://minio.example", "region": "r"}


async def test_reconnect_from_what_a_manifest_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    (tmp_path / "config").write_text("[profile p]\nregion = eu-west-1\n")
    first = await connect("bucket", "key", S3Options(storage_class="STANDARD_IA", metadata={"a": "b"}, profile="p"))
    second = await reconnect(first.target, first.options())
    assert second.target == first.target
    assert (
        second.options()
        == first.options()
        == {"storage_class": "STANDARD_IA", "metadata": {"a": "b"}, "profile": "p", "aws": True}
    )


async def test_a_profile_that_is_in_no_file() -> None:
    with pytest.raises(errors.UsageError, match="there is no profile p in /nonexistent"):
        await connect("bucket", "key", S3Options(profile="p"))


SECRETS = {"access_key": "AK-secret", "secret_key": "SK-secret", "session_token": "ST-secret"}


async def test_reconnect_with_secrets_that_are_recorded_nowhere() -> None:
    """Only the credentials reach the client. The upload resumes with its recorded options."""
    recorded = {"endpoint_url": "https://minio.example", "storage_class": "GLACIER"}
    target = Target(bucket="bucket", key="key", endpoint="https://minio.example")
    given = S3Options(**SECRETS, endpoint_url="https://elsewhere.example", storage_class="STANDARD")
    store = await reconnect(target, recorded, given)
    assert store.target == target
    assert store.options() == recorded
    await store._bucket.prepare()
    assert store._bucket._reached is not None
    found = store._bucket._reached.access.credentials.get_frozen_credentials()
    assert {"access_key": found.access_key, "secret_key": found.secret_key, "session_token": found.token} == SECRETS


async def test_a_store_goes_on_with_the_object_that_an_upload_began_with() -> None:
    store = await connect("bucket", "key", S3Options(**SECRETS, storage_class="STANDARD", sse="AES256"))
    assert store.restore_options({"storage_class": "GLACIER", "sse": "AES256"}) == ["storage_class"]
    assert store.restore_options({"storage_class": "GLACIER", "sse": "AES256"}) == []


async def test_what_the_environment_names_is_part_of_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the same command in another shell would resume in another store."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://minio.example")
    monkeypatch.setenv("AWS_PROFILE", "work")
    store = await connect("bucket", "key", S3Options())
    assert store.target.endpoint == "https://minio.example"
    assert store.options() == {"endpoint_url": "https://minio.example", "profile": "work"}


@pytest.mark.parametrize(
    "text",
    [
        "[default]\nendpoint_url = https://minio.example\n",
        "[default]\nservices = here\n[services here]\ns3 =\n  endpoint_url = https://minio.example\n",
        "[default]\nendpoint_url = https://all.example\nservices = here\n"
        "[services here]\ns3 =\n  endpoint_url = https://minio.example\n",
    ],
)
async def test_what_the_configuration_file_names_is_part_of_the_target(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    (tmp_path / "config").write_text(text)
    store = await connect("bucket", "key", S3Options())
    assert store.target.endpoint == "https://minio.example"
    assert store.options() == {"endpoint_url": "https://minio.example"}


async def test_the_configuration_files_are_read_again_only_if_they_have_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read: list[str] = []
    parse = configparser.RawConfigParser.read
    monkeypatch.setattr(configparser.RawConfigParser, "read", lambda self, path: read.append(path) or parse(self, path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for endpoint in ("https://minio.example", "https://another.example"):
        text = f"[default]\nendpoint_url = {endpoint}\n[profile aws]\nregion = eu-west-1\n"
        (tmp_path / "config").write_text(text)
        found = [access.configured_endpoint(S3Options()) for _ in range(100)]
        assert found == [endpoint] * 100
        assert access.configured_endpoint(S3Options(profile="aws")) is None
    monkeypatch.setenv("AWS_PROFILE", "aws")
    assert access.configured_endpoint(S3Options()) is None
    assert read == [str(tmp_path / "config")] * 2


async def test_a_configuration_file_that_makes_no_sense(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    (tmp_path / "config").write_text("[default]\nservices = nowhere\n")
    with pytest.raises(errors.UsageError, match="nowhere"):
        await connect("bucket", "key", S3Options())


CHANGES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "the configuration file")


@pytest.mark.parametrize("change", CHANGES)
async def test_a_manifest_without_an_endpoint_leads_to_aws(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    """Whatever the environment says by now: the upload, and what it costs, are at AWS."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    (tmp_path / "config").write_text("[default]\n" + "endpoint_url = https://minio.example\n" * (change == CHANGES[-1]))
    if change != CHANGES[-1]:
        monkeypatch.setenv(change, "https://minio.example")
    recorded = {"region": "eu-west-1", "aws": True}
    target = Target(bucket="bucket", key="key", region="eu-west-1")
    async with contextlib.aclosing(await reconnect(target, recorded, S3Options(**SECRETS))) as store:
        (request,) = await store.sign("id", [UnsignedPart(1, 1, {})])
        assert request.url.startswith("https://bucket.s3.eu-west-1.amazonaws.com/key?")
        assert store.target == target
        assert store.options() == recorded


async def test_an_earlier_version_did_not_record_the_endpoint_of_the_configuration_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its upload may be there or at AWS. It is at AWS if the file names none, or if the user says so."""
    recorded, target = {"region": "eu-west-1"}, Target(bucket="bucket", key="key")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for text, ignored in [("", "false"), ("endpoint_url = https://minio.example\n", "true")]:
        (tmp_path / "config").write_text(f"[default]\n{text}")
        monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", ignored)
        async with contextlib.aclosing(await reconnect(target, recorded, S3Options(**SECRETS))) as store:
            (request,) = await store.sign("id", [UnsignedPart(1, 1, {})])
            assert request.url.startswith("https://bucket.s3.eu-west-1.amazonaws.com/key?")
    monkeypatch.delenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
    with pytest.raises(errors.ManifestMismatch, match=r"`adopt.'s3://bucket/key'.`"):
        await reconnect(target, recorded, S3Options(**SECRETS))


async def test_a_manifest_with_an_endpoint_leads_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://elsewhere.example")
    target = Target(bucket="bucket", key="key", endpoint="https://minio.example")
    recorded = {"endpoint_url": "https://minio.example"}
    async with contextlib.aclosing(await reconnect(target, recorded, S3Options(**SECRETS))) as store:
        (request,) = await store.sign("id", [UnsignedPart(1, 1, {})])
        assert request.url.startswith("https://minio.example/bucket/key?")


async def test_the_region_is_recorded_once_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another AWS_DEFAULT_REGION can be another partition, and there another bucket of this name."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    async with contextlib.aclosing(await connect("bucket", "key", S3Options(**SECRETS))) as store:
        await store.sign("id", [UnsignedPart(1, 1, {})])
        assert store.options() == {"region": "eu-north-1", "aws": True}
        monkeypatch.setenv("AWS_DEFAULT_REGION", "cn-north-1")
        async with contextlib.aclosing(await reconnect(store.target, store.options(), S3Options(**SECRETS))) as again:
            (request,) = await again.sign("id", [UnsignedPart(1, 1, {})])
    assert request.url.startswith("https://bucket.s3.eu-north-1.amazonaws.com/key?")


@each_case("recorded", [{}, {"filename": 1, "content_type": "a/b"}, {"filename": "a"},
                                      {"filename": "a", "content_type": "a/b", "ca_bundle": 1}])  # fmt: skip
async def test_a_manifest_of_a_service_that_lacks_something(recorded: dict[str, Any]) -> None:
    with pytest.raises(errors.ManifestMismatch):
        await reconnect(Target(key="k", service="https://media.example"), recorded)


async def test_a_manifest_of_nothing() -> None:
    with pytest.raises(errors.ManifestMismatch):
        await reconnect(Target(key="k"), {})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (S3Options(storage_class="GLACIER", tags={"a": "b"}), "`tags`, `storage_class`"),
        (S3Options(endpoint_url="https://s3.example", region="r"), "`endpoint_url`, `region`"),
        (S3Options(access_key="AK", secret_key="SK"), "`access_key`, `secret_key`"),
        (S3Options(if_none_match=True, addressing="path"), "`addressing`, `if_none_match`"),
    ],
)
def test_what_a_service_decides_by_itself(options: S3Options, named: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with FileSource(tmp_path / "a.png") as source, pytest.raises(errors.UsageError, match=f"leave out {named}$"):
        connect_service("https://media.example", options, api_key="sk_", name="a.png", source=source)


async def test_a_local_store_without_its_bucket_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    running = type(
        "Running", (), {"endpoint_url": "http://127.0.0.1:1", "region": "r", "access_key": "AK", "secret_key": "SK"}
    )()
    closed: list[S3Store] = []

    async def ensure_bucket(self: S3Store) -> None:
        raise errors.LocalStoreError("no")

    async def aclose(self: S3Store) -> None:
        closed.append(self)

    monkeypatch.setattr(local_store, "start", lambda: running)
    monkeypatch.setattr(S3Store, "ensure_bucket", ensure_bucket)
    monkeypatch.setattr(S3Store, "aclose", aclose)
    with pytest.raises(errors.LocalStoreError):
        await connect("bucket", "key", S3Options(local=True))
    assert len(closed) == 1


# -- small things


def test_the_type_of_a_name_is_set_unless_one_is_given() -> None:
    assert with_type_of("a.mkv", S3Options()).content_type == "video/matroska"
    assert with_type_of("a.mkv", S3Options(content_type="video/mp4")).content_type == "video/mp4"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, ("text/csv", "gzip")),
        ({"content_type": "application/gzip"}, ("application/gzip", None)),
        ({"content_encoding": "aws-chunked"}, ("text/csv", "aws-chunked")),
    ],
)
def test_the_encoding_of_a_compressed_text(given: dict[str, Any], sent: tuple[str, str | None]) -> None:
    options = with_type_of("rows.csv.gz", S3Options(**given))
    assert (options.content_type, options.content_encoding) == sent


def test_the_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIGUPLOAD_STATE_DIR", str(tmp_path))
    assert state_dir() == tmp_path
    monkeypatch.setenv("BIGUPLOAD_STATE_DIR", "")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_dir().name == "bigupload"
    assert state_dir().is_absolute()


def test_a_media_service_gets_names_in_utf_8_only(tmp_path: Path) -> None:
    path = tmp_path / "b\udcff.mp4"
    path.write_bytes(b"x")
    with FileSource(path) as source, pytest.raises(errors.UsageError, match="rename the file"):
        connect_service("https://media.example", S3Options(), api_key="sk_x", name=path.name, source=source)
