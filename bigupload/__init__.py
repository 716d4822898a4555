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

# `__all__` is the only public promise: `_NAMES`, and all errors of `errors`. Names are imported where they are first
# used, so that importing the package costs nothing: neither botocore nor aiohttp nor awscrt is loaded before an upload
# needs it. Type checkers and editors read `__init__.pyi`.

from __future__ import annotations

from bigupload.version import __version__ as __version__


class _Doc(str):
    """The docstring without the line for pytest, which pytest finds in it all the same."""

    __slots__ = ()

    def __contains__(self, text: str) -> bool:  # type: ignore[override]  # str's takes any object by position
        return text == "PYTEST_DONT_REWRITE" or super().__contains__(text)


if __doc__:  # not with -OO
    __doc__ = _Doc(__doc__.partition("\nPYTEST")[0])

_NAMES = (
    "AbortOptions",
    "AdoptOptions",
    "Algorithm",
    "AsyncUploadWriter",
    "Completing",
    "Credentials",
    "DeleteSource",
    "Digest",
    "Event",
    "FileEntry",
    "Hashing",
    "JobProgress",
    "KnownUpload",
    "Link",
    "Omitted",
    "Orphan",
    "OrphanOptions",
    "OrphanReport",
    "OutageContinues",
    "OutageEnded",
    "OutageStarted",
    "PartProof",
    "PartUploaded",
    "Progress",
    "RateSchedule",
    "ReadBack",
    "ReadBackOptions",
    "ReadingBack",
    "Receipt",
    "Restarted",
    "ResumeOptions",
    "RetryPolicy",
    "Row",
    "Retrying",
    "S3Options",
    "Selection",
    "Share",
    "ShareOptions",
    "SyncOptions",
    "SyncResult",
    "SyncStep",
    "TextUploadWriter",
    "UploadCompleted",
    "UploadFailed",
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
    "Verification",
    "VerificationFailed",
    "Verified",
    "VerifyOptions",
    "Warned",
    "WatchOptions",
    "WriterOptions",
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
)

_HOMES = (
    "events",
    "options",
    "progress",
    "core.checksums",
    "core.integrity",
    "core.retry_policy",
    "units",
    "engine.upload_run",
    "api.functions",
    "api.calls",
    "api.writer",
    "api.blocking_writer",
    "api.uploader",
    "batch.job",
    "batch.tree",
    "api.many_items",
    "api.steps.digest",
    "api.steps.link",
    "api.steps.receipt",
    "api.steps.delete_source",
    "api.types",
    "verification.orphans",
    "api.arguments",
    "manifests.listing",
    "verification.by_checksum",
    "verification.by_download",
)
"""The modules that have the names; the first one that has a name counts. Those that load little come first, but
`api.arguments` has another thing by the name of `Orphan`."""


def __getattr__(name: str) -> object:
    if name == "__all__":
        globals()[name] = sorted([*_NAMES, *_errors()])
    elif name in _NAMES:
        import importlib

        modules = (importlib.import_module(f"{__name__}.{home}") for home in _HOMES)
        globals()[name] = next(getattr(module, name) for module in modules if hasattr(module, name))
    elif name in _errors():
        globals()[name] = _errors()[name]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals()[name]


def _errors() -> dict[str, type[Exception]]:
    from bigupload.errors import classes

    return classes()


def __dir__() -> list[str]:
    return list(__getattr__("__all__"))
