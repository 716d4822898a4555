"""A source that is open, and what its object is called and typed where the caller says nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import field

from bigupload.core.checksums import Algorithm
from bigupload.core.copies import CopySource
from bigupload.options import S3Options
from bigupload.ports import Source
from bigupload.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSource:
    """A source that is open, and what its object is called and typed where the caller says nothing."""

    source: Source
    name: str
    content_type: str | None = None
    """None: what the name stands for."""
    content_encoding: str | None = None
    warning: str | None = None
    """What the user should know of it."""
    stored: CopySource | None = None
    """The object that it is, in the store that the upload's options lead to."""
    checksums: Mapping[Algorithm, str] = field(default_factory=dict)
    """Of `stored` as a whole, as its store says them."""

    def typed(self, options: S3Options) -> S3Options:
        """The options with the type of the source."""
        if self.content_type is None or options.content_type is not None:
            return options
        encoding = options.content_encoding or self.content_encoding
        return dataclasses.replace(options, content_type=self.content_type, content_encoding=encoding)
