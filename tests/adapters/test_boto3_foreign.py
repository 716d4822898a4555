"""The tests of boto3 and s3transfer for these methods, run against the adapter and SeaweedFS.

They are not part of this repository. Fetch them, and name their directories::

    pip download --no-deps --no-binary :all: s3transfer     # unpack it: the archive has its tests
    git clone https://github.com/boto/boto3                 # the archive has none
    export S3TRANSFER_SOURCE=… BOTO3_SOURCE=…
    python -m pytest -m '' -s tests/adapters/test_boto3_foreign.py

Left out is what tests the insides: all that uses botocore's `Stubber`, which answers requests that boto3 itself would
make, and the cancellation of `TransferManager`'s futures. Two of each need ACLs, which SeaweedFS does not have.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bigupload.stores.local_store import LocalStore

pytestmark = pytest.mark.slow

SUITES = {
    "s3transfer": (
        ["tests/integration/test_upload.py", "tests/integration/test_s3transfer.py"],
        "not exits_quicky and not with_acl and not test_can_send_extra_params_on_upload",
        17,
    ),
    "boto3": (
        ["tests/integration/test_s3.py", "tests/unit/s3/test_inject.py", "tests/unit/s3/test_transfer.py"],
        "not with_acl and not test_can_send_extra_params_on_upload",
        12,
    ),
}
"""Which files of each, which of their tests, and how many uploads bigupload makes there at least."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SUITES)
def test_their_suite(name: str, weed: LocalStore, tmp_path: Path) -> None:
    source = os.environ.get(f"{name.upper()}_SOURCE")
    if source is None:
        pytest.skip(f"{name.upper()}_SOURCE does not name a directory of {name}'s sources")
    files, which, least = SUITES[name]
    repository = Path(__file__).parents[2]
    shutil.copy(
        Path(__file__).with_name("foreign.py"), tmp_path / "adapter_foreign.py"
    )  # their package is `tests`, too
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "PYTEST_"))} | {
        "AWS_ENDPOINT_URL": weed.endpoint_url,
        "AWS_ACCESS_KEY_ID": weed.access_key,
        "AWS_SECRET_ACCESS_KEY": weed.secret_key,
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_EC2_METADATA_DISABLED": "true",
        "BIGUPLOAD_STATE_DIR": str(tmp_path / "state"),
        "PYTHONPATH": f"{repository}{os.pathsep}{tmp_path}",
    }
    command = [sys.executable, "-m", "pytest", "-p", "adapter_foreign", "-p", "no:cacheprovider", "-k", which, *files]
    done = subprocess.run(command, cwd=source, env=environment, stdout=subprocess.PIPE, text=True)
    print(done.stdout[-2000:])
    assert done.returncode == 0, done.stdout
    made = re.search(r"^uploads made by bigupload: (\d+)$", done.stdout, re.MULTILINE)
    assert made is not None
    assert int(made[1]) >= least
