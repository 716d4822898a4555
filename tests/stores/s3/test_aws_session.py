"""botocore's descriptions of AWS, as the sessions load them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import botocore
import botocore.loaders
import botocore.utils
import pytest

from bigupload.options import S3Options
from bigupload.stores.s3.aws_session import AwsSession


def loader_of_session() -> Any:
    session: Any = AwsSession(S3Options(access_key="a", secret_key="b", region="us-east-1"))._own
    return session.get_component("data_loader")


@pytest.mark.parametrize("name", ["endpoints", "partitions", "s3/2006-03-01/service-2", "s3/2006-03-01/paginators-1"])
def test_the_descriptions_are_what_botocore_reads_in_the_same_order(name: str) -> None:
    """Each is read from its file again: botocore changes what its loader remembers."""
    path = str(Path(botocore.__file__).parent / "data" / name)
    ours, botocores = loader_of_session().file_loader.load_file(path), botocore.loaders.JSONFileLoader().load_file(path)
    assert json.dumps(ours) == json.dumps(botocores)


def test_a_description_that_is_nowhere_is_botocores_error() -> None:
    with pytest.raises(botocore.loaders.DataNotFoundError):
        loader_of_session().load_data("s3/no-such-description")


def test_plain_files_come_before_compressed_ones(tmp_path: Path) -> None:
    (tmp_path / "both.json").write_text('{"from": "plain"}')
    (tmp_path / "both.json.gz").write_bytes(gzip.compress(b'{"from": "compressed"}'))
    loader = loader_of_session().file_loader
    assert loader.load_file(str(tmp_path / "both")) == {"from": "plain"}
    assert loader.load_file(str(tmp_path / "none")) is None


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05+02:00", "2026-01-02T03:04:05",
        "20260102T030405Z", "Fri, 02 Jan 2026 03:04:05 GMT", "1767323045", 1767323045, 1767323045.5, "20260102",
    ],
)  # fmt: skip
def test_timestamps_are_what_botocore_makes_of_them(value: Any) -> None:
    assert timestamp_parser()(value) == botocore.utils.parse_timestamp(value)


def test_what_is_no_timestamp_is_botocores_error() -> None:
    with pytest.raises(ValueError, match="Invalid timestamp"):
        timestamp_parser()("2026-W01-9")


def timestamp_parser() -> Any:
    session: Any = AwsSession(S3Options(access_key="a", secret_key="b", region="us-east-1"))._own
    return session.get_component("response_parser_factory").create_parser("rest-xml")._timestamp_parser
