"""Signed receipts: what an application can trust of an upload without asking the service or waiting for a webhook.

A receipt is a JWT (RFC 7519), signed by ES256 (RFC 7518). The private keys follow from the service's secrets: replicas
share them as they share the secrets, and who rotates the secrets rotates the keys. The public keys of all secrets are
published, those of the secrets that sign nothing any more, too, so that their receipts stay good until they expire.

A receipt is not a credential: it names what was stored, and opens nothing. Its `aud` is the owner, so that no owner's
application takes another owner's receipt for its own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from bigupload.core.checksums import ChecksumType
from bigupload.core.integrity import ObjectFacts, Verified
from bigupload.service import contract as c
from bigupload.service.media.policy import Policy
from bigupload.service.media_objects import ObjectHead, version_of

if TYPE_CHECKING:
    from bigupload.service.webhooks.hooks import FinishedFile

LIFETIME = 7 * 86_400
"""Seconds: as long as an upload may be open. A secret that signs nothing any more is kept for this time, too."""
TYPE = "bigupload-receipt+jwt"
_ALGORITHM = "ES256"
_CURVE = ec.SECP256R1()
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of P-256: https://nvlpubs.nist.gov/nistpubs/SpecialPublications/NIST.SP.800-186.pdf, 3.2.1.3"""
_PROOFS = {ChecksumType.FULL_OBJECT: Verified.FULL_OBJECT, ChecksumType.COMPOSITE: Verified.COMPOSITE_CHECKSUM}


class _ReceiptKey:
    """The key that follows from one secret."""

    def __init__(self, secret: str) -> None:
        # 512 bits, of which the remainder by a number of 256 bits is as good as random: FIPS 186-5, A.2.1.
        digest = hmac.digest(secret.encode(), b"bigupload receipts", "sha512")
        self.private = ec.derive_private_key(int.from_bytes(digest) % (_ORDER - 1) + 1, _CURVE)
        numbers = self.private.public_key().public_numbers()
        point = {"crv": "P-256", "kty": "EC", "x": _base64(numbers.x), "y": _base64(numbers.y)}
        thumbprint = hashlib.sha256(json.dumps(point, separators=(",", ":"), sort_keys=True).encode())  # RFC 7638
        kid = thumbprint.hexdigest()[:32]  # in base64 it could begin with "-", as options do
        self.public = c.JsonWebKey.model_validate({**point, "kid": kid, "use": "sig", "alg": _ALGORITHM})


def key_id(secret: str) -> str:
    """Return the `kid` of the key that follows from a secret."""
    return _ReceiptKey(secret).public.kid


def published(secrets: Sequence[str]) -> c.JsonWebKeys:
    """Return the public keys that follow from secrets, the one that signs first."""
    return c.JsonWebKeys(keys=[_ReceiptKey(secret).public for secret in reversed(secrets)])


class Receipts:
    """Signs the receipts of a service. The last of its secrets signs."""

    def __init__(
        self,
        secrets: Sequence[str],
        *,
        public_url: Callable[[str], str],
        policy: Policy,
        clock: Callable[[], float],
    ) -> None:
        """Make it.

        Args:
            secrets: Those of the service.
            public_url: The URL of a key for everyone.
            policy: The shape of the keys, and how long objects are kept.
            clock: The time, in seconds since 1970.
        """
        self._key = _ReceiptKey(secrets[-1])
        self.published = published(secrets)
        """The public keys."""
        self._public_url = public_url
        self._policy = policy
        self._clock = clock

    def of(self, file: FinishedFile, head: ObjectHead, *, proved_by: ObjectFacts | None = None) -> str:
        """Return the receipt of an object that counts, and that nobody can write again.

        Args:
            file: What is known of it.
            head: The object.
            proved_by: The store's checksum, if the client sent each part with its own, so that it proves the object.
        """
        from bigupload.service.webhooks.telling import event_id  # far more than the commands of keys need

        now = int(self._clock())
        kept = self._policy.keep
        ends = now + LIFETIME if kept is None else min(now + LIFETIME, int(head.modified.timestamp()) + kept)
        claims = c.ReceiptClaims(
            aud=file.owner,
            iat=now,
            exp=ends,
            jti=event_id("media.completed", version_of(file.key, head)),
            public_url=self._public_url(file.key),
            version_id=head.headers.get("x-amz-version-id"),
            proof=None if proved_by is None else _proof(proved_by).value,
            **file.public_json(),
        )
        header: dict[str, Any] = {"kid": self._key.public.kid, "typ": TYPE}
        return jwt.encode(claims.model_dump(by_alias=True), self._key.private, algorithm=_ALGORITHM, headers=header)


def _proof(facts: ObjectFacts) -> Verified:
    if facts.checksum is None or facts.checksum_type is None:
        return Verified.SIZE
    return _PROOFS[facts.checksum_type]


def _base64(coordinate: int) -> str:
    return _encoded(coordinate.to_bytes(32))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
