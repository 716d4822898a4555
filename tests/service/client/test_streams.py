"""A stream through a media service, which wants to know its size and its first bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import bigupload
from bigupload import errors
from tests.service.client.support import object_sha256, sha256
from tests.tools.service import Service


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 99_999):
        yield data[at : at + 99_999]


async def test_a_stream_of_known_size(service: Service, movie: Path, tmp_path: Path) -> None:
    data = movie.read_bytes()
    result = await bigupload.upload(
        chunks(data), service=service.url, api_key=service.key, name="movie.mp4", expected_size=len(data),
        state_dir=tmp_path,
    )  # fmt: skip
    assert result.size == len(data)
    assert object_sha256(result.url) == sha256(movie)


async def test_the_service_judges_a_streams_first_bytes(service: Service, tmp_path: Path) -> None:
    with pytest.raises(errors.MediaRefused):
        await bigupload.upload(
            chunks(bytes(1000)), service=service.url, api_key=service.key, name="movie.mp4", expected_size=1000,
            state_dir=tmp_path,
        )  # fmt: skip
