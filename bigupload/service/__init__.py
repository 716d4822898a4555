"""The media service: holds the credentials, so that clients upload with an API key alone.

`create_app(ServiceConfig(...))` makes it as an application of aiohttp, to be run or mounted; `bigupload.service.asgi`
has the same for ASGI. All is imported when it is first used: parts of this package work without the extra `service`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bigupload.service.access.upload_tokens import mint_token as mint_token
    from bigupload.service.http.app import create_app as create_app
    from bigupload.service.http.opening import ServiceConfig as ServiceConfig
    from bigupload.service.uploads.bucket_rules import set_up as set_up
    from bigupload.service.uploads.posts import PostsApi as PostsApi
    from bigupload.service.webhooks.hooks import FinishedFile as FinishedFile
    from bigupload.service.webhooks.hooks import NewUpload as NewUpload

__all__ = ["FinishedFile", "NewUpload", "PostsApi", "ServiceConfig", "create_app", "mint_token", "set_up"]

_PLACES = {
    "create_app": "http.app",
    "mint_token": "access.upload_tokens",
    "set_up": "uploads.bucket_rules",
    "ServiceConfig": "http.opening",
    "PostsApi": "uploads.posts",
    "FinishedFile": "webhooks.hooks",
    "NewUpload": "webhooks.hooks",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
