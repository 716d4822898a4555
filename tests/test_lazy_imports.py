"""What importing the package may load: starting is part of the speed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bigupload
from bigupload.core.part_plan import MIB
from bigupload.manifests.state_directory import CLEANED_MARK
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3

HEAVY = {"boto3", "botocore", "aiohttp", "awscrt", "rich", "anyio", "asyncio"}


FEW_NEED = {
    "sqlite3", "watchfiles", "bigupload.verification", "bigupload.stores.service_client",
    "bigupload.api.many", "bigupload.api.watching", "bigupload.batch.job", "bigupload.manifests.listing",
    "bigupload.manifests.job_record", "bigupload.stores.s3.object_file", "bigupload.http.web_file",
    "bigupload.cluster", "botocore", "urllib3", "dateutil", "jmespath", "awscrt", "_awscrt",
    "urllib.request", "email", "http.client", "filelock", "platformdirs", "tempfile", "encodings.idna", "ctypes",
    "anyio", "sniffio",
}  # fmt: skip
"""What an upload of one file to a store does without: each costs every start a millisecond or more."""


NOT_FOR_ONE_PUT = {
    "aiohappyeyeballs", "json", "mmap", "random", "shlex", "tempfile", "unicodedata",
    "bigupload.api.copying", "bigupload.api.remote", "bigupload.api.steps.link",
    "bigupload.cli.move",
    "bigupload.core.manifest_lines", "bigupload.manifests.clean_up", "bigupload.manifests.journal",
    "bigupload.manifests.lock", "bigupload.sources.part_pool", "bigupload.sources.stream",
    "bigupload.support.batching",
}  # fmt: skip
"""What a command that sends one small file does without: each costs it 0.2 ms or more of CPU time."""


def modules_of(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded at the end of `code`."""
    report = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    done = subprocess.run([sys.executable, "-c", f"{report}\n{code}"], capture_output=True, text=True, check=True)
    modules = set(done.stderr.split())
    assert "bigupload" in modules
    return modules


def loaded_by(code: str) -> set[str]:
    """The heavy packages among them."""
    return {module.partition(".")[0] for module in modules_of(code)} & HEAVY


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import bigupload; dir(bigupload); bigupload.__version__") == set()


def test_names_of_pure_modules_load_nothing_heavy() -> None:
    names = "Algorithm, RetryPolicy, S3Options, Verified, UsageError, UploadStarted, rich_progress, tqdm_progress"
    assert loaded_by(f"from bigupload import {names}; S3Options(endpoint_url='https://s3.example')") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"import runpy, sys; sys.argv[1:] = {arguments!r}; runpy.run_module('bigupload', run_name='__main__')"
    assert loaded_by(code) <= {"asyncio", "anyio"}


def test_status_loads_no_store(tmp_path: Path) -> None:
    lines = f"os.environ['BIGUPLOAD_STATE_DIR'] = {str(tmp_path)!r}; sys.argv[1:] = ['status']"
    code = f"import os, runpy, sys; {lines}; runpy.run_module('bigupload', run_name='__main__')"
    assert loaded_by(code) <= {"asyncio", "anyio"}


def test_an_upload_of_one_file_loads_what_it_needs(tmp_path: Path) -> None:
    """As far as to a store that nobody runs."""
    (tmp_path / "file").write_bytes(b"content")
    code = f"""
import os
os.environ |= {{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "BIGUPLOAD_STATE_DIR": {str(tmp_path)!r}}}
import bigupload, bigupload.cli.upload
s3 = bigupload.S3Options(endpoint_url="http://127.0.0.1:9", region="us-east-1")
try:
    once = bigupload.Uploader(retry=bigupload.RetryPolicy(attempts=1))
    bigupload.upload_sync({str(tmp_path / "file")!r}, to="s3://bucket/key", s3=s3, uploader=once)
except bigupload.StoreUnreachable:
    pass
"""
    modules = modules_of(code)
    assert "bigupload.engine.single_put" in modules
    assert modules & (FEW_NEED | {"aiohttp", "bigupload.engine.multipart_upload"}) == set()


def test_an_upload_of_many_files_needs_no_botocore(tmp_path: Path) -> None:
    """As far as to a store that nobody runs: each file is one PUT, which is signed without botocore."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "one").write_bytes(b"content")
    code = f"""
import os
for name in list(os.environ):
    if name.startswith("AWS_"):
        del os.environ[name]
os.environ |= {{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "BIGUPLOAD_STATE_DIR": {str(tmp_path)!r}}}
import asyncio, bigupload, bigupload.cli.upload
async def main():
    s3 = bigupload.S3Options(endpoint_url="http://127.0.0.1:9", region="us-east-1")
    async with bigupload.Uploader(retry=bigupload.RetryPolicy(attempts=1)) as uploader:
        async for each in uploader.upload_many([{str(tmp_path / "files" / "one")!r}], to="s3://bucket/p/", s3=s3):
            raise AssertionError(each)
try:
    asyncio.run(main())
except bigupload.StoreUnreachable:
    pass
"""
    modules = modules_of(code)
    assert "bigupload.engine.single_put" in modules
    assert modules & {"botocore", "urllib3", "dateutil", "jmespath", "aiohttp"} == set()


def command_with(s3: StrictS3, home: Path, *command: str | Path) -> tuple[int, set[str]]:
    """Run a command with static keys. Returns its status, and the modules that it has loaded in the end."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "BIGUPLOAD_STATE_DIR": str(home),
        "HOME": str(home),
    }
    code = f"""
import atexit, sys
sys.argv[1:] = {[*map(str, command), "--endpoint-url", s3.url]!r}
atexit.register(lambda: print("\\n", *sys.modules, file=sys.stderr))
import bigupload.__main__
bigupload.__main__.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    return done.returncode, set(done.stderr.splitlines()[-1].split())


def _printed_by_an_upload(directory: Path, code: str) -> str:
    """Upload a file of three parts in a process of its own that runs `code` before. Returns what it prints."""
    (directory / "file").write_bytes(bytes(11 * MIB))
    with StrictS3() as s3:
        s3.create_bucket("bucket")
        whole = f"""
import asyncio, os, sys
os.environ |= {{"AWS_ACCESS_KEY_ID": {s3.access_key!r}, "AWS_SECRET_ACCESS_KEY": {s3.secret_key!r}}}
os.environ["BIGUPLOAD_STATE_DIR"] = {str(directory)!r}
import bigupload
from bigupload.http.connection_pool import ConnectionPool
from bigupload.stores.s3.multipart import S3Store
{code}
s3 = bigupload.S3Options(endpoint_url={s3.url!r}, region="us-east-1")
bigupload.upload_sync({str(directory / "file")!r}, to="s3://bucket/key", s3=s3)
"""
        done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_upload_is_created_before_what_parts_need_is_loaded(tmp_path: Path) -> None:
    """The request goes out 25 ms sooner. What is loaded while the store responds costs no time."""
    code = """
create = S3Store.create
async def noting(*args, **named):
    print("anyio" if "anyio" in sys.modules else "nothing", "is loaded before")
    return await create(*args, **named)
S3Store.create = noting
"""
    assert _printed_by_an_upload(tmp_path, code) == "nothing is loaded before\n"


def test_the_connections_begin_before_what_hashes_is_loaded(tmp_path: Path) -> None:
    """That takes as long as a round trip, in which they are made."""
    code = """
connect, create, begun = ConnectionPool._connect_to, S3Store.create, asyncio.Event()
async def noting(*args):
    print("anyio" if "anyio" in sys.modules else "nothing", "is loaded before")
    begun.set()
    return await connect(*args)
async def later(*args, **named):
    await begun.wait()
    return await create(*args, **named)
ConnectionPool._connect_to, S3Store.create = noting, later
"""
    assert _printed_by_an_upload(tmp_path, code) == "nothing is loaded before\n" * 3, "one for each part"


@pytest.mark.slow
def test_with_static_keys_no_command_needs_an_aws_library(tmp_path: Path) -> None:
    """Nor aiohttp. A resume, a list, an abort start as fast as an upload does."""
    path, folder = tmp_path / "file", tmp_path / "folder"
    folder.mkdir()
    (folder / "small").write_bytes(b"content")
    path.write_bytes(bytes(11 * MIB))
    with StrictS3() as s3:
        s3.create_bucket("bucket")
        commands: dict[str, list[str | Path]] = {
            "stopped": ["upload", path, "s3://bucket/key", "--part-size", "5MiB"],
            "resumed": ["upload", path, "s3://bucket/key", "--part-size", "5MiB"],
            "verified": ["verify", path, "s3://bucket/key"],
            "read back": ["verify", path, "s3://bucket/key", "--download"],
            "synced": ["sync", folder, "s3://bucket/folder/", "--delete"],
            "cleaned": ["gc", "s3://bucket"],
        }
        for name, command in commands.items():
            s3.clear()
            if name == "stopped":
                s3.script("UploadPart", Status(403, "AccessDenied"), part_number=2, repeat=True)
            code, modules = command_with(s3, tmp_path, *command)
            assert code == (75 if name == "stopped" else 0), name
            assert modules & {"boto3", "botocore", "urllib3", "aiohttp"} == set(), name
        assert s3.count("ListParts") >= 1


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("size", "needed"), [(7, set()), (11 * MIB, {"anyio", "awscrt", "ctypes", "filelock"})], ids=["one PUT", "parts"]
)
def test_an_upload_needs_no_aiohttp(tmp_path: Path, size: int, needed: set[str]) -> None:
    """From its first request to its proof."""
    (tmp_path / "file").write_bytes(bytes(size))
    (tmp_path / CLEANED_MARK).touch()  # no clean-up is due
    with StrictS3() as s3:
        s3.create_bucket("bucket")
        code, modules = command_with(s3, tmp_path, "upload", tmp_path / "file", "s3://bucket/key")
        assert code == 0
        assert s3.objects["bucket"]["key"].body == bytes(size)
    assert ("bigupload.engine.multipart_upload" in modules) is bool(needed)
    assert modules & NOT_FOR_ONE_PUT == set() or needed
    assert modules & (FEW_NEED - {"sniffio"} | {"aiohttp", "yarl", "multidict", "attr"}) == needed


def test_a_connection_that_breaks_needs_no_aiohttp() -> None:
    code = """
import asyncio
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault
from bigupload.http.put_transport import HttpTransport
from bigupload.ports import SignedRequest
from bigupload.sources.objects import MemorySource

async def main():
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/key"
    source = MemorySource("x", memoryview(b"x"))
    async with server, HttpTransport() as transport:
        try:
            await transport.put(SignedRequest(url, {}, 60), source, Part(1, 0, 1), on_start=bool)
        except Fault:
            print("broken")
        else:
            raise AssertionError

asyncio.run(main())
"""
    assert "aiohttp" not in loaded_by(code)


def test_the_probe_can_fail() -> None:
    assert "anyio" in loaded_by("import bigupload.batch.watching")


def test_every_public_name() -> None:
    for name in bigupload.__all__:
        value = getattr(bigupload, name)
        assert getattr(value, "__name__", name) == name, "a module that uses the name may have another one in its place"
        assert name in dir(bigupload), name


def test_the_public_names_are_told_apart() -> None:
    assert len(set(bigupload.__all__)) == len(bigupload.__all__)
    assert dir(bigupload) == sorted(bigupload.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bigupload.nothing
