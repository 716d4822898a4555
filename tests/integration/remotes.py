"""What the tests of remote sources share: a file on a web server, whose URL is as secret as a presigned one."""

from __future__ import annotations

import hashlib

from .support import PART, World, content

PARTS = 6
SIZE = (PARTS - 1) * PART + 777
DATA = content(SIZE)
SECRET = "a-bearer-secret"


def holds(world: World, data: bytes = DATA, key: str = "key") -> bool:
    found = world.object(key)
    return found is not None and found.sha256() == hashlib.sha256(data).hexdigest()
