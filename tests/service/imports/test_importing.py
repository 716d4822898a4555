"""An import from its beginning to its end, by the HTTP API of a service that runs."""

from __future__ import annotations

import httpx
import pytest

from tests.service.imports.support import MIB, begin, ended, status
from tests.service.test_attacks import refusal
from tests.service.test_multipart import film
from tests.tools.declared import log_lines
from tests.tools.media import sample
from tests.tools.service import Service
from tests.tools.waiting import until
from tests.tools.web_server import WebFault, WebServer, is_part

QUERY = "?X-Amz-Signature=secret-of-the-url"


async def test_a_file_becomes_an_upload_like_any_other(importing: Service, web: WebServer) -> None:
    data = film(11 * MIB)
    web.serve("/a/film.mp4", data)
    there = {"Location": f"{web.url}/a/film.mp4{QUERY}"}
    web.faults.append(WebFault(status=302, headers=there, when=lambda asked: asked.path.startswith("/start"), times=9))
    made = begin(importing, f"{web.url}/start{QUERY}", filename="Zürich.mp4", user="u-17", metadata={"album": "a-3"})
    assert made.status_code == 200, made.text
    found = made.json()
    assert (found["size"], found["contentType"], found["filename"]) == (len(data), "video/mp4", "Zürich.mp4")
    over = await ended(importing, found["upload"])
    assert over["status"] == "completed", over
    completed = over["completed"]
    assert (completed["key"], completed["size"], completed["checksumAlgorithm"]) == (
        found["key"],
        len(data),
        "crc64nvme",
    )
    assert completed["receipt"]
    assert httpx.get(found["publicUrl"], trust_env=False).content == data
    listed = importing.call("GET", "/v1/media", params={"user": "u-17", "details": "true"}).json()["media"]
    [row] = [row for row in listed if row["key"] == found["key"]]
    assert (row["filename"], row["metadata"], row["contentType"]) == ("Zürich.mp4", {"album": "a-3"}, "video/mp4")
    assert web.ranges  # it was read in parts, and each once
    assert sum(end - start for start, end in web.ranges) == len(data)


def test_the_log_has_the_host_and_the_reason_of_a_refusal(importing: Service, web: WebServer) -> None:
    name, disposition = "/secret-of-the-url", f'attachment; filename="{"secret-of-the-url" * 99}.mp4"'
    web.serve(name, b"no film", headers={"Content-Type": "video/mp4", "Content-Disposition": disposition})
    for path in ("/secret-of-the-url;a/film.mp4", name):
        assert refusal(begin(importing, web.url + path)) == (422, "import_failed")
    causes = [str(line["cause"]) for line in log_lines(importing.log()) if "cause" in line]
    found = [cause.partition(f": 127.0.0.1:{web.port}: ") for cause in causes if str(web.port) in cause]
    assert [(kind, why[:36]) for kind, _, why in found] == [
        ("HostFailedError", "the host has no such file"),
        ("HostFailedError", "the host's name or type of the file "),
    ]
    assert "secret-of-the-url" not in importing.log()


async def test_a_stream_without_length_needs_its_size(importing: Service, web: WebServer) -> None:
    data = sample("jpg")
    web.serve("/photo", data, ranges=False, end="chunks", headers={"Content-Type": "image/jpeg"})
    assert refusal(begin(importing, f"{web.url}/photo")) == (422, "import_failed")
    made = begin(importing, f"{web.url}/photo", size=len(data)).json()
    assert made["filename"] == "photo.jpg"
    assert (await ended(importing, made["upload"]))["completed"]["size"] == len(data)


@pytest.mark.slow
async def test_how_far_it_is_and_that_an_abort_ends_it(importing: Service, web: WebServer) -> None:
    web.serve("/film.mp4", film(20 * MIB))
    web.faults.append(WebFault(stall_after=1000, when=is_part, times=99))
    made = begin(importing, f"{web.url}/film.mp4").json()
    await until(lambda: status(importing, made["upload"])["importing"]["fetched"] > 0)
    progress = status(importing, made["upload"])["importing"]
    assert (progress["state"], progress["size"], progress["stored"]) == ("fetching", 20 * MIB, 0)
    assert importing.call("DELETE", "/v1/media/multipart", params={"upload": made["upload"]}).status_code == 204
    assert status(importing, made["upload"]) == {"status": "gone", "completed": None, "error": None}
    await until(lambda: "aborted" in [line.get("result") for line in log_lines(importing.log())])
    metrics = httpx.get(f"{importing.url}/metrics", trust_env=False).text
    assert 'bigupload_imports_total{result="aborted"} 1.0' in metrics
