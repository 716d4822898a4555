"""The compose file: against its specification, and its commands run by hand, on real parts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from bigupload.service.http.serving import DRAIN_WITHIN
from bigupload.stores.local_store import _find_weed
from tests.service.deploy.support import DEPLOY, ROOT, names_a_host, options_of
from tests.tools.media import sample
from tests.tools.valkey import free_port, valkey_running
from tests.tools.waiting import until

pytestmark = pytest.mark.slow  # guards deploy/

compose_spec = pytest.importorskip("compose_spec", reason="compose-spec has no wheel for this machine")
TEXT = (DEPLOY / "compose.yaml").read_text()
CREDENTIALS = {"S3_ACCESS_KEY": "an-access-key", "S3_SECRET_KEY": "a-secret-key"}
SERVICES: dict[str, Any] = yaml.safe_load(TEXT)["services"]


def validated(text: str) -> Any:
    found = compose_spec.PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(text)))  # merge keys are YAML's own
    found.validate()
    return found


def test_the_specification() -> None:
    assert set(validated(TEXT).service_names()) == {"store", "valkey", "setup", "service"}
    with pytest.raises(ValueError, match="raed_only"):
        validated(TEXT.replace("read_only", "raed_only"))


def test_the_service_s_commands() -> None:
    assert options_of(SERVICES["setup"]["command"])["url"] == "s3://media"
    options = options_of(SERVICES["service"]["command"])
    assert options["bucket"] == "s3://media"
    assert options["shared"] == "redis://valkey:6379/0"
    grace = int(SERVICES["service"]["stop_grace_period"].removesuffix("s"))
    assert grace > float(str(options["stop_delay"])) + DRAIN_WITHIN + 4


def test_the_first_key_is_made_before_the_service_starts() -> None:
    """Without a key file it ends at once, and nothing can be executed in its container."""
    first, last = re.findall(r"^#   docker compose -f deploy/compose\.yaml (.*)$", TEXT, re.MULTILINE)
    assert first == "run --rm --no-deps service keys create --owner alice"
    assert last.startswith("up ")


def test_images_secrets_and_ports() -> None:
    assert not any(names_a_host(each["image"]) for each in SERVICES.values())
    assert not any(":latest" in each["image"] for each in SERVICES.values())
    assert all(port.startswith("127.0.0.1:") for each in SERVICES.values() for port in each.get("ports", ()))
    assert set(re.findall(r"\$\{(\w+)", TEXT)) == {"S3_ACCESS_KEY", "S3_SECRET_KEY"}
    for name in ("setup", "service", "valkey"):
        assert SERVICES[name]["read_only"]
        assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert (DEPLOY / SERVICES["service"]["build"]["context"]).resolve() == ROOT
    assert (ROOT / SERVICES["service"]["build"]["dockerfile"]).is_file()


def test_secrets_in_deploy_are_never_committed() -> None:
    done = subprocess.run(["git", "check-ignore", "deploy/.env"], cwd=ROOT, check=False, capture_output=True)
    if done.returncode == 128:
        pytest.skip("this is no checkout")
    assert done.returncode == 0


def run(call: Sequence[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def moved(command: Sequence[str], there: Mapping[str, str]) -> list[str]:
    """The command with other addresses and places, each of which it must have."""
    assert set(there) <= set(command)
    return [there.get(word, word) for word in command]


def store_command(directory: Path, port: int) -> list[str]:
    """The store's command on this machine, with free ports for its parts."""
    text = yaml.safe_load(TEXT)["configs"]["s3"]["content"]
    (directory / "s3.json").write_text(re.sub(r"\$\{(\w+)\}", lambda match: CREDENTIALS[match[1]], text))
    (directory / "data").mkdir()
    there = {
        "-dir=/data": f"-dir={directory}/data",
        "-ip=store": "-ip=127.0.0.1",
        "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
        "-s3.config=/etc/s3.json": f"-s3.config={directory}/s3.json",
        "-s3.port=8333": f"-s3.port={port}",
    }
    others = [f"-{part}.port={free_port()}" for part in ("master", "volume", "filer")]
    others += [f"-{part}.port.grpc={free_port()}" for part in ("master", "volume", "filer", "s3")]
    return [*moved(SERVICES["store"]["command"], there), *others, "-s3.port.iceberg=0", "-s3.port.lance=0"]


def test_its_commands_make_a_service(tmp_path: Path) -> None:
    """All of them on this machine, at other ports: a photo is uploaded, and everyone can read it."""
    port = free_port()
    store = f"http://127.0.0.1:{port}"
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("AWS_", "BIGUPLOAD_"))} | {
        "BIGUPLOAD_KEYS": f"{tmp_path}/keys.json",
        "BIGUPLOAD_SECRET_FILE": f"{tmp_path}/secret",
        "BIGUPLOAD_STATE_DIR": f"{tmp_path}/state",
        "AWS_ACCESS_KEY_ID": CREDENTIALS["S3_ACCESS_KEY"],
        "AWS_SECRET_ACCESS_KEY": CREDENTIALS["S3_SECRET_KEY"],
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": store,
    }
    bigupload = [sys.executable, "-m", "bigupload"]
    running: list[subprocess.Popen[bytes]] = []
    with valkey_running(tmp_path / "valkey") as valkey, (tmp_path / "log").open("w") as log:
        try:
            weed = [str(_find_weed()), *store_command(tmp_path, port)]
            running.append(subprocess.Popen(weed, cwd=tmp_path, stdout=log, stderr=log))
            _wait_until_healthy(SERVICES["store"]["healthcheck"]["test"][-1].replace("http://127.0.0.1:8333", store))
            run([*bigupload, *SERVICES["setup"]["command"]], environment)
            key = run([*bigupload, "keys", "create", "--owner", "alice"], environment).strip()
            there = {
                "--host=0.0.0.0": "--host=127.0.0.1",
                "--shared=redis://valkey:6379/0": f"--shared={valkey.url}",
                "--client-endpoint-url=http://localhost:8333": f"--client-endpoint-url={store}",
                "--stop-delay=5s": "--stop-delay=0s",
            }
            serve = [*bigupload, *moved(SERVICES["service"]["command"], there), "--port=0"]
            running.append(subprocess.Popen(serve, env=environment, stdout=subprocess.PIPE, stderr=log))
            out = running[1].stdout
            assert out is not None
            with out:
                url = out.readline().decode().split()[-1]
            (tmp_path / "photo.jpg").write_bytes(sample("jpg"))
            upload = [*bigupload, "upload", f"{tmp_path}/photo.jpg", "--service", url, "--json"]
            told = run(upload, environment | {"BIGUPLOAD_API_KEY": key})
            public = json.loads(told.splitlines()[-1])["url"]
            assert httpx.get(public, trust_env=False).content == sample("jpg")
            for private in ("bigupload-policy.json", "refused/events/waiting/evt_1"):  # 404 would be: everyone may look
                assert httpx.get(f"{store}/media/{private}", trust_env=False).status_code == 403
            running[1].terminate()
            assert running[1].wait(60) == 0
        finally:
            for process in reversed(running):
                process.kill()
                process.wait()


def _wait_until_healthy(url: str) -> None:
    def healthy() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(url, trust_env=False).status_code == 200
        return False

    asyncio.run(until(healthy, within=120.0))
