"""What an adapter needs is an extra: without it there is one line, and `import bigupload` loads nothing of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.tools.cases import each_case


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.slow
@each_case(
    "case",
    [
        ("s3fs", "import bigupload.adapters.s3fs", "s3fs", "s3fs"),
        ("django", "from bigupload.adapters.django import UploadField", "Django", "django"),
        ("storages", "from bigupload.adapters.django import S3Storage", "django-storages", "django"),
    ],
)
def test_a_missing_package_is_one_line_that_names_the_extra(case: tuple[str, str, str, str]) -> None:
    package, statement, named, extra = case
    ended = run(f"import sys; sys.modules[{package!r}] = None\n{statement}")
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(f"ModuleNotFoundError: {named} is not installed: pip install "), ended.stderr
    assert last.rstrip("'").endswith(f"[{extra}]")


@pytest.mark.slow
def test_importing_bigupload_imports_no_adapter() -> None:
    program = "import sys, bigupload; bigupload.Uploader, bigupload.open_writer; print(*sys.modules, sep='\\n')"
    loaded = {name.partition(".")[0] for name in run(program).stdout.split()}
    assert "bigupload" in loaded
    assert loaded.isdisjoint({"s3fs", "fsspec", "aiobotocore", "django", "storages"})
    assert "bigupload.adapters" not in run(program).stdout
