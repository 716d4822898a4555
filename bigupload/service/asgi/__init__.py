"""The media service as an ASGI application: for FastAPI, Starlette, Django, or a server like uvicorn by itself.

It is the same application of aiohttp as everywhere: each request goes to it as HTTP/1.1 over a connection in memory, so
that parsing, limits, errors and log are the same, too. It needs asyncio (or uvloop): under trio it can't run.
"""

from __future__ import annotations

from bigupload.service.asgi.application import AsgiService as AsgiService
from bigupload.service.asgi.application import create_app as create_app
from bigupload.service.asgi.application import mount as mount
from bigupload.service.asgi.application import scope_of as scope_of
from bigupload.service.settings import ServiceConfig as ServiceConfig

__all__ = ["AsgiService", "ServiceConfig", "create_app", "mount", "scope_of"]
