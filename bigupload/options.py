"""How to reach a bucket, and what the object is to be. Pure.

What of it goes into a manifest is what another process needs to go on: everything but secrets.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from bigupload.errors import ManifestMismatch, UsageError

_SECRETS = ("access_key", "secret_key", "session_token")
_OF_THE_OBJECT = (
    "content_type", "metadata", "tags", "storage_class", "sse", "sse_kms_key_id", "if_none_match",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """Everything that is left out comes from the AWS credential chain and configuration. Raises UsageError."""

    endpoint_url: str | None = None
    """Any S3 store, as in "https://minio.example:9000". None: the one that the AWS environment or configuration names,
    else AWS. The manifest records which it was."""
    region: str | None = None
    profile: str | None = None
    local: bool = False
    """The store on this machine: endpoint and keys are found out (and it is started) when it is connected to."""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    """`path`, `virtual`, or `auto`: path style for an endpoint of your own, else virtual."""
    ca_bundle: Path | None = None
    """Trust these certificates, and not those of the system."""
    no_verify_ssl: bool = False
    """Do not check the store's certificate: whoever is on the way can read and change everything."""
    no_sign_request: bool = False
    """Send requests without a signature, to a store that wants none. No credentials are needed then."""
    access_key: str | None = field(default=None, repr=False)
    """Instead of the chain, with `secret_key`. Never written to a manifest, as the two below."""
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    storage_class: str | None = None
    sse: str | None = None
    """`AES256` (SSE-S3) or `aws:kms`."""
    sse_kms_key_id: str | None = None
    if_none_match: bool = False
    """Refuse to replace an object: checked before the upload, and again by the store at complete."""

    def __post_init__(self) -> None:
        if self.endpoint_url is not None:
            try:
                url = urlsplit(self.endpoint_url)
                sound = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
            except ValueError:
                sound = False
            if not sound:
                raise UsageError("not an endpoint: write it like https://s3.example.com:9000")
            if url.username is not None or url.password is not None:
                raise UsageError("an endpoint holds no credentials: give them as AWS_ACCESS_KEY_ID and the like")
        if self.no_verify_ssl and self.ca_bundle is not None:
            raise UsageError("no_verify_ssl checks no certificate, so that ca_bundle means nothing: leave one out")
        if self.sse_kms_key_id and self.sse not in (None, "aws:kms"):
            raise UsageError("a KMS key goes with aws:kms encryption")

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults, without secrets."""
        found: dict[str, Any] = {}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if value and value != f.default and f.name not in _SECRETS:
                found[f.name] = dict(value) if isinstance(value, Mapping) else value
        if self.ca_bundle is not None:
            found["ca_bundle"] = str(self.ca_bundle)
        return found

    @classmethod
    def from_json(cls, options: Mapping[str, Any], secrets: S3Options | None = None) -> S3Options:
        """The inverse, with the secrets of `secrets`; unknown names are ignored.

        Raises ManifestMismatch for values of another type.
        """
        hints = typing.get_type_hints(cls)
        given: dict[str, Any] = {}
        for f in dataclasses.fields(cls):
            if f.name in _SECRETS:
                given[f.name] = getattr(secrets, f.name, None)
            elif f.name in options:
                value = options[f.name]
                if not _fits(value, hints[f.name]):
                    raise ManifestMismatch(f"the manifest's option {f.name} is of another type than it should be")
                given[f.name] = Path(value) if f.name == "ca_bundle" and value is not None else value
        return cls(**given)

    def with_object_of(self, recorded: Mapping[str, Any]) -> tuple[S3Options, list[str]]:
        """These options for the object that an upload began with, and the names of those that differ."""
        began = S3Options.from_json(recorded)
        differing = [name for name in _OF_THE_OBJECT if getattr(began, name) != getattr(self, name)]
        kept = dataclasses.replace(self, **{name: getattr(began, name) for name in differing})
        return kept, [name.replace("_", "-") for name in differing]

    def completed_by(self, environment: Mapping[str, str]) -> S3Options:
        """With the endpoint and profile that AWS's variables name, so that a manifest knows which store it was.

        https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
        """
        endpoint, profile = self.endpoint_url, self.profile
        if endpoint is None and environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true":
            endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None
        if profile is None and self.access_key is None:
            profile = environment.get("AWS_PROFILE") or None
        return dataclasses.replace(self, endpoint_url=endpoint, profile=profile)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value can be a field of this type."""
    if isinstance(hint, types.UnionType):
        return any(_fits(value, choice) for choice in typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if typing.get_origin(hint) is not None:  # Mapping[str, str]
        return isinstance(value, dict) and all(isinstance(item, str) for pair in value.items() for item in pair)
    return isinstance(value, str) if hint is Path else isinstance(value, hint)
