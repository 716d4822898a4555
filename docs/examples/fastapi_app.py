"""A FastAPI application that uploads what it receives, from `async def` and from `def` endpoints.

Run it by `uvicorn fastapi_app:app` in this directory, and send it a file by
`curl --upload-file movie.mov http://127.0.0.1:8000/async/movie.mov`. `fastapi_load.py` measures it.

One `Uploader` lives as long as the application, so that all requests share its connections and its limits.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

import anyio.from_thread
import fastapi
import fastapi.responses

import bigupload


@contextlib.asynccontextmanager
async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
    async with bigupload.Uploader() as app.state.uploader:
        yield


app = fastapi.FastAPI(lifespan=lifespan)
app.state.s3 = bigupload.S3Options(local=True)


@app.put("/async/{name}")
async def put_async(name: str, request: fastapi.Request) -> str:
    """Upload the request's body while it arrives. If the client leaves before its end, no object is made."""
    return await upload(request.stream(), name)


@app.put("/sync/{name}")
def put_sync(name: str, body: Annotated[bytes, fastapi.Body(media_type="application/octet-stream")]) -> str:
    """Upload the request's body, from one of the 40 threads in which FastAPI runs `def` endpoints."""
    return anyio.from_thread.run(upload, body, name)


@app.exception_handler(bigupload.BigUploadError)
async def report(request: fastapi.Request, error: bigupload.BigUploadError) -> fastapi.responses.JSONResponse:
    """Report why the upload failed, and whether the same request may succeed later."""
    return fastapi.responses.JSONResponse({"detail": str(error)}, status_code=503 if error.resumable else 502)


@app.get("/own")
def own() -> str:
    """Answer at once, also from one of those threads."""
    return "here"


async def upload(source: bytes | AsyncIterator[bytes], name: str) -> str:
    uploader: bigupload.Uploader = app.state.uploader
    result = await uploader.upload(source, to=f"s3://bigupload/{name}", s3=app.state.s3)
    return result.url
