"""Make a store from `s3://BUCKET/KEY`, the local store, a media service's URL, or a manifest."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from bigupload import errors
from bigupload.core.content_types import type_of
from bigupload.core.manifest import Target
from bigupload.http.http_errors import NAME_RULES, is_valid_name
from bigupload.options import S3Options, require_customer_key
from bigupload.ports import Source
from bigupload.s3_parameters import MOST_KEY_BYTES, RENAME, refused_character, why_no_key, why_too_long
from bigupload.stores.s3.access import configured_endpoint, refuse_unsuited, split_bucket, translated
from bigupload.stores.s3.bucket import BucketPool
from bigupload.stores.s3.multipart import S3Store
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.units import escaped

if TYPE_CHECKING:  # imported where they are used: most uploads need neither
    from bigupload.stores.s3.object_file import ObjectFile
    from bigupload.stores.service_client import ServiceStore

Store: TypeAlias = "S3Store | ServiceStore"

LOCAL_BUCKET = "bigupload"
LOCAL = "local"
"""A manifest's endpoint for the local store, whose port and keys belong to the machine, not to the upload."""


_NEARLY_S3 = r"(?i)\s*s3(?::/{0,2}|//)([^\s/:].*)"


def meant_by(url: str) -> str | None:
    """Return the s3:// URL for a text that has a typo in its beginning; None: it is not nearly one."""
    found = re.fullmatch(_NEARLY_S3, url)
    return f"s3://{found[1]}" if found is not None and url[:5].lower() != "s3://" else None


def oddities_of(url: str) -> list[str]:
    """Return warnings about a target that is valid, and probably a mistake. The rest of each key is not looked at.

    Args:
        url: The target as the caller gave it, without the names of files that come below it.
    """
    if url[:5].lower() != "s3://":
        return []
    key = split_bucket(url[5:])[1]
    segments = key.removesuffix("/").split("/")
    warnings = []
    if spaced := next((each for each in segments if each != each.strip()), ""):
        where = "beginning" if spaced[0].isspace() else "end"
        warnings.append(f"the key in {url!r} has a space at the {where} of {spaced!r}, which is kept: was it meant?")
    if key and "" in segments:
        warnings.append(f"the key in {url!r} has an empty segment (two slashes), which is kept: S3 joins no slashes")
    if dots := {".", ".."}.intersection(segments):
        warnings.append(f"the key in {url!r} has a segment {min(dots)!r}, which is kept: S3 resolves no paths")
    if found := next((each for each in "*?" if each in key), ""):
        warnings.append(f"the key in {url!r} has a {found!r}, which is kept: in a target, it is no wildcard")
    return warnings


def parse_s3_url(url: str, file_name: str | None = None) -> tuple[str, str]:
    """Split `s3://BUCKET/KEY` into (bucket, key). If KEY is empty or ends in "/", `file_name` is appended.

    Raises:
        UsageError: The URL is not a valid target.
    """
    if not isinstance(url, str):  # a Path would have lost one of the slashes
        raise errors.UsageError(f"the target must be a text like 's3://bucket/key', not {url!r}")
    scheme, _, rest = url.partition("://")
    bucket, key = split_bucket(rest) if scheme.lower() == "s3" else ("", "")
    if not bucket or not bucket.isprintable():
        shapes = {None: "s3://bucket/key", "": "s3://bucket/ or s3://bucket/prefix"}
        shape = shapes.get(file_name, "s3://bucket/key or s3://bucket/folder/")
        if (meant := meant_by(url)) is not None:
            shape = f"{meant}, with a colon and two slashes" if url.strip() == url else f"{meant}, without the space"
        raise errors.UsageError(f"not a target: {url!r} (write it like {shape})")
    if bucket != (meant := bucket.strip()):
        shape = f"s3://{meant}{rest.removeprefix(bucket)}, without the space"
        raise errors.UsageError(f"not a target: {url!r} (write it like {shape})")
    if not key or key.endswith("/"):
        if file_name is None:
            raise errors.UsageError(f"{url!r} names no object: write it like s3://bucket/key")
        key += file_name
    if (character := refused_character(key)) is not None:
        raise errors.UsageError(
            f"{key!r}: a key can't have the character {character}: name the object, as s3://bucket/key"
        )
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise errors.UsageError(f"an S3 key is UTF-8, {key!r} is not: name the object, as s3://bucket/key") from None
    if length > MOST_KEY_BYTES:
        raise errors.UsageError("an S3 key has at most 1,024 bytes")
    return bucket, key


def key_of_file(url: str, path: str, name: str) -> tuple[str, str]:
    """Split the target of a file as `parse_s3_url` does.

    Args:
        url: The target.
        path: The file's path, for the error.
        name: Its name, which the key gets if the target ends in a slash.

    Raises:
        UsageError: The URL is not a valid target, whatever the file's name is.
        SourceUnsupported: The file's name can't be a key, or makes it too long.
    """
    try:
        return parse_s3_url(url, name)
    except errors.UsageError:
        prefix = parse_s3_url(url, "x")[1].removesuffix("x")
        refused = why_no_key(name)
        why = why_too_long(prefix + name) if refused is None else f"{refused}: {RENAME}"
        if why is None:
            raise
        raise errors.SourceUnsupported(f"{errors.IT}: {why}", it=escaped(path)) from None


async def reach(options: S3Options) -> S3Options:
    """Resolve the endpoint and profile of a new connection.

    For the local store, start it and take its endpoint and keys. Else the endpoint is the one that was given, that of
    the environment, that of the AWS configuration files, or AWS itself, in this order. What a manifest recorded was
    resolved when its upload began and must not be resolved again: see `reconnect`.

    Raises:
        UsageError: An endpoint is given beside `local`, or the AWS configuration cannot be read.
    """
    if not options.local:
        completed = options.completed_by(os.environ)
        if completed.endpoint_url is not None:
            return completed
        endpoint = await _configured_endpoint(completed)
        return completed if endpoint is None else dataclasses.replace(completed, endpoint_url=endpoint)
    return await _reach_local(options)


async def endpoint_of(options: S3Options) -> str | None:
    """Return the endpoint as records write it: its URL, LOCAL for the local store, or None for AWS."""
    return LOCAL if options.local else (await reach(options)).endpoint_url


async def _configured_endpoint(options: S3Options) -> str | None:
    question = functools.partial(configured_endpoint, options)
    return await run_in_daemon_thread(lambda: translated(question))


async def _reach_local(options: S3Options) -> S3Options:
    if options.endpoint_url is not None:
        raise errors.UsageError("`local` has its own endpoint: leave out `endpoint_url`")
    from bigupload.stores import local_store

    running = await run_in_daemon_thread(local_store.start)
    return dataclasses.replace(
        options,
        endpoint_url=running.endpoint_url,
        region=running.region,
        profile=None,
        session=None,
        credentials=None,
        access_key=running.access_key,
        secret_key=running.secret_key,
    )


async def connect(
    bucket: str, key: str, options: S3Options, pool: BucketPool | None = None, *, creates_bucket: bool = True
) -> S3Store:
    """Return the store for a key, with a connection from `pool`. In the local store, create the bucket on request."""
    if options.local and not is_valid_name(bucket):
        raise errors.UsageError(f"{bucket!r} is not a valid bucket name: it has {NAME_RULES}")
    reached = await reach(options)
    refuse_unsuited(bucket, reached)
    if not options.local:
        return S3Store(bucket, key, reached, pool=pool)
    return await _connect_local(bucket, key, options, reached, pool, creates_bucket=creates_bucket)


async def connect_to_read(url: str, options: S3Options, pool: BucketPool, *, stall_after: float) -> ObjectFile:
    """Return the object at `s3://BUCKET/KEY`, to be read and uploaded elsewhere.

    Args:
        url: Where it is.
        options: How to reach the store. What they say of the target alone (its owner, its encryption) is left out.
        pool: Where to take the connection from.
        stall_after: Seconds without a byte after which a request fails.

    Raises:
        UsageError: The URL names no object.
    """
    from bigupload.stores.s3.object_file import ObjectFile

    bucket, key = parse_s3_url(url)
    reached = await reach(dataclasses.replace(options, sse_customer_key=None, expected_bucket_owner=None))
    refuse_unsuited(bucket, reached)
    return ObjectFile(url, pool.lease(bucket, reached), key, pool, stall_after=stall_after)


async def _connect_local(
    bucket: str,
    key: str,
    options: S3Options,
    reached: S3Options,
    pool: BucketPool | None,
    *,
    creates_bucket: bool = True,
) -> S3Store:
    from bigupload.stores import local_store

    target = Target(bucket=bucket, key=key, endpoint=LOCAL)
    store = S3Store(bucket, key, reached, recorded=options, target=target, pool=pool)
    if not creates_bucket:
        return store
    try:
        if await store.ensure_bucket():
            await run_in_daemon_thread(functools.partial(local_store.make_room, bucket))
    except BaseException:
        await store.aclose()
        raise
    return store


def connect_service(url: str, options: S3Options, *, api_key: str | None, name: str, source: Source) -> ServiceStore:
    """Return the media service at `url` as the store for a source. Of `options`, only content type and CA bundle apply.

    Raises:
        UsageError: Another option is set. The service decides how the bucket stores an object.
    """
    theirs = S3Options(
        content_type=options.content_type, ca_bundle=options.ca_bundle, no_verify_ssl=options.no_verify_ssl
    )
    foreign = [
        f"`{field.name}`"
        for field in dataclasses.fields(S3Options)
        if getattr(options, field.name) != getattr(theirs, field.name)
    ]
    if foreign:
        raise errors.UsageError(f"the media service decides this: leave out {', '.join(foreign)}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise errors.UsageError(
            f"a media service needs file names in UTF-8, and {name!r} is not: rename the file"
        ) from None
    kind = options.content_type or type_of(name).content_type
    return service_of(url, options, api_key=api_key, name=name, content_type=kind, head=head_of(source))


def service_of(
    url: str,
    options: S3Options,
    *,
    api_key: str | None,
    name: str = "",
    content_type: str = "",
    head: bytes = b"",
    key: str = "",
) -> ServiceStore:
    """Return the media service at `url`: for one upload, or without a name, to ask about files that it has."""
    from bigupload.stores.service_client import ServiceStore

    return ServiceStore(
        url=url,
        # The API key is never taken from the command line, which other users of the machine can read.
        api_key=api_key or os.environ.get("BIGUPLOAD_API_KEY") or None,
        filename=name,
        content_type=content_type,
        head=head,
        key=key,
        ca_bundle=False if options.no_verify_ssl else options.ca_bundle,
    )


async def reconnect(
    target: Target,
    recorded: Mapping[str, Any],
    secrets: S3Options | None = None,
    *,
    api_key: str | None = None,
    source: Source | None = None,
    pool: BucketPool | None = None,
) -> Store:
    """Connect to the store that a manifest recorded, and to no other.

    Credentials may come from this process's environment; the endpoint never does. A manifest without an endpoint
    means AWS, unless it does not say `aws` and the AWS configuration files name an endpoint: versions that did not
    write `aws` sent uploads there without recording it. Nobody knows then, and the wrong store would answer an abort
    with NoSuchUpload, while the other one keeps the parts.

    Args:
        target: The manifest's target.
        recorded: The manifest's options.
        secrets: Credentials to use instead of those of the environment; nothing else of it is used.
        api_key: The media service's key; None: BIGUPLOAD_API_KEY.
        source: The file. A media service checks its first bytes if the upload has to start again.
        pool: Where to take the connection to a bucket from.

    Raises:
        ManifestMismatch: The manifest names no store, or two, or may mean either of two.
    """
    if target.service is not None:
        return _reconnect_service(target, target.service, recorded, api_key, source)
    if target.bucket is None:
        raise errors.ManifestMismatch("this manifest's target is neither a bucket nor a media service")
    options = S3Options.from_json(recorded, secrets)
    if source is not None:  # to abort, no key is needed
        require_customer_key(recorded, secrets)
    if target.endpoint != (LOCAL if options.local else options.endpoint_url):  # else it would show one and use another
        raise errors.ManifestMismatch("this manifest's target and its options name different endpoints")
    if options.local:
        return await _connect_local(target.bucket, target.key, options, await _reach_local(options), pool)
    if options.endpoint_url is None and recorded.get("aws") is not True:
        endpoint = await _configured_endpoint(options)
        if endpoint is not None:
            raise errors.ManifestMismatch(
                "this manifest of an earlier version does not record whether its upload is at AWS or at the "
                "endpoint_url of the AWS configuration. If at AWS, set AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true and "
                f"try again. If at the endpoint, take the upload over: `adopt('{target}')`"
            )
    return S3Store(target.bucket, target.key, options, pool=pool)


def _reconnect_service(
    target: Target, url: str, recorded: Mapping[str, Any], api_key: str | None, source: Source | None
) -> ServiceStore:
    names = ("filename", "content_type", "ca_bundle")
    filename, content_type, ca_bundle = (recorded.get(name) for name in names)
    if not isinstance(filename, str) or not isinstance(content_type, str) or not isinstance(ca_bundle, str | None):
        raise errors.ManifestMismatch(
            f"the manifest's options lack {', '.join(names[:2])}, or have them of another type"
        )
    is_unverified = recorded.get("no_verify_ssl") is True
    bundle = None if ca_bundle is None or is_unverified else Path(ca_bundle)
    options, head = S3Options(ca_bundle=bundle, no_verify_ssl=is_unverified), b"" if source is None else head_of(source)
    return service_of(
        url, options, api_key=api_key, name=filename, content_type=content_type, head=head, key=target.key
    )


def head_of(source: Source) -> bytes:
    """Return the first bytes of a source, by which a media service judges it. Blocking."""
    from bigupload.stores.service_client import HEAD_BYTES

    head = bytearray(HEAD_BYTES)
    return bytes(head[: source.read_into(memoryview(head), 0)])


def with_type_of(name: str, options: S3Options) -> S3Options:
    """Return options with the Content-Type and Content-Encoding that a file's name stands for.

    Who gives a type has said what the file is, and who gives an encoding has said that, too.
    """
    if options.content_type is not None:
        return options
    named = type_of(name)
    encoding = options.content_encoding or named.content_encoding
    return dataclasses.replace(options, content_type=named.content_type, content_encoding=encoding)
