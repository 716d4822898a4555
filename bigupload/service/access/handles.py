"""What the service signs and clients keep: the handles of uploads, and the receipts of files.

A handle is everything that the service must know of an upload. So the service has no state, and any replica with the
same secret can continue an upload. A client can read a handle and cannot change it. A handle is useless without an API
key of the owner that it names.

A receipt is what an application can trust of an upload without asking the service or waiting for a webhook. It is a JWT
(RFC 7519), signed by ES256 (RFC 7518). The private keys follow from the service's secrets: replicas share them as they
share the secrets, and who rotates the secrets rotates the keys. The public keys of all secrets are published, those of
the secrets that sign nothing any more, too, so that their receipts stay good until they expire. A receipt is not a
credential: it names what was stored, and opens nothing. Its `aud` is the owner, so that no owner's application takes
another owner's receipt for its own.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from itsdangerous import BadData, URLSafeSerializer

from bigupload.core.checksums import Algorithm, ChecksumType
from bigupload.core.integrity import ObjectFacts, Verified
from bigupload.core.part_plan import Plan
from bigupload.records import dataclass
from bigupload.service import contract as c
from bigupload.service.media.policy import LONGEST_UPLOAD, Policy
from bigupload.service.media_objects import ObjectHead
from bigupload.service.problems import Problem, Refused

if TYPE_CHECKING:
    from bigupload.service.webhooks.hooks import FinishedFile

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """One multipart upload."""

    owner: str
    key: str
    upload_id: str
    size: int
    """Bytes of the whole file."""
    part_size: int
    content_type: str
    algorithm: Algorithm
    token: str
    """Also in the object's metadata: it shows that this upload made the object."""
    expires: int
    """Seconds since 1970."""

    @property
    def plan(self) -> Plan:
        """The division of the file into parts."""
        return Plan(self.size, self.part_size)

    def to_json(self) -> dict[str, Any]:
        """Return the fields, for a note of the service's own. It is not signed."""
        return dataclasses.asdict(self) | {"algorithm": self.algorithm.value}


def handle_from_json(fields: Mapping[str, Any]) -> Handle:
    """Return the handle of which `Handle.to_json` returned the fields."""
    return Handle(**{**fields, "algorithm": Algorithm(fields["algorithm"])})


_TYPES = typing.get_type_hints(Handle)


class Handles:
    """Signs handles with the last of `secrets`, and accepts those that any of them signed."""

    def __init__(self, secrets: Sequence[str], *, clock: Callable[[], float], lifetime: int = LONGEST_UPLOAD) -> None:
        """Make it.

        Args:
            secrets: The last one signs.
            clock: The time, in seconds since 1970.
            lifetime: How long a handle is valid, in seconds.
        """
        self._serializer = URLSafeSerializer(
            list(secrets),
            salt="bigupload.upload",
            signer_kwargs={"digest_method": hashlib.sha256},  # itsdangerous signs with SHA-1 by default
            fallback_signers=[{"digest_method": hashlib.sha1}],  # clients still have handles signed like that
        )
        self._clock = clock
        self._lifetime = lifetime

    def expiry(self) -> int:
        """Return the expiry of a handle that is made now, in seconds since 1970."""
        return int(self._clock()) + self._lifetime

    def encode(self, handle: Handle) -> str:
        """The handle as text, which needs no quoting in a URL."""
        return self._serializer.dumps([_VERSION, *dataclasses.astuple(handle)])

    def decode(self, text: str, *, owner: str) -> Handle:
        """The handle that a client sent.

        Raises:
            Refused: INVALID_UPLOAD, NOT_YOUR_UPLOAD or UPLOAD_EXPIRED.
        """
        try:
            loaded: Any = self._serializer.loads(text)
        except BadData:
            raise Refused(Problem.INVALID_UPLOAD, field="upload") from None
        if not isinstance(loaded, list) or loaded[:1] != [_VERSION] or len(loaded) != len(_TYPES) + 1:
            raise Refused(
                Problem.INVALID_UPLOAD,
                "the upload was created by another version of the service: start a new one",
                field="upload",
            )
        handle = handle_from_json(dict(zip(_TYPES, loaded[1:], strict=True)))
        if handle.owner != owner:
            raise Refused(Problem.NOT_YOUR_UPLOAD, field="upload")
        if handle.expires <= self._clock():
            raise Refused(Problem.UPLOAD_EXPIRED, field="upload")
        return handle


LIFETIME = 7 * 86_400
"""Seconds: as long as an upload may be open. A secret that signs nothing any more is kept for this time, too."""
TYPE = "bigupload-receipt+jwt"
_ALGORITHM = "ES256"
_CURVE = ec.SECP256R1()
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of P-256: https://nvlpubs.nist.gov/nistpubs/SpecialPublications/NIST.SP.800-186.pdf, 3.2.1.3"""
_PROOFS = {ChecksumType.FULL_OBJECT: Verified.FULL_OBJECT, ChecksumType.COMPOSITE: Verified.COMPOSITE_CHECKSUM}


def _receipt_key(secret: str) -> tuple[ec.EllipticCurvePrivateKey, c.JsonWebKey]:
    """Return the private key that follows from one secret, and the public one."""
    # 512 bits, of which the remainder by a number of 256 bits is as good as random: FIPS 186-5, A.2.1.
    digest = hmac.digest(secret.encode(), b"bigupload receipts", "sha512")
    private = ec.derive_private_key(int.from_bytes(digest) % (_ORDER - 1) + 1, _CURVE)
    numbers = private.public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(each.to_bytes(32)).decode().rstrip("=") for each in (numbers.x, numbers.y))
    point = {"crv": "P-256", "kty": "EC", "x": x, "y": y}
    thumbprint = hashlib.sha256(json.dumps(point, separators=(",", ":"), sort_keys=True).encode())  # RFC 7638
    kid = thumbprint.hexdigest()[:32]  # in base64 it could begin with "-", as options do
    return private, c.JsonWebKey.model_validate({**point, "kid": kid, "use": "sig", "alg": _ALGORITHM})


def key_id(secret: str) -> str:
    """Return the `kid` of the key that follows from a secret."""
    return _receipt_key(secret)[1].kid


def published(secrets: Sequence[str]) -> c.JsonWebKeys:
    """Return the public keys that follow from secrets, the one that signs first."""
    return c.JsonWebKeys(keys=[_receipt_key(secret)[1] for secret in reversed(secrets)])


class Receipts:
    """Signs the receipts of a service. The last of its secrets signs."""

    def __init__(
        self, secrets: Sequence[str], *, public_url: Callable[[str], str], policy: Policy, clock: Callable[[], float]
    ) -> None:
        """Make it.

        Args:
            secrets: Those of the service.
            public_url: The URL of a key for everyone.
            policy: The shape of the keys, and how long objects are kept.
            clock: The time, in seconds since 1970.
        """
        self._key, self._public_key = _receipt_key(secrets[-1])
        self.published = published(secrets)
        """The public keys."""
        self._public_url = public_url
        self._policy = policy
        self._clock = clock

    def of(self, event_id: str, file: FinishedFile, head: ObjectHead, *, proved_by: ObjectFacts | None = None) -> str:
        """Return the receipt of an object that counts, and that nobody can write again.

        Args:
            event_id: The id of the event that it counts.
            file: What is known of it.
            head: The object.
            proved_by: The store's checksum, if the client sent each part with its own, so that it proves the object.
        """
        now = int(self._clock())
        kept = self._policy.keep
        ends = now + LIFETIME if kept is None else min(now + LIFETIME, int(head.modified.timestamp()) + kept)
        claims = c.ReceiptClaims(
            aud=file.owner,
            iat=now,
            exp=ends,
            jti=event_id,
            public_url=self._public_url(file.key),
            version_id=head.headers.get("x-amz-version-id"),
            proof=None if proved_by is None else _proof(proved_by).value,
            **file.public_json(),
        )
        header: dict[str, Any] = {"kid": self._public_key.kid, "typ": TYPE}
        return jwt.encode(claims.model_dump(by_alias=True), self._key, algorithm=_ALGORITHM, headers=header)


def _proof(facts: ObjectFacts) -> Verified:
    if facts.checksum is None or facts.checksum_type is None:
        return Verified.SIZE
    return _PROOFS[facts.checksum_type]
