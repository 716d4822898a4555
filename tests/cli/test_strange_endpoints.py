"""Something that is not the store responds: it redirects, shows a page, or limits what it passes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bigupload.core.retry_policy import RetryPolicy
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Place

from .support import PART, Command, assert_refused, to


@dataclass
class Elsewhere:
    """A server that has one response to every request."""

    status: int = 307
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    asked: list[str] = field(default_factory=list)
    """The methods of the requests."""
    url: str = ""


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    made = Elsewhere()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            made.asked.append(self.command)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response_only(made.status)
            for name, value in {**made.headers, "Content-Length": str(len(made.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(made.body)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = respond

        def log_message(self, *_: object) -> None:
            """Nowhere."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True  # connections are kept

        def handle_error(self, *_: object) -> None:
            """A client that has enough closes the connection."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        made.url = f"http://127.0.0.1:{server.server_port}"
        yield made
        server.shutdown()
        thread.join()


# --- redirects


def commands(file: Path, url: str) -> dict[str, list[str | Path]]:
    where: list[str | Path] = ["--endpoint-url", url, "--region", "us-east-1"]
    quiet: list[str | Path] = ["--progress", "none"]
    return {
        "upload": ["upload", file, "s3://bucket/key", *where, *quiet],
        "upload of a small file": ["upload", file.with_name("small"), "s3://bucket/key", *where, *quiet],
        "upload if none": ["upload", file, "s3://bucket/key", "--if-none-match", *where, *quiet],
        "sync": ["sync", file.parent, "s3://bucket/folder/", *where, *quiet],
        "sync with delete": ["sync", file.parent, "s3://bucket/folder/", "--delete", *where, *quiet],
        "verify": ["verify", file, "s3://bucket/key", *where, *quiet],
        "verify by reading": ["verify", file, "s3://bucket/key", "--download", *where, *quiet],
        "gc": ["gc", "s3://bucket", *where],
    }


@pytest.mark.exhaustive
@pytest.mark.parametrize("region", [True, False], ids=["region", "no region"])
@pytest.mark.parametrize("which", commands(Path("file"), ""))
def test_an_endpoint_that_redirects(
    bigupload: Command, file: Path, elsewhere: Elsewhere, which: str, region: bool
) -> None:
    """As a reverse proxy does with http:// that wants https://. The file is asked for once or twice, and not again."""
    file.with_name("small").write_bytes(b"small")
    elsewhere.headers = {"Location": "https://store.example:8443/bucket/key?secret=1"}
    for status in (301, 302, 303, 307, 308):
        elsewhere.status = status
        elsewhere.asked.clear()
        command = commands(file, elsewhere.url)[which]
        if not region:
            del command[command.index("--region") : command.index("--region") + 2]
        ended = bigupload(*command)
        assert_refused(ended, 1, "the endpoint redirects to https://store.example:8443: use that with --endpoint-url")
        assert 1 <= len(elsewhere.asked) <= 2
        for word in ("secret", "again", "Traceback"):
            assert word not in ended.err


def test_a_directory_for_an_endpoint_that_redirects(bigupload: Command, tmp_path: Path, elsewhere: Elsewhere) -> None:
    """The files that are under way meet it, and no other one."""
    (tmp_path / "many").mkdir()
    for number in range(300):
        (tmp_path / "many" / f"{number}.bin").write_bytes(b"small")
    elsewhere.headers = {"Location": "https://store.example/"}
    where = ["--endpoint-url", elsewhere.url, "--region", "us-east-1", "--progress", "none"]
    ended = bigupload("upload", tmp_path / "many", "s3://bucket/many/", *where)
    assert ended.code == 1
    assert "the endpoint redirects to https://store.example: use that with --endpoint-url" in ended.err
    assert len(elsewhere.asked) < 100


@pytest.mark.parametrize("location", [None, "/elsewhere", "ftp://store.example/", "https://[::1"])
def test_an_endpoint_that_redirects_nowhere(
    bigupload: Command, file: Path, elsewhere: Elsewhere, location: str | None
) -> None:
    elsewhere.headers = {} if location is None else {"Location": location}
    ended = bigupload(*commands(file, elsewhere.url)["upload"])
    assert_refused(ended, 1, "the endpoint redirects elsewhere: check the endpoint")
    assert len(elsewhere.asked) == 1


def test_an_upload_that_is_resumed_over_an_endpoint_that_redirects(
    bigupload: Command, s3: StrictS3, stopped: Path, file: Path
) -> None:
    """The upload and its parts stay."""
    s3.script("ListParts", Status(302, headers={"Location": "https://store.example/"}), repeat=True)
    before = len(s3.requests)
    ended = bigupload("upload", file, *to(s3), "--progress", "none")
    assert ended.code in (1, 75)
    assert "the endpoint redirects to https://store.example: use that with --endpoint-url" in ended.err
    assert len(s3.requests) == before + 1
    s3.clear()
    assert bigupload("upload", file, *to(s3), "--progress", "none").code == 0
    assert len(s3.uploads) == 0


def test_the_endpoint_that_is_named_is_the_one_to_use(
    bigupload: Command, s3: StrictS3, file: Path, elsewhere: Elsewhere
) -> None:
    elsewhere.headers = {"Location": f"{s3.url}/bucket/key"}
    ended = bigupload(*commands(file, elsewhere.url)["upload"])
    assert_refused(ended, 1, f"redirects to {s3.url}: use that")
    assert bigupload(*commands(file, s3.url)["upload"]).code == 0


# --- pages

LOGIN = (
    b"<!doctype html>\n<html><head><title>Sign in - Hotel Wi-Fi</title><style>body { color: red }</style></head>"
    b"<body><h1>Welcome!</h1><a href='https://portal.example/?session=secret'>Go on</a></body></html>"
)


@pytest.mark.parametrize("which", ["upload", "upload if none", "gc", "sync"])
def test_a_login_page_in_place_of_the_store(
    bigupload: Command, file: Path, elsewhere: Elsewhere, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network's, for example. It goes away when somebody has signed in, so the same command may go on later."""
    monkeypatch.setattr(RetryPolicy, "delay", lambda *_: 0)
    elsewhere.status, elsewhere.headers, elsewhere.body = 200, {"Content-Type": "text/html; charset=utf-8"}, LOGIN
    ended = bigupload(*commands(file, elsewhere.url)[which])
    assert ended.code == 75, ended.err
    if which != "upload if none":  # whose HEAD has no body
        assert "is not S3's, or was cut off: 200 (text/html: \"Sign in - Hotel Wi-Fi" in ended.complaint
        assert "A proxy or a login page responds in its place" in ended.complaint
    assert "secret" not in ended.err
    assert "500" not in ended.err


# --- limits of what stands in front of a store


def test_parts_that_are_too_large_for_a_proxy(bigupload: Command, s3: StrictS3, place: Place) -> None:
    """The advice works."""
    path = place.directory / "large.bin"
    with path.open("wb") as opened:
        opened.truncate(8 * PART)
    s3.script("UploadPart", Status(413), repeat=True)
    ended = bigupload("upload", path, *to(s3), "--part-size", "10MiB", "--progress", "none")
    assert ended.code == 1
    assert "something in front of the store limits request bodies" in ended.complaint
    assert "send parts of less than 10.5 MB: --part-size 8MiB with --no-resume" in ended.complaint
    s3.clear()
    ended = bigupload("upload", path, *to(s3), "--part-size", "8MiB", "--no-resume", "--progress", "none")
    assert ended.code == 0, ended.err


@pytest.mark.parametrize("code", ["", "EntityTooLarge"])
def test_a_small_file_that_is_too_large_for_a_proxy(bigupload: Command, s3: StrictS3, place: Place, code: str) -> None:
    """It was one PUT. The advice works, without `--no-resume`: there is no manifest."""
    path = place.directory / "small.bin"
    path.write_bytes(bytes(7 << 20))
    s3.script("PutObject", Status(413, code), repeat=True)
    ended = bigupload("upload", path, *to(s3), "--progress", "none")
    assert ended.code == 1
    assert ended.complaint.endswith("send parts of less than 7.3 MB: --part-size 5MiB")
    assert ended.complaint.count("413") == 1
    ended = bigupload("upload", path, *to(s3), "--part-size", "5MiB", "--progress", "none")
    assert ended.code == 0, ended.err


@pytest.mark.parametrize("code", ["", "EntityTooLarge"])
def test_a_file_that_no_part_size_makes_small_enough(bigupload: Command, s3: StrictS3, place: Place, code: str) -> None:
    path = place.directory / "tiny.bin"
    path.write_bytes(bytes(2 << 20))
    s3.script("PutObject", Status(413, code), repeat=True)
    ended = bigupload("upload", path, *to(s3), "--progress", "none")
    assert ended.code == 1
    assert "--part-size" not in ended.complaint
    assert ended.complaint.endswith(", or use an endpoint without it: S3 has no parts below 5 MiB")
