"""An app's backend verifies the receipt of an upload: `python verify_receipt.py SERVICE OWNER USER < receipt`.

SERVICE is the address of the media service, OWNER the owner whose keys and tokens the app has, and USER the id of the
user who is signed in. verify_receipt.mjs is the same for Node.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jwt  # PyJWT, with cryptography


def verified(receipt: str, keys: jwt.PyJWKClient, owner: str, user: str) -> dict[str, Any]:
    """Return what the service says of the user's upload. Raises jwt.InvalidTokenError for anything else."""
    key = keys.get_signing_key_from_jwt(receipt)
    facts: dict[str, Any] = jwt.decode(
        receipt, key, algorithms=["ES256"], audience=owner, options={"require": ["exp", "jti"]}
    )
    if facts["user"] != user:
        raise jwt.InvalidTokenError("the receipt is another user's")
    return facts  # remember facts["jti"], if an upload must be used only once


if __name__ == "__main__":
    service, owner, user = sys.argv[1:]
    keys = jwt.PyJWKClient(f"{service}/.well-known/jwks.json")  # one for the app: it keeps the keys for 5 minutes
    try:
        print(json.dumps(verified(sys.stdin.read().strip(), keys, owner, user)))
    except (jwt.InvalidTokenError, jwt.PyJWKClientError) as e:
        sys.exit(f"not a receipt: {e}")
