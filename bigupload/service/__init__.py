"""The media service: holds the credentials, so that clients upload with an API key alone.

`create_app(ServiceConfig(...))` makes it as an application of aiohttp, to be run or mounted; `bigupload.service.asgi`
has the same for ASGI. All is imported when it is first used: parts of this package work without the extra `service`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bigupload.service.app import create_app as create_app
    from bigupload.service.hooks import FinishedFile as FinishedFile
    from bigupload.service.hooks import NewUpload as NewUpload
    from bigupload.service.settings import PostsApi as PostsApi
    from bigupload.service.settings import ServiceConfig as ServiceConfig
    from bigupload.service.upload_tokens import mint_token as mint_token

__all__ = ["FinishedFile", "NewUpload", "PostsApi", "ServiceConfig", "create_app", "mint_token"]

_PLACES = {
    "create_app": "app",
    "mint_token": "upload_tokens",
    "ServiceConfig": "settings",
    "PostsApi": "settings",
    "FinishedFile": "hooks",
    "NewUpload": "hooks",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
