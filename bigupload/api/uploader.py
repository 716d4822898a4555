"""`Uploader`: many uploads that share a connection pool and a concurrency budget.

An upload may be cancelled at any time: its manifest stays resumable, and a call that is in a thread of botocore is
awaited.
"""

from __future__ import annotations

from typing import Any, Unpack

from bigupload import errors
from bigupload.api import arguments, operations
from bigupload.api.arguments import (
    AbortOptions,
    AdoptOptions,
    OrphanOptions,
    ReadBackOptions,
    ResumeOptions,
    StrPath,
    UploaderOptions,
    UploadOptions,
    UploadSource,
    VerifyOptions,
)
from bigupload.api.event_log import log_failure
from bigupload.api.resources import UploaderResources
from bigupload.api.sources import shown
from bigupload.core.integrity import Verified
from bigupload.engine.upload_run import UploadResult
from bigupload.manifests.listing import KnownUpload
from bigupload.verification.by_checksum import Verification, verify
from bigupload.verification.by_download import ReadBack, read_back
from bigupload.verification.orphans import OrphanReport


class Uploader:
    """Uploads that share a connection pool, a concurrency budget and a rate limit. An async context manager.

    ::

        async with Uploader(limit_rate="20MB/s") as uploader:
            result = await uploader.upload("movie.mov", to="s3://bucket/raw/")

    All methods may run concurrently in one event loop. After the context has ended, they raise UsageError.
    """

    def __init__(self, **options: Unpack[UploaderOptions]) -> None:
        """Check the options; nothing is connected yet.

        Args:
            **options: See `UploaderOptions`.

        Raises:
            UsageError: A value is out of range, or the kernel does not offer the congestion control.
        """
        arguments.check_names("Uploader", options, UploaderOptions)
        self._resources = UploaderResources(options)
        self._closed = False

    async def __aenter__(self) -> Uploader:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closed = True
        await self._resources.aclose()

    async def upload(self, source: UploadSource, **options: Unpack[UploadOptions]) -> UploadResult:
        """Upload a source, or resume its upload where it stopped, until the object is proved to be the source.

        Args:
            source: A path; bytes; or a binary file object that can seek, of which the rest from its position on is
                uploaded. It is not closed, and must not be used meanwhile.
            **options: See `UploadOptions`. One target is needed: `to`, `service`, or `s3=S3Options(local=True)`.

        Returns:
            Where the object is and how it was proved.

        Raises:
            UsageError: The options contradict one another.
            BigUploadError: The upload failed; `error.manifest` is what `resume` takes, if it can be resumed.
        """
        self._check("upload", options, UploadOptions)
        arguments.check_target(options.get("to"), options.get("service"), options.get("s3"))
        settings = arguments.upload_settings(
            checksum=options.get("checksum", "auto"),
            part_size=options.get("part_size"),
            require_proof=options.get("require_proof", Verified.SIZE),
            verify_source=options.get("verify_source", False),
        )
        if options.get("skip_existing", False) and options.get("service") is not None:
            raise errors.UsageError("a media service makes a new object for each upload: there is none to skip for")
        await self._resources.state.clean()
        subject = f"{shown(source, options)} → {options.get('to') or options.get('service') or 'the local store'}"
        with log_failure(subject):
            return await operations.upload(self._resources, source, settings, options)

    async def resume(self, manifest: StrPath, **options: Unpack[ResumeOptions]) -> UploadResult:
        """Resume the upload that a manifest describes. If it is complete, return its result again.

        Args:
            manifest: The manifest's path; or its id, or the beginning of its id, as `list_uploads` shows it.
            **options: See `ResumeOptions`. The store is the manifest's.

        Raises:
            ManifestNotFound: There is no such manifest.
            UsageError: This user did not begin the manifest on this machine, and `trust` is not set. A manifest says
                which file is sent where with whose credentials.
            BigUploadError: The upload failed; `error.manifest` is what `resume` takes, if it can be resumed.
        """
        self._check("resume", options, ResumeOptions)
        settings = arguments.upload_settings(
            require_proof=options.get("require_proof", Verified.SIZE),
            verify_source=options.get("verify_source", False),
        )
        with log_failure(str(manifest)):
            return await operations.resume(self._resources, manifest, settings, options)

    async def adopt(self, to: str, *, source: StrPath, **options: Unpack[AdoptOptions]) -> UploadResult:
        """Take over an open upload that no manifest here describes, by what ListParts and the file say.

        A part is kept only if the file, hashed again, has the same bytes. Nothing is adopted unasked, because another
        program may still be uploading.

        Args:
            to: "s3://BUCKET/KEY" of the open upload.
            source: The file.
            **options: See `AdoptOptions`.

        Raises:
            UploadGone: No upload to this key is open.
            UsageError: Several are open, and `upload_id` does not say which one.
            ManifestMismatch: A manifest here describes the upload: resume that.
        """
        self._check("adopt", options, AdoptOptions)
        settings = arguments.upload_settings(
            require_proof=options.get("require_proof", Verified.SIZE),
            verify_source=options.get("verify_source", False),
        )
        with log_failure(f"{source} → {to}"):
            return await operations.adopt(
                self._resources, to, arguments.checked_path(source, "source"), settings, options
            )

    async def abort(self, manifest: StrPath, **options: Unpack[AbortOptions]) -> None:
        """Abort an upload: delete its parts from the store, and record that in its manifest.

        Args:
            manifest: The manifest's path; or its id, or the beginning of its id, as `list_uploads` shows it.
            **options: See `AbortOptions`. The store is the manifest's.

        Raises:
            ManifestNotFound: There is no such manifest.
            UsageError: The upload is complete, even if no record says so yet. Or this user did not begin the manifest
                on this machine, and `trust` is not set.
            StoreError: The store refused, or can't be reached.
        """
        self._check("abort", options, AbortOptions)
        with log_failure(str(manifest)):
            await operations.abort(self._resources, manifest, options)

    async def verify(self, path: StrPath, url: str, **options: Unpack[VerifyOptions]) -> Verification:
        """Prove that an object is a file, by the checksums that the store holds, whichever program uploaded it.

        Args:
            path: The file.
            url: "s3://BUCKET/KEY" of the object.
            **options: See `VerifyOptions`.

        Returns:
            How it was proved. If the store holds no usable checksum, `verified` is only `size`.

        Raises:
            ObjectNotFound: There is no object. It is a subclass of ObjectMismatch.
            ObjectMismatch: The object is not the file.
            ProofTooWeak: It is proved by less than `require_proof`.
        """
        self._check("verify", options, VerifyOptions)
        return await verify(
            arguments.checked_path(path, "path"),
            url,
            s3=options.get("s3"),
            part_size=arguments.checked_part_size(options.get("part_size")),
            require_proof=arguments.checked_proof(options.get("require_proof", Verified.SIZE)),
            retry=self._resources.retry,
        )

    async def read_back(self, path: StrPath, url: str, **options: Unpack[ReadBackOptions]) -> ReadBack:
        """Download an object and compare every byte with a file. A second call resumes where the first stopped.

        Args:
            path: The file.
            url: "s3://BUCKET/KEY" of the object.
            **options: See `ReadBackOptions`.

        Raises:
            ObjectNotFound: There is no object. It is a subclass of ObjectMismatch.
            ObjectMismatch: The object is not the file.
            TargetReplaced: Another object took its place meanwhile.
        """
        self._check("read_back", options, ReadBackOptions)
        file, on_event = arguments.checked_path(path, "path"), options.get("on_event")
        return await read_back(file, url, s3=options.get("s3"), retry=self._resources.retry, on_event=on_event)

    async def list_uploads(self) -> list[KnownUpload]:
        """Return the uploads whose manifests are in the state directory, the least recently changed first.

        Raises:
            ManifestError: The directory can't be listed.
        """
        return await self._resources.state.list_uploads()

    async def abort_orphans(self, url: str, **options: Unpack[OrphanOptions]) -> OrphanReport:
        """Abort open multipart uploads that no manifest here owns and of which no part arrived for a while.

        Manifests of other machines and users can't be seen: `older_than` is what protects their uploads.

        Args:
            url: "s3://BUCKET/PREFIX"; the prefix may be empty.
            **options: See `OrphanOptions`.

        Raises:
            ManifestError: A manifest can't be read. It may own any upload, so that nothing was aborted.
            StoreError: The store refused to list, or can't be reached.
        """
        self._check("abort_orphans", options, OrphanOptions)
        return await operations.abort_orphans(self._resources, url, options)

    def _check(self, function: str, options: Any, declared: type) -> None:
        """Raises TypeError for names that a method does not take, and UsageError after the context has ended."""
        arguments.check_names(function, options, declared)
        if self._closed:
            raise errors.UsageError("this Uploader was closed: create another one")
