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

# `__all__` is the only public promise: the names below, and all errors of `errors`. Names are imported where they are
# first used, so that importing the package costs nothing: neither botocore nor aiohttp nor awscrt is loaded before an
# upload needs it. Type checkers and editors read `__init__.pyi`.

from __future__ import annotations

__version__ = "0.1.0"


class _Doc(str):
    """The docstring without the line for pytest, which pytest finds in it all the same."""

    __slots__ = ()

    def __contains__(self, text: str) -> bool:  # type: ignore[override]  # str's takes any object by position
        return text == "PYTEST_DONT_REWRITE" or super().__contains__(text)


if __doc__:  # not with -OO
    __doc__ = _Doc(__doc__.partition("\nPYTEST")[0])

_HOMES = {
    "events": "Completing Event Hashing JobProgress OutageContinues OutageEnded OutageStarted PartUploaded Progress "
    "ReadingBack Restarted Retrying UploadCompleted UploadIdentity UploadSkipped UploadStarted UploadStopped Warned",
    "options": "Credentials S3Options",
    "progress": "rich_progress tqdm_progress",
    "core.checksums": "Algorithm",
    "core.integrity": "PartProof Verified",
    "core.retry_policy": "RetryPolicy",
    "units": "RateSchedule",
    "engine.upload_run": "Share UploadResult",
    "api.functions": "abort abort_orphans adopt list_uploads open_writer read_back resume share start sync upload "
    "upload_many upload_sync verify verify_many watch",
    "api.calls": "UploadHandle",
    "api.writer": "AsyncUploadWriter",
    "api.blocking_writer": "TextUploadWriter UploadWriter",
    "api.uploader": "Uploader",
    "batch.job": "UploadFailed",
    "batch.tree": "FileEntry Omitted Selection",
    "api.many_items": "select_files",
    "api.steps.digest": "Digest",
    "api.steps.link": "Link",
    "api.steps.receipt": "Receipt",
    "api.steps.delete_source": "DeleteSource",
    "api.types": "Row SyncResult SyncStep VerificationFailed",
    "verification.orphans": "Orphan OrphanReport",
    "api.arguments": "AbortOptions AdoptOptions OrphanOptions ReadBackOptions ResumeOptions ShareOptions SyncOptions "
    "UploadManyOptions UploadOptions UploaderOptions VerifyOptions WatchOptions WriterOptions",
    "manifests.listing": "KnownUpload",
    "verification.by_checksum": "Verification",
    "verification.by_download": "ReadBack",
}
"""The public names of each module. All classes of `errors` are public, too."""
_NAMES = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name == "__all__":
        globals()[name] = sorted([*_NAMES, *_errors(), "__version__"])
    elif name in _NAMES:
        import importlib

        globals()[name] = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
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
