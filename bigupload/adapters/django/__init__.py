"""For Django: a storage whose files are proved, and a form field whose files go from the browser to the store.

`S3Storage` takes the place of the one of django-storages in `STORAGES`; `UploadField` is a field of a form, whose files
are sent to a media service. Each is imported when it is first used: the field needs no django-storages.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bigupload.adapters.django.forms import MediaService as MediaService
    from bigupload.adapters.django.forms import UploadedKey as UploadedKey
    from bigupload.adapters.django.forms import UploadField as UploadField
    from bigupload.adapters.django.forms import UploadInput as UploadInput
    from bigupload.adapters.django.storage import S3ManifestStaticStorage as S3ManifestStaticStorage
    from bigupload.adapters.django.storage import S3StaticStorage as S3StaticStorage
    from bigupload.adapters.django.storage import S3Storage as S3Storage

__all__ = [
    "MediaService",
    "S3ManifestStaticStorage",
    "S3StaticStorage",
    "S3Storage",
    "UploadField",
    "UploadInput",
    "UploadedKey",
]

_MODULES = {
    "MediaService": "forms",
    "S3ManifestStaticStorage": "storage",
    "S3StaticStorage": "storage",
    "S3Storage": "storage",
    "UploadField": "forms",
    "UploadInput": "forms",
    "UploadedKey": "forms",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as e:
        from bigupload.units import install_command

        missing = {"django": "Django", "storages": "django-storages"}.get((e.name or "").partition(".")[0])
        if missing is None:
            raise
        raise ModuleNotFoundError(f"{missing} is not installed: {install_command('django')}", name=e.name) from None
