"""A FastAPI application that mounts the media service, and makes upload tokens for its users.

`python fastapi_media.py` serves it with the local store, uploads a file as a user's program does, and ends. In a real
application, `session` is what signs users in, and a browser gets the token: the page at /media/ takes one, too.
"""

from __future__ import annotations

import asyncio
import pathlib
import secrets
import tempfile
from typing import Annotated

import fastapi
import httpx
from serving import serving

import bigupload
from bigupload.service import mint_token, set_up
from bigupload.service.asgi import ServiceConfig, create_app
from bigupload.stores import local_store
from bigupload.stores.s3.bucket import S3Bucket

BUCKET = "fastapi-media"
SECRET = secrets.token_urlsafe(32)
"""In a real application, the same in all processes, and from one start to the next."""
SESSIONS = {"session-of-ada": "ada", "session-of-bob": "bob"}


def application(s3: bigupload.S3Options) -> fastapi.FastAPI:
    """Return the application, with the service at /media/."""
    service = create_app(
        ServiceConfig(
            bucket=BUCKET,
            s3=s3,
            authorize=lambda request: None,  # nobody but who has a token
            secrets=(SECRET,),
            log=lambda line: None,  # JSON lines, by default to standard error
        )
    )
    app = fastapi.FastAPI(lifespan=service.lifespan)
    app.mount("/media", service)

    @app.post("/upload-token")
    def upload_token(session: Annotated[str, fastapi.Cookie()] = "") -> dict[str, str]:
        """Let whoever is signed in upload 20 files of at most 50 MB each within an hour."""
        if session not in SESSIONS:
            raise fastapi.HTTPException(401)
        return {"token": mint_token(SECRET, "my-app", user=SESSIONS[session], uploads=20, max_size=50_000_000)}

    return app


async def main() -> None:
    store = await asyncio.to_thread(local_store.start)
    s3 = bigupload.S3Options(
        endpoint_url=store.endpoint_url, region=store.region, access_key=store.access_key, secret_key=store.secret_key
    )
    bucket = S3Bucket(BUCKET, s3)
    await set_up(bucket)  # once: `bigupload bucket setup`
    await bucket.aclose()
    with serving(application(s3)) as url, tempfile.TemporaryDirectory() as folder:
        photo = pathlib.Path(folder, "dot.gif")
        photo.write_bytes(bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b"))
        async with httpx.AsyncClient(trust_env=False, cookies={"session": "session-of-ada"}) as browser:
            token = (await browser.post(f"{url}/upload-token")).json()["token"]
        result = await bigupload.upload(photo, service=f"{url}/media", api_key=token)
        print(f"{result.url.rpartition('/')[0].partition(BUCKET)[2]}: {result.verified}")


if __name__ == "__main__":
    asyncio.run(main())
