"""One call of `verify_many`: each object against its file, several at a time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from bigupload import errors
from bigupload.api import operations
from bigupload.api.arguments import VerifyOptions
from bigupload.api.calls import OpenCall
from bigupload.api.many_items import ManyItem, items_of, prefix_of
from bigupload.api.resources import UploaderResources
from bigupload.api.types import ManySource, VerificationFailed
from bigupload.batch.job import Job, befalls_all, results_while
from bigupload.sources.opening import is_path

if TYPE_CHECKING:
    from bigupload.verification.by_checksum import Verification

_AT_ONCE = 16
"""Objects. Of each, the store is asked once or twice, and its file is hashed in threads."""


Verdict: TypeAlias = "Verification | VerificationFailed"


class VerifyMany:
    """One call."""

    def __init__(self, resources: UploaderResources, call: OpenCall, url: str, options: VerifyOptions) -> None:
        """Connect to nothing yet.

        Raises:
            UsageError: The URL names one object, and not what keys begin with.
        """
        self._call = call
        self._prefix = prefix_of(url)
        self._verify = operations.verifier(resources, options)

    async def verdicts(
        self, sources: Iterable[ManySource] | AsyncIterable[ManySource]
    ) -> AsyncGenerator[Verdict, None]:
        """Verify, and yield what is found of each object.

        Raises:
            BigUploadError: What ends the whole.
        """
        job: Job[ManyItem, Verdict] = Job(items_of(sources), self._one, at_once=lambda: _AT_ONCE)
        async with contextlib.aclosing(results_while(job, self._call.run(job.run))) as verdicts:
            async for verdict in verdicts:
                yield verdict

    async def _one(self, item: ManyItem) -> Verdict:
        url = f"{self._prefix}{item.key}"
        try:
            item.check()
            if not is_path(item.source):
                raise errors.UsageError(f"{item.key}: only files can be compared with objects")
            return await self._verify(item.source, url)
        except errors.BigUploadError as e:
            if befalls_all(e, others_go=not isinstance(e, errors.StoreUnreachable)):
                raise
            key = url.partition("://")[2].partition("/")[2] if item.key else ""
            return VerificationFailed(source=item.shown, key=key, error=e)
