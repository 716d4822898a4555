"""What importing the package may load: starting is part of the speed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bigupload

HEAVY = {"boto3", "botocore", "aiohttp", "awscrt", "rich", "anyio", "asyncio"}


def loaded_by(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded at the end of `code`."""
    report = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    done = subprocess.run([sys.executable, "-c", f"{report}\n{code}"], capture_output=True, text=True, check=True)
    modules = set(done.stderr.split())
    assert "bigupload" in modules
    return {module.partition(".")[0] for module in modules} & HEAVY


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import bigupload; dir(bigupload); bigupload.__version__") == set()


def test_names_of_pure_modules_load_nothing_heavy() -> None:
    names = "Algorithm, RetryPolicy, S3Options, Verified, UsageError, UploadStarted"
    assert loaded_by(f"from bigupload import {names}; S3Options(endpoint_url='https://s3.example')") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"import runpy, sys; sys.argv[1:] = {arguments!r}; runpy.run_module('bigupload', run_name='__main__')"
    assert loaded_by(code) <= {"asyncio", "anyio"}


def test_status_loads_no_store(tmp_path: Path) -> None:
    lines = f"os.environ['BIGUPLOAD_STATE_DIR'] = {str(tmp_path)!r}; sys.argv[1:] = ['status']"
    code = f"import os, runpy, sys; {lines}; runpy.run_module('bigupload', run_name='__main__')"
    assert loaded_by(code) <= {"asyncio", "anyio"}


def test_the_probe_can_fail() -> None:
    assert "anyio" in loaded_by("import bigupload.support.rate_limiter")


@pytest.mark.parametrize("name", bigupload.__all__)
def test_every_public_name(name: str) -> None:
    assert getattr(bigupload, name) is not None
    assert name in dir(bigupload)


def test_the_public_names_are_told_apart() -> None:
    assert len(set(bigupload.__all__)) == len(bigupload.__all__)
    assert dir(bigupload) == sorted(bigupload.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bigupload.nothing
