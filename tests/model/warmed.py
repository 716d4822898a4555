"""Imported by the server that forks the model's processes, so that none of them has to import anything itself.

A child starts in a few milliseconds then, and a kill is a SIGKILL of a real process: real locks, real descriptors.
"""

from __future__ import annotations

# Those that are imported only when they are needed.
import encodings.idna  # noqa: F401 - to be warm
import gc
import mmap  # noqa: F401 - to be warm
import xml.etree.ElementTree  # noqa: F401 - to be warm

import anyio._backends._asyncio
import anyio.from_thread  # noqa: F401 - to be warm
import boto3.session  # noqa: F401 - to be warm
import filelock  # noqa: F401 - to be warm

import bigupload.api.copying
import bigupload.api.remote
import bigupload.manifests.clean_up
import bigupload.manifests.listing
import bigupload.sources.part_pool
import bigupload.sources.stream  # noqa: F401 - to be warm

from . import process  # noqa: F401 - to be warm

gc.freeze()  # else the children's first collection would copy all of it
