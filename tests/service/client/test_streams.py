"""A stream through a media service, which wants to know its size and its first bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import errors
from tests.integration.support import of_function
from tests.service.client.support import object_sha256, sha256
from tests.tools.service import Service
from tests.tools.web_server import web_server


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 99_999):
        yield data[at : at + 99_999]


async def test_a_stream_of_known_size(service: Service, short_movie: Path, tmp_path: Path) -> None:
    data = short_movie.read_bytes()
    result = await bigupload.upload(
        chunks(data),
        service=service.url,
        api_key=service.key,
        name="movie.mp4",
        expected_size=len(data),
        uploader=bigupload.Uploader(state_dir=tmp_path),
    )
    assert (result.size, result.parts) == (len(data), 2)
    assert object_sha256(result.url) == sha256(short_movie)


async def test_the_service_judges_a_streams_first_bytes(service: Service, tmp_path: Path) -> None:
    with pytest.raises(errors.MediaRefused):
        await bigupload.upload(
            chunks(bytes(1000)),
            service=service.url,
            api_key=service.key,
            name="movie.mp4",
            expected_size=1000,
            uploader=bigupload.Uploader(state_dir=tmp_path),
        )


@pytest.mark.slow
@pytest.mark.parametrize("ranges", [True, False])
async def test_a_remote_file(service: Service, movie: Path, tmp_path: Path, ranges: bool) -> None:
    """The service is shown its first bytes, which came with the first response."""
    with web_server() as web:
        web.serve("/movie.mp4", movie.read_bytes(), ranges=ranges)
        to: dict[str, Any] = {"service": service.url, "api_key": service.key, "state_dir": tmp_path}
        result = await bigupload.upload(f"{web.url}/movie.mp4", **of_function(to))
        assert object_sha256(result.url) == sha256(movie)
        web.serve("/other.mp4", bytes(1000), ranges=ranges)
        with pytest.raises(errors.MediaRefused):
            await bigupload.upload(f"{web.url}/other.mp4", **of_function(to))
