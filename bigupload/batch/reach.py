"""Whose failure an error is: that of one file, or of all files of a job or a watch."""

from __future__ import annotations

from typing import Final

from bigupload import errors

_FOR_GOOD: Final = (
    errors.BucketNotFound,
    errors.WrongRegion,
    errors.EndpointRedirects,
    errors.LocalStoreError,
    errors.UploadCancelled,
)
"""Every other file would fail, too, and waiting changes nothing."""
_FOR_NOW = (
    errors.CredentialsError,
    errors.ClockSkewed,
    errors.ClusterUnreachable,
    errors.ManifestUnwritable,
)
_OF_STORE = (
    errors.StoreUnreachable,
    errors.StoreUnavailable,
)
"""A store that fails for one key alone gives the same errors as a store that is down."""


def is_for_good(error: errors.BigUploadError) -> bool:
    """Whether every other file would fail with an error, also later."""
    return isinstance(error, _FOR_GOOD) or (isinstance(error, errors.ManifestUnwritable) and error.lasting)


def befalls_all(error: errors.BigUploadError, *, others_go: bool) -> bool:
    """Whether every other file would fail with an error now.

    Args:
        error: What the upload of one file ended with.
        others_go: Whether the store has responded to others since that file was first tried.
    """
    if isinstance(error, errors.ObjectNotShown):
        return False
    if isinstance(error, _OF_STORE):
        return not others_go
    return isinstance(error, _FOR_GOOD + _FOR_NOW)
