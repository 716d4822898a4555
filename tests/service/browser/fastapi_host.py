"""A small FastAPI application that mounts the service, makes upload tokens for another site, and takes a webhook.

`python -m tests.service.browser.fastapi_host SETTINGS` prints its port.
"""

import asyncio
import json
import secrets
import sys
from typing import Any

import fastapi
from standardwebhooks import Webhook

from bigupload import S3Options
from bigupload.service import mint_token
from bigupload.service.asgi import ServiceConfig, create_app
from bigupload.service.webhooks.hooks import new_secret
from tests.tools.uvicorn_host import listen, serve

SECRET, HOOK_SECRET = secrets.token_urlsafe(32), new_secret()


def application(url: str, settings: dict[str, Any]) -> fastapi.FastAPI:
    service = create_app(
        ServiceConfig(
            bucket=settings["bucket"],
            s3=S3Options(**settings["s3"]),
            signing_endpoint=settings["signing_endpoint"],
            authorize=lambda _: None,
            secrets=(SECRET,),
            cors_origins=(settings["site"],),
            webhook_urls=(f"{url}/completed",),
            webhook_secrets=(HOOK_SECRET,),
        )
    )
    app = fastapi.FastAPI(lifespan=service.lifespan)
    app.mount("/media", service)
    told: list[tuple[str, Any]] = []

    @app.post("/upload-token")
    def upload_token(response: fastapi.Response) -> str:
        response.headers["Access-Control-Allow-Origin"] = settings["site"]
        return mint_token(SECRET, "ada", max_size=400_000_000, content_types=["video/mp4"], uploads=1)

    @app.post("/completed")
    async def completed(request: fastapi.Request) -> None:
        """By the reference implementation of Standard Webhooks, which raises for a wrong signature."""
        event = Webhook(HOOK_SECRET).verify(await request.body(), dict(request.headers))
        told.append((request.headers["webhook-id"], event))

    @app.get("/told")
    def what_was_told() -> list[tuple[str, Any]]:
        return told

    return app


async def main(settings: dict[str, Any]) -> None:
    listener = listen()
    await serve(application(f"http://127.0.0.1:{listener.getsockname()[1]}", settings), listener)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
