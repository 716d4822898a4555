"""`bigupload check-url`: what is printed where, the exit codes, and that the service's extra isn't needed."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from bigupload.cli import main
from bigupload.service.contract import CheckResponse
from tests.tools.media import sample

Ended = tuple[int, str, str]


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    """A server that has /a.png, a picture, and nothing else. Its base URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.partition("?")[0] == "/a.png"
            body = sample("png") if found else b"<html>"
            self.send_response(200)
            self.send_header("Content-Type", "image/png" if found else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def check_url(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    def run(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main(["check-url", *arguments])
        out, err = capsys.readouterr()
        code = ended.value.code or 0
        assert isinstance(code, int)
        return code, out, err

    return run


def test_usable(check_url: Callable[..., Ended], host: str) -> None:
    size = len(sample("png"))
    ended = check_url(f"{host}/a.png?signature=secret", "--allow-private-media-hosts")
    assert ended == (0, f"usable: image/png, {size} B\n", "")


def test_not_usable(check_url: Callable[..., Ended], host: str) -> None:
    ended = check_url(f"{host}/page", "--allow-private-media-hosts")
    assert ended == (1, "", "bigupload: not usable (html): the URL returns an HTML page, not a media file\n")


def test_private_hosts_are_not_usable(check_url: Callable[..., Ended], host: str) -> None:
    code, out, err = check_url(f"{host}/a.png")
    assert (code, out) == (1, "")
    assert err == "bigupload: not usable (not_public): the URL's host is not on the public internet\n"


def test_json(check_url: Callable[..., Ended], host: str) -> None:
    code, out, err = check_url(f"{host}/a.png?signature=secret", "--allow-private-media-hosts", "--json")
    assert (code, err) == (0, "")
    response = CheckResponse.model_validate(json.loads(out))
    assert (response.usable, response.content_type, response.url) == (True, "image/png", f"{host}/a.png")
    code, out, err = check_url("x", "--json")
    response = CheckResponse.model_validate(json.loads(out))
    assert response.error is not None
    assert (code, response.usable, response.error.code) == (1, False, "not_a_url")
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["a", "--nothing"]])
def test_usage(check_url: Callable[..., Ended], arguments: list[str]) -> None:
    code, out, err = check_url(*arguments)
    assert (code, out) == (2, "")
    assert "check-url --help" in err


@pytest.mark.parametrize("url", ["http://127.0.0.1/a\x1b[2J", "http://h.invalid\r\nx"])
def test_nothing_that_a_terminal_obeys(check_url: Callable[..., Ended], url: str) -> None:
    code, out, err = check_url(url)
    assert (code, out) == (1, "")
    assert err.removesuffix("\n").isprintable()


def test_the_services_extra_is_not_needed(host: str) -> None:
    code = (
        "import sys\n"
        "for name in ('pydantic', 'itsdangerous', 'prometheus_client', 'boto3'): sys.modules[name] = None\n"
        "from bigupload.cli import main\n"
        f"main(['check-url', '{host}/a.png', '--allow-private-media-hosts'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usable: image/png")
