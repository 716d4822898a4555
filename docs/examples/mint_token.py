"""An app's backend makes upload tokens by itself: `python mint_token.py OWNER`, with the owner's signing key.

The key comes from `bigupload keys signing-key --owner OWNER`, in the environment variable UPLOAD_SIGNING_KEY. It stays
in the backend; the token goes to the user's browser. mint_token.mjs is the same for Node.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from typing import Any

import jwt  # PyJWT


def upload_token(owner: str, signing_key: str, *, seconds: int = 3600, **limits: Any) -> str:
    """Return a token of `owner`. `limits`: user, maxSize and any other of docs/service-access.md."""
    now = int(time.time())
    claims = {
        "aud": "bigupload",
        "sub": owner,
        "iat": now,
        "exp": now + seconds,  # at most 24 hours after iat
        "jti": secrets.token_urlsafe(16),  # another one for each token: uploads are counted by it
    }
    return jwt.encode(claims | limits, signing_key, algorithm="HS256")


if __name__ == "__main__":
    limits: dict[str, Any] = {
        "user": "u-17",
        "maxSize": 100_000_000,
        "contentTypes": ["image/*", "video/mp4"],
        "uploads": 1,
    }
    print(upload_token(sys.argv[1], os.environ["UPLOAD_SIGNING_KEY"], **limits))
