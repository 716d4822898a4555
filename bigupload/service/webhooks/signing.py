"""Sign requests to the operator's programs as https://www.standardwebhooks.com says, by that project's own library.

Knows neither events nor hooks. The library is imported on first need.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bigupload.errors import ServiceError, UsageError
from bigupload.service.keys import is_open_to_others, service_file
from bigupload.service.secret_files import locked, read_regular, write_private

SECRET_PREFIX = "whsec_"  # noqa: S105 - what each begins with
_FEWEST_BYTES, _MOST_BYTES = 24, 64
"""Bytes of a secret, as Standard Webhooks asks for."""
VARIABLE = "BIGUPLOAD_WEBHOOK_SECRET_FILE"


class Signer:
    """Signs with all of a list of secrets, so that a receiver may know any one of them."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """Make it. `secrets`: each as `check_secret` wants it."""
        from standardwebhooks import Webhook

        self._by = [Webhook(secret) for secret in secrets]

    def headers(self, message_id: str, body: bytes, now: float) -> dict[str, str]:
        """Return the headers of a request.

        Args:
            message_id: The same for each attempt of one message.
            body: The request's body, in UTF-8.
            now: The time of this attempt, in seconds since 1970.
        """
        at, text = datetime.fromtimestamp(int(now), UTC), body.decode()
        return {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": " ".join(each.sign(message_id, at, text) for each in self._by),
        }


def check_secret(secret: str) -> None:
    """Raise UsageError unless `secret` is `whsec_` and then 24 to 64 bytes in base64."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not _FEWEST_BYTES <= len(key) <= _MOST_BYTES:
        raise UsageError(
            f"a webhook secret is {SECRET_PREFIX} and then {_FEWEST_BYTES} to {_MOST_BYTES} bytes in base64: "
            "bigupload webhooks secret makes one"
        )


def new_secret() -> str:
    """Return a new secret."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def default_webhook_secret_file() -> Path:
    """`$BIGUPLOAD_WEBHOOK_SECRET_FILE`, or a file among the user's data."""
    return service_file(VARIABLE, "webhook-secret")


def load_webhook_secrets(path: Path, *, create: bool) -> tuple[str, ...]:
    """Return the secrets of a file, one a line. Requests are signed by each of them.

    Args:
        path: The file, which nobody else may read; of a file of root's, a group may.
        create: Whether to make it with a new secret if it is missing.

    Raises:
        ServiceError: It is missing, unreadable, readable for others, or holds something else.
    """
    if create and not os.path.lexists(path):
        with locked(path):
            if not os.path.lexists(path):  # several that start at once must sign with the same
                write_private(path, new_secret().encode() + b"\n")
    try:
        data, status = read_regular(path)
        found = tuple(line.strip() for line in data.decode().splitlines() if line.strip())
    except FileNotFoundError:
        raise ServiceError(f"there is no webhook secret {path}: bigupload webhooks secret makes one") from None
    except (OSError, UnicodeDecodeError) as e:
        raise ServiceError(f"can't read the file {path}: {getattr(e, 'strerror', None) or 'it is not text'}") from e
    if is_open_to_others(status):
        raise ServiceError(f"other users can read the webhook secret {path}: run chmod 600 {path}")
    if not found:
        raise ServiceError(f"the file {path} is empty: it holds webhook secrets, one a line")
    for number, secret in enumerate(found, 1):
        try:
            check_secret(secret)
        except UsageError as e:
            raise ServiceError(f"line {number} of {path}: {e}") from None
    return found
