"""How long an outage is waited out."""

from __future__ import annotations

from typing import Any

from bigupload.cli.options import pace
from bigupload.cli.upload import upload
from bigupload.core.retry_policy import RetryPolicy


def test_how_long_to_wait_is_an_option() -> None:
    pace_of_all: dict[str, Any] = {"concurrency": None, "limit_rate": None, "congestion_control": "auto"}
    arguments = pace_of_all | {"hedge": True, "dask": None}
    assert pace(arguments | {"give_up_after": 7200.0})["retry"].give_up_after == 7200
    (option,) = [each for each in upload.params if each.name == "give_up_after"]
    assert option.type.convert("2h", None, None) == 7200
    assert option.type.convert(option.default, None, None) == RetryPolicy().give_up_after
    assert "not responded once since the start" in (option.help or "")
