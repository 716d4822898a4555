"""Applications that mount the service, each in the way of its framework: `python hosts.py KIND SETTINGS` serves one.

Its users sign in at /login?user=ada, and the service knows them by the framework's own sessions.
"""

import asyncio
import json
import sys
from typing import Any

from bigupload.options import S3Options
from bigupload.service import PostsApi
from bigupload.service.asgi import AsgiService, ServiceConfig, create_app, mount, scope_of
from bigupload.service.call import WebCall
from tests.tools.uvicorn_host import listen, serve

PREFIXES = {"fastapi": "/a/media", "starlette": "/media", "django": "/media", "alone": ""}
SECRET = "0123456789abcdef" * 2


def user_of_session(request: WebCall) -> str | None:
    return scope_of(request)["session"].get("user")


def user_of_header(request: WebCall) -> str | None:
    return request.headers.get("X-User")


def user_of_django(request: WebCall) -> str | None:
    from django.contrib.sessions.backends.signed_cookies import SessionStore

    return SessionStore(session_key=request.cookies.get("sessionid")).get("user")


AUTHORIZE = {
    "fastapi": user_of_session,
    "starlette": user_of_session,
    "django": user_of_django,
    "alone": user_of_header,
}


def fastapi_host(service: AsgiService) -> Any:
    """With start-up and shutdown by the application's lifespan."""
    import fastapi
    from starlette.middleware.sessions import SessionMiddleware

    app = fastapi.FastAPI(lifespan=service.lifespan)
    app.add_middleware(SessionMiddleware, secret_key=SECRET)

    @app.get("/login")
    def login(request: fastapi.Request, user: str) -> str:
        request.session["user"] = user
        return "hello"

    app.mount("/a/media", service)
    return app


def starlette_host(service: AsgiService) -> Any:
    """Without: the service starts at the first request."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.sessions import SessionMiddleware
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    async def login(request: Request) -> PlainTextResponse:
        request.session["user"] = request.query_params["user"]
        return PlainTextResponse("hello")

    sessions = Middleware(SessionMiddleware, secret_key=SECRET)
    return Starlette(routes=[Route("/login", login), Mount("/media", app=service)], middleware=[sessions])


def django_host(service: AsgiService) -> Any:
    """Beside Django's own ASGI handler, which knows no lifespan and mounts nothing."""
    import django.conf
    import django.http
    import django.urls
    from django.core.asgi import get_asgi_application

    def login(request: django.http.HttpRequest) -> django.http.HttpResponse:
        request.session["user"] = request.GET["user"]
        return django.http.HttpResponse("hello")

    django.conf.settings.configure(
        SECRET_KEY=SECRET,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=(django.urls.path("login", login),),
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    )
    return mount(get_asgi_application(), service, at="/media")


def alone(service: AsgiService) -> Any:
    return service


HOSTS = {"fastapi": fastapi_host, "starlette": starlette_host, "django": django_host, "alone": alone}


async def main(kind: str, settings: dict[str, Any]) -> None:
    posts = PostsApi(url=settings["posts"]) if settings.get("posts") else None
    config = ServiceConfig(
        bucket=settings["bucket"], s3=S3Options(**settings["s3"]), authorize=AUTHORIZE[kind], secrets=(SECRET,),
        posts_api=posts, allow_private_media_hosts=True,
    )  # fmt: skip
    await serve(HOSTS[kind](create_app(config)), listen())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
