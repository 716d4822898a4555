"""Imported by the server that forks the model's processes, so that none of them has to import anything itself.

A child starts in a few milliseconds then, and a kill is a SIGKILL of a real process: real locks, real descriptors.
"""

from __future__ import annotations

# Those that are imported only when they are needed.
import encodings.idna  # noqa: F401 - to be warm
import gc
import xml.etree.ElementTree  # noqa: F401 - to be warm

import anyio._backends._asyncio  # noqa: F401 - to be warm

from . import process  # noqa: F401 - to be warm

gc.freeze()  # else the children's first collection would copy all of it
