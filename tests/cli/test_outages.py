"""How long an outage is waited out, and how long the response to a part."""

from __future__ import annotations

from typing import Any

import click
import pytest

from bigupload.cli.options import pace
from bigupload.cli.upload import upload
from bigupload.core.retry_policy import RetryPolicy


@pytest.mark.parametrize(
    ("name", "help_text"),
    [
        ("give_up_after", "not responded once since the start"),
        ("give_up_after", "unless this machine has begun an upload through the same media service before"),
        ("response_timeout", "The time while the store responds to parts that were sent before it does not count."),
    ],
)
def test_how_long_to_wait_is_an_option(name: str, help_text: str) -> None:
    arguments: dict[str, Any] = {
        "concurrency": None, "limit_rate": None, "congestion_control": "auto", "hedge": True, "dask": None,
        "give_up_after": 900.0, "response_timeout": 300.0,
    }  # fmt: skip
    assert pace({**arguments, name: 7200.0})["retry"] == RetryPolicy(**{name: 7200.0})
    (option,) = [each for each in upload.params if each.name == name]
    assert isinstance(option, click.Option)
    assert option.type.convert("2h", None, None) == 7200
    assert option.type.convert(option.default, None, None) == getattr(RetryPolicy(), name)
    assert help_text in (option.help or "")
