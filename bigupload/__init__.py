"""bigupload: the uploader for files that are too big to lose.

>>> import asyncio, bigupload
>>> result = asyncio.run(bigupload.upload("movie.mov", to="s3://my-bucket/movie.mov"))  # doctest: +SKIP
>>> result.verified  # doctest: +SKIP
<Verified.FULL_OBJECT: 'full-object'>

`__all__` is the only public promise. Names are imported where they are first used, so that importing the package
costs nothing: neither botocore nor aiohttp nor awscrt is loaded before an upload needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bigupload.api import Uploader as Uploader
    from bigupload.api import abort as abort
    from bigupload.api import resume as resume
    from bigupload.api import upload as upload
    from bigupload.api import upload_sync as upload_sync
    from bigupload.core.checksums import Algorithm as Algorithm
    from bigupload.core.integrity import PartProof as PartProof
    from bigupload.core.integrity import Verified as Verified
    from bigupload.core.retry_policy import RetryPolicy as RetryPolicy
    from bigupload.engine.upload_run import UploadResult as UploadResult
    from bigupload.errors import BigUploadError as BigUploadError
    from bigupload.options import S3Options as S3Options

__version__ = "0.1.0"

_ERRORS = (
    "AccessDenied", "BigUploadError", "BucketNotFound", "ClockSkewed", "CredentialsError", "LocalStoreError",
    "ManifestCorrupt", "ManifestError", "ManifestLocked", "ManifestMismatch", "ManifestNotFound", "ManifestUnwritable",
    "MediaRefused", "ObjectMismatch", "PartCorrupted", "PartUnproved", "ProofError", "ProofTooWeak", "ServiceError",
    "SourceChanged", "SourceError", "SourceNotFound", "SourceUnreadable", "SourceUnsupported", "StoreError",
    "StoreRefused", "StoreUnavailable", "StoreUnreachable", "TargetExists", "TargetReplaced", "UploadExpired",
    "UploadGone", "UsageError", "WrongRegion",
)  # fmt: skip
_EVENTS = (
    "Completing", "Event", "Hashing", "OutageContinues", "OutageEnded", "OutageStarted", "PartUploaded", "Progress",
    "ReadingBack", "Restarted", "Retrying", "UploadCompleted", "UploadSkipped", "UploadStarted", "Warned",
)  # fmt: skip
_HOMES = {
    **dict.fromkeys(_ERRORS, "errors"),
    **dict.fromkeys(_EVENTS, "events"),
    **dict.fromkeys(("Uploader", "abort", "resume", "upload", "upload_sync"), "api"),
    "Algorithm": "core.checksums",
    "PartProof": "core.integrity",
    "RetryPolicy": "core.retry_policy",
    "S3Options": "options",
    "UploadResult": "engine.upload_run",
    "Verified": "core.integrity",
}

__all__ = [
    *_HOMES,
    "__version__",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
