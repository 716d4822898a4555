"""The service as processes: replicas that share a secret and a key file alone, starts that fail."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from bigupload import errors
from bigupload.core.checksums import Algorithm
from bigupload.service.call import AccessLog, LoggedRequest, write_line
from bigupload.service.http.monitoring import Metrics
from bigupload.service.http.serving import listen
from bigupload.stores.local_store import LocalStore
from tests.service.test_multipart import PART, create, cut, described, film, send, upload
from tests.service.test_workers import healthy
from tests.tools.service import Service, serving


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BIGUPLOAD_"))}
    return subprocess.run(
        [sys.executable, "-m", "bigupload", "serve", *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_two_replicas_serve_one_upload_in_turns(weed: LocalStore, service: Service) -> None:
    data = film(3 * PART + 1)
    pieces = cut(data)
    parts = described(pieces, Algorithm.CRC64NVME)
    one = service
    with serving(weed, one.home, "--sweep-every", "0", asgi=one.asgi) as two:
        assert one.url != two.url
        made = create(one, len(data), firstParts=parts[:1]).json()
        etags = send(made["signed"], pieces[:1])
        for number, replica in zip((2, 3, 4), (two, one, two), strict=True):
            body = {"upload": made["upload"], "parts": [parts[number - 1]]}
            signed = replica.call("POST", "/v1/media/multipart/parts", json=body).json()["signed"]
            etags += send(signed, pieces[number - 1 : number])
        listed = two.call("GET", "/v1/media/multipart/parts", params={"upload": made["upload"]}).json()["parts"]
        assert [part["etag"] for part in listed] == etags
        rows = [{"partNumber": n, "etag": e, "checksum": p["checksum"]} for n, (e, p) in
                enumerate(zip(etags, parts, strict=True), 1)]  # fmt: skip
        done = one.call("POST", "/v1/media/multipart/complete", json={"upload": made["upload"], "parts": rows})
        assert done.status_code == 200, done.text
        status = two.call("GET", "/v1/media/multipart", params={"upload": made["upload"]}).json()
        again, first = status["completed"], done.json()
        assert _claims(again.pop("receipt")) == _claims(first.pop("receipt"))
        assert again == first
    assert httpx.get(done.json()["publicUrl"], trust_env=False).content == data


def _claims(receipt: str) -> dict[str, Any]:
    """Without its time: each response has a receipt of its own."""
    found: dict[str, Any] = jwt.decode(receipt, options={"verify_signature": False})
    return {name: value for name, value in found.items() if name != "iat"}


@pytest.mark.slow
def test_a_handle_of_another_secret_is_none(weed: LocalStore, tmp_path: Path) -> None:
    with serving(weed, tmp_path / "one") as one, serving(weed, tmp_path / "two") as two:
        made = create(one, PART).json()
        response = two.call("GET", "/v1/media/multipart", params={"upload": made["upload"]})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_upload")


@pytest.mark.slow
def test_a_secret_may_be_replaced_without_ending_uploads(weed: LocalStore, tmp_path: Path) -> None:
    with serving(weed, tmp_path) as service:
        made = create(service, PART).json()
    secret = tmp_path / "secret"
    secret.write_text(secret.read_text().rstrip("\n") + "\n" + "a new secret of at least 32 characters\n")
    with serving(weed, tmp_path) as service:
        status = service.call("GET", "/v1/media/multipart", params={"upload": made["upload"]})
        assert status.json()["status"] == "open"


def test_the_store_is_reached_signed_for_and_shown_at_three_addresses(weed: LocalStore, service: Service) -> None:
    """The service talks to 127.0.0.1, clients to localhost, the public to a CDN."""
    home, bucket = service.home, service.bucket  # it has made bucket, rules and key
    clients = weed.endpoint_url.replace("127.0.0.1", "localhost")
    more = ("--bucket", f"s3://{bucket}", "--client-endpoint-url", clients, "--sweep-every", "0")
    with serving(weed, home, *more, local=False) as service:
        _, body = upload(service, film(PART))  # by now the service has spoken to the store itself
        done = service.call("POST", "/v1/media/multipart/complete", json=body).json()
        assert done["publicUrl"].startswith(f"{clients}/{bucket}/media/local/")
        assert httpx.get(done["publicUrl"], trust_env=False).status_code == 200
    with serving(weed, home, *more, "--public-url", "https://cdn.example/m", local=False) as service:
        body = {"filename": "a.jpg", "contentType": "image/jpeg"}
        response = service.call("POST", "/v1/media/presign", json=body).json()
        assert response["uploadUrl"].startswith(f"{clients}/{bucket}/media/local/")
        assert response["publicUrl"] == f"https://cdn.example/m/{response['key']}"
        put = httpx.put(
            response["uploadUrl"], headers={"Content-Type": "image/jpeg"}, content=b"\xff\xd8\xff", trust_env=False
        )
        assert put.status_code == 200, put.text
        page = httpx.get(service.url, trust_env=False)
        assert f"connect-src 'self' {clients}" in page.headers["Content-Security-Policy"]


ONE_LINE: list[tuple[list[str], dict[str, str], int, str]] = [
    ([], {}, 2, "name a place for the media"),
    (["--bucket", "b/c"], {}, 2, "not a bucket"),
    (["--bucket", "s3://b", "--public-url", "cdn.example"], {}, 2, "--public-url is not a URL"),
    (["--bucket", "s3://b", "--posts-url", "ftp://x"], {}, 2, "--posts-url is not a URL"),
    (["--local", "--endpoint-url", "http://127.0.0.1:1"], {}, 2, "leave out --endpoint-url"),
    (["--bucket", "s3://b", "--workers", "0"], {}, 2, "--workers"),
    (["--bucket", "s3://b"], {"BIGUPLOAD_KEYS": "/nonexistent/keys.json"}, 1, "no key file"),
    (["--bucket", "s3://b", "--posts-url", "http://x", "--posts-authorization", "/nonexistent"], {}, 1, "can't read"),
    (["--bucket", "s3://b", "--posts-url", "http://x", "--posts-authorization", "/dev/null"], {}, 1, "one line"),
    (["--bucket", "s3://b", "--posts-authorization", "/dev/null"], {}, 2, "needs --posts-url"),
    (["--bucket", "s3://b", "--sweep-every", "nan"], {}, 2, "--sweep-every"),
    (["--bucket", "s3://b", "--public-url", "http://[x"], {}, 2, "--public-url is not a URL"),
    (["--bucket", "s3://b", "--client-endpoint-url", "http://x:99999"], {}, 2, "is not a URL"),
    (["--bucket", "s3://b", "--posts-url", "http://x?a=b"], {}, 2, "must not have a query"),
]


@pytest.mark.parametrize(("arguments", "environment", "status", "says"), ONE_LINE)
@pytest.mark.exhaustive
def test_a_start_that_fails_says_why_in_one_line(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], status: int, says: str
) -> None:
    places = {"BIGUPLOAD_KEYS": str(tmp_path / "keys"), "BIGUPLOAD_SECRET_FILE": str(tmp_path / "secret")}
    done = command("--port", "0", *arguments, **places | {"HOME": str(tmp_path)} | environment)
    assert (done.returncode, done.stdout) == (status, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken(weed: LocalStore, tmp_path: Path, workers: str) -> None:
    with serving(weed, tmp_path, "--workers", workers) as service:
        places = {name: value for name, value in service.environment.items() if name.startswith("BIGUPLOAD_")}
        places["BIGUPLOAD_KEYS"] = str(tmp_path / "others")
        done = command("--local", "--port", service.url.rpartition(":")[2], "--workers", workers, **places)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "name another --port" in done.stderr
        assert healthy(service)
    assert json.loads((tmp_path / "others").read_text())["keys"] == []  # none is made that nobody is shown


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_told_by_the_start(
    weed: LocalStore, tmp_path: Path, make_key: Callable[..., Any]
) -> None:
    store = {"AWS_ACCESS_KEY_ID": weed.access_key, "AWS_SECRET_ACCESS_KEY": weed.secret_key}
    store |= {"AWS_REGION": weed.region, "AWS_ENDPOINT_URL": weed.endpoint_url}
    done = command("--bucket", "s3://no-such", "--port", "0", **make_key(tmp_path) | store)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert "bigupload bucket setup s3://no-such" in done.stderr


@pytest.mark.slow
def test_without_credentials_a_start_says_so(weed: LocalStore, tmp_path: Path, make_key: Callable[..., Any]) -> None:
    places = make_key(tmp_path)
    for workers in ("1", "2"):
        done = command("--bucket", "s3://b", "--workers", workers, "--port", "0", **places | {"HOME": str(tmp_path),
                       "AWS_EC2_METADATA_DISABLED": "true"})  # fmt: skip
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert "no AWS credentials" in done.stderr


@pytest.fixture
def make_key() -> Callable[[Path], dict[str, str]]:
    """A key file, and the environment that names it."""

    def make(home: Path) -> dict[str, str]:
        places = {"BIGUPLOAD_KEYS": str(home / "keys"), "BIGUPLOAD_SECRET_FILE": str(home / "secret")}
        subprocess.run(
            [sys.executable, "-m", "bigupload", "keys", "create", "--owner", "me"],
            env=os.environ | places,
            capture_output=True,
            check=True,
        )
        return places

    return make


@pytest.mark.slow
def test_the_first_key_is_shown_once(weed: LocalStore, tmp_path: Path) -> None:
    with serving(weed, tmp_path) as service:
        assert service.call("POST", "/v1/media/check", json={"url": "x"}).status_code == 200
        assert service.key not in (tmp_path / "keys.json").read_text()
        service.stop()
        assert service.process.stdout is not None
        assert service.process.stdout.read() == ""  # of two lines both were read
    with serving(weed, tmp_path) as again:
        again.stop()
        assert again.process.stdout is not None
        second_line = again.process.stdout.read()  # the helper read the first
        assert (second_line.count("\n"), "made earlier" in second_line) == (1, True)
        assert service.key not in second_line
    with serving(weed, tmp_path) as again:
        assert again.key == service.key
        assert again.call("POST", "/v1/media/check", json={"url": "x"}).status_code == 200


@pytest.mark.slow
def test_a_first_key_that_cant_be_printed_is_revoked(weed: LocalStore, tmp_path: Path) -> None:
    with serving(weed, tmp_path) as service:
        environment = service.environment | {"BIGUPLOAD_KEYS": str(tmp_path / "others")}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bigupload", "serve", "--local", "--port", "0"],
            env=environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    (key,) = json.loads((tmp_path / "others").read_text())["keys"]
    assert key["revoked_at"]


def test_no_log_and_no_metrics_break_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        AccessLog(write=lambda line: write_line(line, full.fileno())).write_event("request")
    metrics = Metrics(lambda logged: logged.started)
    logged = LoggedRequest(id="1", method="GET", route="/", remote=None, started=0.25)
    metrics.answered(logged, 200)
    assert metrics._registry.get_sample_value("bigupload_request_seconds_sum", {"route": "/"}) == 0.25

    def gone(*_: str) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(metrics._metrics["requests"], "labels", gone)
    metrics.answered(logged, 200)


def test_the_log_is_json_and_holds_nothing_secret(weed: LocalStore, tmp_path: Path) -> None:
    with serving(weed, tmp_path) as service:
        made = create(service, PART, firstParts=described(cut(film(PART)), Algorithm.CRC64NVME)).json()
        service.call("GET", "/v1/media/multipart", params={"upload": made["upload"]})
        service.call("GET", "/v1/media/multipart", params={"upload": "forged"})
        service.stop()
        text = service.log()
    lines = [json.loads(line) for line in text.splitlines()]
    asked = [line for line in lines if line["event"] == "request"]
    assert [(line["route"], line["status"]) for line in asked] == [
        ("/v1/media/multipart", 200), ("/v1/media/multipart", 200), ("/v1/media/multipart", 400),
    ]  # fmt: skip
    assert {(line["owner"], len(line["key"])) for line in asked} == {("local", 8)}
    assert asked[2]["code"] == "invalid_upload"
    secret = (tmp_path / "secret").read_text().strip()
    for hidden in (service.key, made["upload"], made["signed"][0]["url"], "X-Amz-Signature", secret, weed.secret_key):
        assert hidden not in text


def test_a_host_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(errors.UsageError, match=r"can't listen on no\.such\.host port 80: Name or service not known"):
        listen("no.such.host", 80)


@pytest.mark.slow
def test_another_machine_s_address_is_warned_of(weed: LocalStore, tmp_path: Path) -> None:
    with serving(weed, tmp_path, "--host", "0.0.0.0") as service:
        assert service.process.poll() is None
    assert "this machine only" in (tmp_path / "log").read_text()
