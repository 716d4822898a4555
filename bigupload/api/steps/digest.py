"""`Digest`: digests of the whole file, which other tools compare, beside the store's own checksum."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, Literal

from bigupload import errors
from bigupload.api.steps import OurStep, Row, StepCall, Work
from bigupload.api.types import UploadSource
from bigupload.sources.opening import is_path

_ALGORITHMS = ("sha256", "xxh128")


class Digest(OurStep):
    """A step that computes digests of each file: `UploadResult.sha256`, `UploadResult.xxh128`.

    If the store has a checksum of the whole object, they come from the read that hashes the parts. Otherwise the file
    is read once more. A file that is no longer what was uploaded fails by SourceChanged.
    """

    is_repeatable = True

    def __init__(self, *algorithms: Literal["sha256", "xxh128"]) -> None:
        """Name the digests.

        Args:
            algorithms: "sha256", or "xxh128", which ASC MHL has, and which needs bigupload[mhl].

        Raises:
            UsageError: There is no such algorithm, or the package for XXH128 is missing.
        """
        for name in algorithms or ("",):
            if name not in _ALGORITHMS:
                raise errors.UsageError(f"Digest takes 'sha256' and 'xxh128', and not {name!r}")
        self.algorithms = algorithms

    def check(self, options: Mapping[str, Any]) -> None:
        """Raise UsageError where no object is proved to be the file."""
        if options.get("size_only"):
            raise errors.UsageError(
                f"`Digest({self.algorithms[0]!r})` is of an object that is proved to be the file, and `size_only` "
                "proves nothing: leave one of them out"
            )

    def check_source(self, source: UploadSource) -> None:
        """Raise UsageError for a source that can't be read once more, or if the package for XXH128 is missing."""
        if not is_path(source):
            raise errors.UsageError(f"`Digest({self.algorithms[0]!r})` is for files: leave it out")
        if "xxh128" in self.algorithms:
            from bigupload.verification.media_hash_lists import XXH128, new_hasher_of

            new_hasher_of(XXH128)

    @contextlib.asynccontextmanager
    async def opened(self, call: StepCall) -> AsyncIterator[Work]:
        """Nothing has to be opened."""
        yield partial(self._work, call)

    async def _work(self, call: StepCall, row: Row) -> Row:
        result = row.proved
        if all(getattr(result, name) is not None for name in self.algorithms):
            return row
        if result.skipped and call.function == "watch":  # it was hashed when it was sent
            return row
        from bigupload.verification.file_digests import with_digests

        wanted = dict.fromkeys(self.algorithms, True)
        try:
            return dataclasses.replace(
                row, result=await with_digests(result, call.resources.reading, row.fingerprint, whole=None, **wanted)
            )
        except errors.BigUploadError as e:
            return dataclasses.replace(row, error=e)
