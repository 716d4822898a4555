"""Whose failure an error is: the same for `upload_many` and `watch`."""

from __future__ import annotations

from bigupload import errors
from bigupload.batch.job import affects_all
from tests.tools.cases import each_case


@each_case(
    ("error", "alone", "beside_others"),
    [
        (errors.StoreUnavailable, True, False),
        (errors.StoreUnreachable, True, False),
        (errors.CredentialsError, True, True),
        (errors.ObjectNotShown, False, False),
        (errors.ClockSkewed, True, True),
        (errors.ManifestUnwritable, True, True),
        (errors.BucketNotFound, True, True),
        (errors.AccessDenied, False, False),
        (errors.StoreRefused, False, False),
        (errors.PartCorrupted, False, False),
    ],
)
def test_whose_failure_it_is(error: type[errors.BigUploadError], alone: bool, beside_others: bool) -> None:
    assert affects_all(error("no"), others_go=False) is alone
    assert affects_all(error("no"), others_go=True) is beside_others
