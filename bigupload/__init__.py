"""bigupload: the uploader for files that are too big to lose.

>>> import asyncio, bigupload
>>> result = asyncio.run(bigupload.upload("movie.mov", to="s3://my-bucket/movie.mov"))  # doctest: +SKIP
>>> result.verified  # doctest: +SKIP
<Verified.FULL_OBJECT: 'full-object'>

See docs/library.md.

PYTEST_DONT_REWRITE
"""

# The docstring's last line is for pytest, and help(bigupload) does not show it. The pytest plugin has pytest rewrite
# the asserts of this package, and without the line pytest warns of a program that imports bigupload and then runs
# pytest, or fails by `-W error`.

# `__all__` is the only public promise. Names are imported where they are first used, so that importing the package
# costs nothing: neither botocore nor aiohttp nor awscrt is loaded before an upload needs it. Type checkers and editors
# read `__init__.pyi`.

from __future__ import annotations

from bigupload.version import __version__ as __version__


class _Doc(str):
    """The docstring without the line for pytest, which pytest finds in it all the same."""

    __slots__ = ()

    def __contains__(self, text: str) -> bool:  # type: ignore[override]  # str's takes any object by position
        return text == "PYTEST_DONT_REWRITE" or super().__contains__(text)


if __doc__:  # not with -OO
    __doc__ = _Doc(__doc__.partition("\nPYTEST")[0])

__all__ = [
    "AbortOptions",
    "AccessDenied",
    "AdoptOptions",
    "Algorithm",
    "AsyncTextUploadWriter",
    "AsyncUploadWriter",
    "BigUploadError",
    "BucketNotFound",
    "ClockSkewed",
    "ClusterError",
    "ClusterUnreachable",
    "Completing",
    "Credentials",
    "CredentialsError",
    "DirectoryGone",
    "EndpointRedirects",
    "Event",
    "FileEntry",
    "FileNotShared",
    "Hashing",
    "JobDone",
    "JobProgress",
    "KnownUpload",
    "LocalStoreError",
    "ManifestCorrupt",
    "ManifestError",
    "ManifestLocked",
    "ManifestMismatch",
    "ManifestNotFound",
    "ManifestUnwritable",
    "MediaRefused",
    "ObjectMismatch",
    "ObjectNotFound",
    "ObjectNotShown",
    "Omitted",
    "Orphan",
    "OrphanOptions",
    "OrphanReport",
    "OutOfThreads",
    "OutageContinues",
    "OutageEnded",
    "OutageStarted",
    "OutputUnwritable",
    "PartCorrupted",
    "PartProof",
    "PartUnproved",
    "PartUploaded",
    "Progress",
    "ProofError",
    "ProofTooWeak",
    "RateSchedule",
    "ReadBack",
    "ReadBackOptions",
    "ReadingBack",
    "Restarted",
    "ResumeOptions",
    "RetryPolicy",
    "Retrying",
    "S3Options",
    "Selection",
    "ServiceError",
    "Share",
    "ShareOptions",
    "SourceChanged",
    "SourceError",
    "SourceNotDeleted",
    "SourceNotFound",
    "SourceUnreachable",
    "SourceUnreadable",
    "SourceUnsupported",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "StoreUnreachable",
    "StreamInterrupted",
    "SyncOptions",
    "SyncResult",
    "SyncStep",
    "TargetExists",
    "TargetReplaced",
    "TextUploadWriter",
    "UploadCancelled",
    "UploadCompleted",
    "UploadExpired",
    "UploadFailed",
    "UploadGone",
    "UploadHandle",
    "UploadIdentity",
    "UploadManyOptions",
    "UploadOptions",
    "UploadResult",
    "UploadSkipped",
    "UploadStarted",
    "UploadStopped",
    "UploadWriter",
    "Uploader",
    "UploaderOptions",
    "UsageError",
    "Verification",
    "VerificationFailed",
    "Verified",
    "VerifyOptions",
    "Warned",
    "WatchOptions",
    "WriterOptions",
    "WrongRegion",
    "__version__",
    "abort",
    "abort_orphans",
    "adopt",
    "list_uploads",
    "open_writer",
    "read_back",
    "resume",
    "rich_progress",
    "select_files",
    "share",
    "start",
    "sync",
    "tqdm_progress",
    "upload",
    "upload_many",
    "upload_sync",
    "verify",
    "verify_many",
    "watch",
]

_HOMES = (
    "errors",
    "events",
    "options",
    "progress",
    "core.checksums",
    "core.integrity",
    "core.retry_policy",
    "units",
    "engine.upload_run",
    "api.functions",
    "api.handle",
    "api.writer",
    "api.blocking_writer",
    "api.uploader",
    "batch.job",
    "batch.tree",
    "batch.selecting",
    "api.many_items",
    "api.sync_types",
    "api.verify_many",
    "api.arguments",
    "manifests.listing",
    "verification.by_checksum",
    "verification.by_download",
    "verification.orphans",
)
"""The modules that have the names; the first one that has a name counts. Those that load little come first."""


def __getattr__(name: str) -> object:
    if name in __all__:
        import importlib

        for home in _HOMES:
            module = importlib.import_module(f"{__name__}.{home}")
            if hasattr(module, name):
                globals()[name] = getattr(module, name)
                return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
