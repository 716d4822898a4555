"""The library as type checkers see it: a right program passes, and each wrong line is found."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("checked.py")
AROUND = Path(__file__).with_name("checked_around.py")
REPOSITORY = Path(__file__).parents[2]
UNUSED = ("IPython", "matplotlib", "numpy", "prompt_toolkit")
"""What Dask imports where it is installed, and bigupload never does: a third of what mypy would read."""
WRONG = {
    "a misspelled error": "try: ...\nexcept bigupload.StoreUnreachble: ...",
    "a misspelled function": "bigupload.uplaod('f', to='s3://b/k')",
    "an unknown argument": "bigupload.upload('f', to='s3://b/k', part_sice=1)",
    "an argument of another type": "bigupload.upload('f', to=1)",
    "an unknown argument of upload_sync": "bigupload.upload_sync('f', destination='s3://b/k')",
    "a checksum that is none": "bigupload.upload('f', to='s3://b/k', checksum='crc64')",
    "a proof that is none": "bigupload.verify('f', 's3://b/k', require_proof='some')",
    "a result that has no such field": "bigupload.upload_sync('f', to='s3://b/k').md5",
    "an argument of the uploader in its method": "bigupload.Uploader().upload('f', to='s3://b/k', hedge=True)",
    "a text file": "bigupload.upload(open('f'), to='s3://b/k')",
    "a text in memory": "import io\nbigupload.upload(io.StringIO(), to='s3://b/k')",
    "a source that is none": "bigupload.upload(7, to='s3://b/k')",
    "an iterable of texts": "bigupload.upload(['a'], to='s3://b/k')",
    "a generator of texts": "bigupload.upload((str(n) for n in range(3)), to='s3://b/k')",
    "a size that is a float": "bigupload.upload(b'', to='s3://b/k', expected_size=1.5)",
    "a name that is no text": "bigupload.upload(b'', to='s3://b/k', name=b'n')",
    "an unknown argument of start": "bigupload.start('f', to='s3://b/k', part_sice=1)",
    "a handle that has no such attribute": "bigupload.start('f', to='s3://b/k').percent",
    "an unknown argument of upload_many": "bigupload.upload_many(['f'], to='s3://b/k/', name='n')",
    "a source of many that is none": "bigupload.upload_many([7], to='s3://b/k/')",
    "an on_event of no argument": "def f() -> None: ...\nbigupload.upload('f', to='s3://b/k', on_event=f)",
    "an unknown argument of open_writer": "bigupload.open_writer('s3://b/k', part_sice=1)",
    "a writer's text into bytes": "with bigupload.open_writer('s3://b/k') as w: w.write('text')",
    "a writer's bytes into text": "with bigupload.open_writer('s3://b/k', text=True) as w: w.write(b'data')",
    "a resource in place of a client": "import boto3\nboto.install(boto3.resource('s3'))",
    "an option that install has not": "import boto3\nboto.install(boto3.client('s3'), proof='size')",
    "an event that has no such field": "def f(e: bigupload.PartUploaded) -> int: return e.part",
}


def written(directory: Path) -> Path:
    """One file whose functions hold a wrong line each, so that one run of a checker is enough."""
    text = "import bigupload\nimport bigupload.adapters.boto3 as boto\n"
    for number, code in enumerate(WRONG.values()):
        text += f"def wrong_{number}() -> None:\n" + "".join(f"    {line}\n" for line in code.splitlines())
    path = directory / "wrong.py"
    path.write_text(text)
    return path


def functions_with_errors(path: Path, lines: set[int]) -> set[int]:
    """The numbers of the functions that the lines (from 1) lie in."""
    found, current = set(), -1
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := re.match(r"def wrong_(\d+)", line):
            current = int(match[1])
        if number in lines:
            found.add(current)
    return found


def environment(directory: Path) -> Path:
    """Make an environment of the packages that are installed here, but `UNUSED`. Returns its interpreter."""
    venv.create(directory, with_pip=False)
    python = directory / "bin" / "python"
    here, there = (Path(sysconfig.get_path("purelib", vars={"base": base})) for base in (sys.prefix, str(directory)))
    for path in here.iterdir():
        left_out = path.name.startswith(("bigupload", *UNUSED))
        if not left_out and path.suffix != ".pth":  # which may lead to bigupload
            (there / path.name).symlink_to(path)
    return python


def test_mypy(tmp_path: Path) -> None:
    """As most have it: bigupload is installed, and checked with it are the examples of the documentation."""
    pytest.importorskip("fastapi")  # of an example
    python = environment(tmp_path / "environment")
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(python.parent.parent)}))
    shutil.copytree(REPOSITORY / "bigupload", packages / "bigupload", ignore=shutil.ignore_patterns("__pycache__"))
    # Beside the checkout's tests, they would find the checkout's bigupload.
    programs = [shutil.copy(PROGRAM, tmp_path), shutil.copy(AROUND, tmp_path), written(tmp_path)]
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", tmp_path / "cache"]
    # What PYTHONPATH names counts as installed, and of that mypy reports nothing.
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*command, "--python-executable", python, *programs, "."],
        capture_output=True, text=True, cwd=REPOSITORY / "docs" / "examples", env=own, check=False,
    )  # fmt: skip
    found = re.findall(r"^(.*?):(\d+): error", done.stdout, re.MULTILINE)
    assert {name for name, _ in found} == {str(programs[-1])}, done.stdout
    assert functions_with_errors(programs[-1], {int(line) for _, line in found}) == set(range(len(WRONG))), done.stdout


def test_pyright(tmp_path: Path) -> None:
    pytest.importorskip("basedpyright")
    path = written(tmp_path)
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps(
            {
                "include": [str(PROGRAM), str(AROUND), str(path)],
                "typeCheckingMode": "standard",
                "extraPaths": [str(REPOSITORY)],
                "pythonPlatform": "Linux",
            }
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "-p", tmp_path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    report = json.loads(done.stdout)
    wrong = [each for each in report["generalDiagnostics"] if each["severity"] == "error"]
    assert {each["file"] for each in wrong} == {str(path)}, wrong
    found = functions_with_errors(path, {each["range"]["start"]["line"] + 1 for each in wrong})
    assert found == set(range(len(WRONG))), wrong
