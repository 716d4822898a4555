"""A FastAPI application that uploads a request's body while it arrives: none of it touches the application's disk.

`python streamed_request.py [MEGABYTES]` serves it, sends it a body of that size, disconnects in the middle of another
one, and sends that again. It prints the memory that this took, client included.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator

import fastapi
import httpx
from serving import serving

import bigupload

BLOCK = bytes(range(256)) * 4096
"""1 MiB."""
BODY = 48
"""Blocks of the body whose client disconnects after two thirds."""


@contextlib.asynccontextmanager
async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
    async with bigupload.Uploader() as app.state.uploader:
        yield


app = fastapi.FastAPI(lifespan=lifespan)


@app.put("/{name}")
async def put(name: str, request: fastapi.Request) -> dict[str, str | int]:
    """Upload the body as it comes. The same body under the same name again resumes what was interrupted."""
    uploader: bigupload.Uploader = app.state.uploader
    length = request.headers.get("content-length")
    try:
        result = await uploader.upload(
            request.stream(),
            to=f"s3://bigupload/{name}",
            s3=bigupload.S3Options(local=True),
            part_size="5MiB",
            expected_size=None if length is None else int(length),
        )
    except bigupload.SourceUnreadable as e:  # the client has gone: nobody reads this response
        raise fastapi.HTTPException(400, str(e)) from e
    except bigupload.ManifestLocked as e:  # the call whose client has gone still uploads the parts that had come
        raise fastapi.HTTPException(409, "this name is being uploaded: try again in a moment") from e
    return {"url": result.url, "verified": result.verified, "resumed": result.resumed_parts, "parts": result.parts}


async def blocks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield BLOCK


async def measure(url: str, size: int) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False) as client:
        began = time.perf_counter()
        answer = (await client.put("/streamed.bin", content=blocks(size))).json()
        seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(f"{size} MiB in {seconds:.1f} s: {answer['verified']}, {peak / 1e6:.0f} MB resident at most")
        await asyncio.to_thread(disconnect, url)
        (left,) = await unfinished()
        print(
            f"a client that disconnected: {left.status}, {left.parts_uploaded} of {left.parts} parts are in the store"
        )
        while (response := await client.put("/broken.bin", content=BLOCK * BODY)).status_code == 409:
            await asyncio.sleep(0.1)
        answer = response.json()
        print(f"the same body again: {answer['verified']}, {answer['resumed']} of {answer['parts']} parts were there")


def disconnect(url: str) -> None:
    """Send two thirds of a body, and close the connection."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"PUT /broken.bin HTTP/1.1\r\nHost: {host}\r\nContent-Length: {BODY * len(BLOCK)}\r\n\r\n"
        connection.sendall(head.encode())
        for _ in range(BODY * 2 // 3):
            connection.sendall(BLOCK)


async def unfinished() -> list[bigupload.KnownUpload]:
    """The uploads that can be resumed, once the application has noticed that the client is gone."""
    while True:
        uploads = await bigupload.list_uploads()
        found = [upload for upload in uploads if upload.resumable and str(upload.target).endswith("/broken.bin")]
        if found and found[0].parts_uploaded >= BODY // 2 // 5:  # those that had come are still uploaded
            return found
        await asyncio.sleep(0.1)


def main() -> None:
    with serving(app) as url:
        asyncio.run(measure(url, int(sys.argv[1]) if len(sys.argv) > 1 else 200))


if __name__ == "__main__":
    main()
