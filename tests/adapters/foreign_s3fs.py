"""A pytest plugin for s3fs's own tests: their `S3FileSystem` is `bigupload.adapters.s3fs.S3FileSystem`.

    cd CHECKOUT_OF_S3FS && PYTHONPATH=CHECKOUT_OF_BIGUPLOAD:. python -m pytest -p tests.adapters.foreign_s3fs s3fs/tests

At the end it prints what s3fs did by itself. fsspec's abstract tests (`s3fs/tests/derived`) are among them. The tests
of `DIFFERENT` must fail, and all others pass that pass without the plugin.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import collections
import warnings
from typing import Any

import pytest
import s3fs
import s3fs.core

from bigupload.adapters import s3fs as adapter

_BUFFER = "looks into the buffer of s3fs's own file object: bigupload has its own"
DIFFERENT = {
    "test_write_blocks": _BUFFER,
    "test_upload_parts": _BUFFER,
    "test_upload_part_with_prime_pads": _BUFFER,
    "test_multipart_upload_blocksize": "looks into the list of parts of s3fs's own file object, which knows none here",
    "test_autocommit_mpu": "looks for the upload id in s3fs's own file object, which knows none here",
    "test_append": "compares the object's metadata, where `bigupload-token` is one entry more",
    "test_errors": "takes it that a block that an exception left has made an empty object: here there is none",
}
"""s3fs's tests that fail with bigupload, and why."""
made: collections.Counter[str] = collections.Counter()


class S3FileSystem(adapter.S3FileSystem):  # type: ignore[misc]  # s3fs has no types
    """Counts what is uploaded how."""

    async def _put_file(self, *arguments: Any, **named: Any) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await super()._put_file(*arguments, **named)
        left = [str(each.message) for each in caught if issubclass(each.category, adapter.NotTakenOver)]
        made[f"put_file: {left[0] if left else 'made by bigupload'}"] += 1

    def _open(self, path: str, mode: str = "rb", **named: Any) -> Any:
        file = super()._open(path, mode, **named)
        if "r" not in mode:
            made[f"open {mode}: a {type(file).__name__}"] += 1
        return file


def pytest_configure() -> None:
    s3fs.core.S3FileSystem = s3fs.S3FileSystem = S3FileSystem


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (reason := DIFFERENT.get(item.name)) is not None and item.path.name == "test_s3fs.py":
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for what, count in sorted(made.items()):
        terminalreporter.write_line(f"{what}: {count}")
