"""The media service inside an application of aiohttp: its users upload to /uploads/ with the session that they have.

`python mounted_service.py` runs it against the local store, uploads a picture as a user does, and ends.
"""

from __future__ import annotations

import asyncio
import base64
import secrets

import aiohttp
from aiohttp import web

import bigupload
from bigupload.service import ServiceConfig, create_app, set_up
from bigupload.stores import local_store
from bigupload.stores.s3.bucket import S3Bucket

BUCKET = "mounted-service"
SESSIONS = {"session-of-ada": "ada", "session-of-bob": "bob"}
PICTURE = base64.b64decode("R0lGODlhAQABAIAAAP///wAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")


async def user_of(request: web.Request) -> str | None:
    """Return the owner of the uploads that a request may begin; None if nobody is signed in.

    Such a cookie must be SameSite=Lax or Strict: otherwise pages of other sites could send requests with it.
    """
    return SESSIONS.get(request.cookies.get("session", ""))


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="the application's own page")


def application(s3: bigupload.S3Options) -> web.Application:
    """Return an application with the service at /uploads/."""
    service = create_app(
        ServiceConfig(
            bucket=BUCKET,
            s3=s3,
            authorize=user_of,
            secrets=(secrets.token_urlsafe(32),),  # the same in all replicas, and from one start to the next
            log=lambda line: None,  # JSON lines, by default to standard error
        )
    )
    app = web.Application()
    app.router.add_get("/", hello)
    app.add_subapp("/uploads/", service)
    return app


async def main() -> None:
    store = await asyncio.to_thread(local_store.start)
    s3 = bigupload.S3Options(
        endpoint_url=store.endpoint_url, region=store.region, access_key=store.access_key, secret_key=store.secret_key
    )
    bucket = S3Bucket(BUCKET, s3)
    await set_up(bucket)  # once: `bigupload bucket setup`
    await bucket.aclose()
    runner = web.AppRunner(application(s3))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = runner.addresses[0]
    try:
        async with aiohttp.ClientSession(f"http://{url[0]}:{url[1]}", cookies={"session": "session-of-ada"}) as browser:
            told = {"filename": "dot.gif", "contentType": "image/gif", "size": len(PICTURE)}
            async with browser.post("/uploads/v1/media/presign", json=told) as response:
                presigned = await response.json()
            async with browser.put(presigned["uploadUrl"], data=PICTURE, headers={"Content-Type": "image/gif"}) as sent:
                print(f"{presigned['key'].rpartition('/')[0]}: {sent.status}")
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
