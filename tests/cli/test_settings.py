"""Options from the environment and from the configuration file, and what `config show` says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from bigupload.cli import _cli, settings
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Ended, Place
from tests.tools.cases import each_case

from .support import Command, assert_refused, to


@pytest.fixture
def config(place: Place) -> Path:
    """The default configuration file's path."""
    path = place.directory / ".config" / "bigupload" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def rows(ended: Ended) -> dict[str, tuple[str, str, str]]:
    assert ended.code == 0, ended.err
    found: list[dict[str, Any]] = [json.loads(line) for line in ended.out.splitlines()]
    return {row["option"]: (row["value"], row["source"], row["where"]) for row in found}


def test_every_option_has_its_variables() -> None:
    seen = 0
    for words, command in settings.leaves(_cli):
        for param in command.params:
            has_none = {"help-all", *settings.TYPED_ALONE}
            if isinstance(param, click.Option) and settings.name_of(param) not in has_none:
                own, shared, *_ = param.envvar or ()
                name = settings.name_of(param).replace("-", "_").upper()
                assert own == f"BIGUPLOAD_{'_'.join(words).replace('-', '_').upper()}_{name}"
                assert shared == f"BIGUPLOAD_{name}"
                seen += 1
    assert seen > 100


def test_the_nearest_wins(bigupload: Command, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def concurrency() -> tuple[str, str, str]:
        return rows(bigupload("config", "show", "--json", "upload"))["--concurrency"]

    assert concurrency() == ("auto", "default", "")
    config.write_text("concurrency = 1")
    assert concurrency() == ("1", "file", "concurrency")
    config.write_text("concurrency = 1\n[upload]\nconcurrency = 2\n[resume]\nconcurrency = 9")
    assert concurrency() == ("2", "file", "[upload] concurrency")
    monkeypatch.setenv("BIGUPLOAD_CONCURRENCY", "3")
    assert concurrency() == ("3", "environment", "BIGUPLOAD_CONCURRENCY")
    monkeypatch.setenv("BIGUPLOAD_UPLOAD_CONCURRENCY", "4")
    assert concurrency() == ("4", "environment", "BIGUPLOAD_UPLOAD_CONCURRENCY")
    shown = rows(bigupload("config", "show", "--json", "upload", "--concurrency", "5"))
    assert shown["--concurrency"] == ("5", "command line", "")


def test_an_upload_takes_its_options_from_the_file(
    bigupload: Command, s3: StrictS3, file: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(f"""
        endpoint-url = "{s3.url}"
        progress = "none"
        [upload]
        to = "s3://bucket/folder/"
        part-size = "5MiB"
        content-type = "video/quicktime"
        metadata = {{ take = "7", day = 2, night = true }}
        tag = ["team=film"]
    """)
    monkeypatch.setenv("BIGUPLOAD_JSON", "true")
    ended = bigupload("upload", file)
    assert (ended.code, ended.err) == (0, "")
    assert (ended.result["key"], ended.result["parts"]) == ("folder/file.bin", 2)
    headers = s3.objects["bucket"]["folder/file.bin"].headers
    assert [headers[f"x-amz-meta-{name}"] for name in ("take", "day", "night")] == ["7", "2", "true"]
    assert headers["content-type"] == "video/quicktime"
    # What is said of another target on the command line is meant.
    assert bigupload("upload", file, "--to", "s3://bucket/other", "--no-resume").result["key"] == "other"


def test_a_target_on_the_command_line_beats_one_of_the_file(bigupload: Command, file: Path, config: Path) -> None:
    config.write_text('endpoint-url = "http://127.0.0.1:1"\n[upload]\nto = "s3://b/k"\ntag = ["a=b"]\n')
    refused = bigupload("upload", file, "--service", "http://127.0.0.1:1", "--progress", "none")
    assert_refused(refused, 1, "BIGUPLOAD_API_KEY")  # and neither "name one target" nor "leave out --tag"
    ended = bigupload("upload", file, "--service", "http://127.0.0.1:1", "--to", "s3://b/k")
    assert_refused(ended, 2, "name one target")


@pytest.mark.parametrize("by", ["file", "environment"])
def test_an_s3_url_on_the_command_line_beats_the_local_store(
    by: str, bigupload: Command, s3: StrictS3, file: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(f'endpoint-url = "{s3.url}"\nprogress = "none"\n' + "local = true\n" * (by == "file"))
    if by == "environment":
        monkeypatch.setenv("BIGUPLOAD_LOCAL", "1")
    assert bigupload("upload", file, "s3://bucket/key", "--json").result["key"] == "key"
    assert "key" in s3.objects["bucket"]
    assert bigupload("verify", file, "s3://bucket/key").out == "full-object\n"
    assert bigupload("gc", "s3://bucket/").code == 0
    adopted = bigupload("resume", "--adopt", "s3://bucket/other", "--source", file)
    assert_refused(adopted, 1, "no open upload to s3://bucket/other")


@pytest.mark.parametrize(
    ("variables", "arguments"),
    [
        ({"QUIET": "1"}, ["-v", "status"]),
        ({"QUIET": "1"}, ["status", "-v"]),
        ({"VERBOSE": "1"}, ["status", "-q"]),
        ({"VERBOSE": "1"}, ["-q", "status"]),
        ({"CA_BUNDLE": "none.pem"}, ["upload", "FILE", "s3://bucket/key", "--endpoint-url", "URL", "--no-verify-ssl"]),
        ({"SSE_KMS_KEY_ID": "id"}, ["upload", "FILE", "s3://bucket/key", "--endpoint-url", "URL", "--sse", "AES256"]),
    ],
)
def test_an_option_of_the_command_line_beats_one_that_excludes_it(
    variables: dict[str, str], arguments: list[str], bigupload: Command, s3: StrictS3, file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(f"BIGUPLOAD_{name}", value)
    places = {"FILE": file, "URL": s3.url}
    ended = bigupload(*(places.get(argument, argument) for argument in arguments))
    assert ended.code == 0, ended.err


def test_an_endpoint_on_the_command_line_beats_the_local_store(
    bigupload: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGUPLOAD_LOCAL", "1")
    assert_refused(bigupload("upload", file, "--endpoint-url", "http://127.0.0.1:1"), 2, "name one target")
    assert_refused(bigupload("sync", file.parent, "--endpoint-url", "http://127.0.0.1:1"), 2, "name one target")


def test_another_file_and_none(bigupload: Command, config: Path, tmp_path: Path) -> None:
    config.write_text("concurrency = 1")
    other = tmp_path / "other.toml"
    other.write_text("concurrency = 2")
    for arguments in (["--config", other, "config", "show"], ["config", "show", "--config", other]):
        assert rows(bigupload(*arguments, "--json"))["--concurrency"][0] == "2"
    assert_refused(bigupload("--config", tmp_path / "none", "status"), 2, "can't read the configuration file")
    assert_refused(bigupload("status", "--config", tmp_path / "none"), 2, "No such file or directory")
    config.unlink()
    assert bigupload("status").code == 0


@each_case(
    ("content", "says"),
    [
        ("concurrency", "is not TOML: "),
        ("\ufeff", "is not TOML: "),
        ("concurency = 1", "there is no option concurency: did you mean concurrency?"),
        ("[upload]\nbucket = 's3://b'", "there is no option [upload] bucket"),
        ("[uplaod]\nto = 's3://b/k'", "there is no option uplaod"),
        ("upload = 1", "upload is a command: write its options below [upload]"),
        ("[upload]\ntag = 'a=b'", "tag is a list"),
        ("[upload]\nto = ['s3://b/k']", "to is one value, and not a list"),
        ("[upload]\nto = {a = 1}", "to is one value, and not a table"),
        ("[upload]\nmetadata = {a = {b = 1}}", "each value in metadata is one value, and not a table or a list"),
        ("[upload]\ntag = [['a=b']]", "tag is a list of single values"),
        ("[upload]\nlocal = 'yes'", "local is true or false"),
        ("[upload]\nto = true", "to is a value, and not true or false"),
        ("[upload]\nconfig = 'x'", "there is no option [upload] config"),
        ("concurrency = 500", "neither auto nor a number from 1 to 256 in "),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong(bigupload: Command, config: Path, file: Path, content: str, says: str) -> None:
    config.write_text(content, encoding="utf-8")
    assert_refused(bigupload("upload", file), 2, says, str(config))


def test_a_wrong_variable_is_named(bigupload: Command, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGUPLOAD_PART_SIZE", "big")
    assert_refused(bigupload("upload", file, "--to", "s3://b/k"), 2, "not a size: 'big'", "in BIGUPLOAD_PART_SIZE")


@each_case(
    ("name", "meant"),
    [
        ("PART_SZE", "PART_SIZE"),
        ("UPLOAD_PART_SZE", "UPLOAD_PART_SIZE"),
        ("ENDPOINT", "ENDPOINT_URL"),
        ("APIKEY", "API_KEY"),
        ("STATE_DIRECTORY", None),  # near to nothing: the user's own, perhaps
        ("SYNC_PART_SIZE", None),  # another command's
        ("MAX_FILE_SIZE", None),  # the service's
        ("SECRET_FILE", None),
        ("DONE_RECEIPT", None),  # a program of --on-done may call bigupload
        ("SERVICE_HOST", None),  # Kubernetes sets it
    ],
)
def test_a_misspelt_variable(bigupload: Command, file: Path, name: str, meant: str | None) -> None:
    upload = ["upload", file, "s3://bucket/", "--dry-run", "--json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(f"BIGUPLOAD_{name}", "1")
        says = f"bigupload: warning: no command reads the variable BIGUPLOAD_{name}: did you mean BIGUPLOAD_{meant}?\n"
        ended = bigupload(*upload)
        assert (ended.code, ended.err) == (0, says if meant is not None else "")
        assert bigupload(*upload, "-q").err == ""


def test_an_error_names_the_file_that_was_read(
    bigupload: Command, config: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[upload]\npart-size = "many"')
    assert_refused(bigupload("upload", file, "--config", other), 2, "many", f"in {other}")
    monkeypatch.setenv("BIGUPLOAD_CONFIG", str(other))
    assert_refused(bigupload("upload", file), 2, "many", f"in {other}")


def test_config_show_for_people(bigupload: Command, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = bigupload("config", "show")
    assert ended == Ended(0, f"configuration file: {config}  (there is no such file)\nBIGUPLOAD_STATE_DIR: "
                          f"{config.parents[2] / 'state'}\nBIGUPLOAD_LOCAL_STORE_DIR: "
                          f"{config.parents[2] / 'local-store'}\n",
                          "no option is set; bigupload config show COMMAND lists those of a command\n")  # fmt: skip
    config.write_text('[serve]\nbucket = "s3://media"\n[bucket.setup]\norigin = ["https://a.example"]')
    monkeypatch.setenv("BIGUPLOAD_ENDPOINT_URL", "https://user:secret@s3.example")
    monkeypatch.setenv("BIGUPLOAD_API_KEY", "sk_secret")
    shown = " ".join(bigupload("config", "show").out.split())
    assert "--bucket s3://media file [serve] bucket" in shown
    assert "bucket setup --origin https://a.example file [bucket.setup] origin" in shown
    assert "--endpoint-url https://…@s3.example environment BIGUPLOAD_ENDPOINT_URL" in shown
    assert "BIGUPLOAD_API_KEY: (set)" in shown
    assert "secret" not in shown


def test_quiet(bigupload: Command, s3: StrictS3, file: Path) -> None:
    s3.script("UploadPart", Status(503, "SlowDown"))
    for arguments in (["-q", "upload"], ["upload", "-q"]):
        ended = bigupload(*arguments, file, *to(s3))
        assert (ended.code, ended.out, ended.err) == (0, f"{s3.url}/bucket/key\n", "")
        s3.script("UploadPart", Status(503, "SlowDown"))
    assert_refused(bigupload("status", "-q", "-v"), 2, "exclude each other")


def test_the_files_of_the_command_are_prepared_once() -> None:
    status = _cli.get_command(click.Context(_cli), "status")
    assert status is not None
    before = list(status.params)
    assert settings.prepare(status, ("status",)).params == before
