"""boto3's `upload_file` and `upload_fileobj`, made by bigupload: they resume after a kill, and prove the object.

    >>> import boto3  # doctest: +SKIP
    >>> from bigupload.adapters.boto3 import install  # doctest: +SKIP
    >>> s3 = install(boto3.client("s3"))  # doctest: +SKIP
    >>> s3.upload_file("movie.mov", "my-bucket", "raw/movie.mov")  # doctest: +SKIP

The methods of `Bucket` and `Object` call those of their resource's client: `install(resource.meta.client)`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from bigupload.adapters.boto3.methods import NotTakenOver as NotTakenOver
from bigupload.adapters.boto3.methods import TakenOver

if TYPE_CHECKING:
    from bigupload.api.arguments import ProofName
    from bigupload.core.integrity import Verified
    from bigupload.engine.upload_run import UploadResult

__all__ = ["NotTakenOver", "install", "uninstall"]


class BotoClient(Protocol):
    """A client of boto3 for S3, as `install` takes it."""

    @property
    def upload_file(self) -> Callable[..., Any]:
        """Upload a file."""
        ...

    @property
    def upload_fileobj(self) -> Callable[..., Any]:
        """Upload a file object."""
        ...

    @property
    def generate_presigned_url(self) -> Callable[..., Any]:
        """Presign a URL. A resource has no such method."""
        ...


ClientT = TypeVar("ClientT", bound=BotoClient)


def install(
    client: ClientT,
    *,
    require_proof: Verified | ProofName = "size",
    state_dir: str | os.PathLike[str] | None = None,
    on_result: Callable[[UploadResult], object] | None = None,
) -> ClientT:
    """Let bigupload make the uploads of a boto3 client: `upload_file` and `upload_fileobj`.

    Signatures, arguments and exceptions are boto3's. Endpoint, region, credentials, certificates, addressing and
    retries are the client's. What bigupload can't do as it was asked for, boto3 does as before, with a warning
    (`NotTakenOver`).

    Args:
        client: The client. Calling this again for it changes the options.
        require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any). An
            object that is proved by less makes the method fail.
        state_dir: The directory for manifests; None: BIGUPLOAD_STATE_DIR, else the user's state directory.
        on_result: Called with the result of each upload, in the thread of its caller.

    Returns:
        The client.

    Raises:
        TypeError: It is not a client for S3.
        ValueError: There is no such proof.
    """
    if not all(hasattr(client, name) for name in ("upload_file", "upload_fileobj", "generate_presigned_url")):
        raise TypeError(
            "install takes a boto3 client for S3: boto3.client('s3'), or the one of a resource, resource.meta.client"
        )
    uninstall(client)
    TakenOver(client, require_proof=require_proof, state_dir=state_dir, on_result=on_result)
    return client


def uninstall(client: ClientT) -> ClientT:
    """Give a client its own methods back. Uploads that are under way end as they began. Without `install`, do nothing.

    Returns:
        The client.
    """
    taken = getattr(client.upload_file, "__self__", None)
    if isinstance(taken, TakenOver):
        taken.leave()
    return client
