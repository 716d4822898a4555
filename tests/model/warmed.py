"""Imported by the server that forks the model's processes, so that none of them has to read botocore's models itself.

A child starts in a few milliseconds then, and a kill is a SIGKILL of a real process: real locks, real descriptors.
"""

from __future__ import annotations

# Those that are imported only when they are needed.
import encodings.idna  # noqa: F401 - to be warm
import gc

import aiohttp  # noqa: F401 - to be warm
import anyio._backends._asyncio  # noqa: F401 - to be warm
import botocore.session  # noqa: F401 - to be warm

from bigupload import S3Options
from bigupload.stores.s3.client import ANSWER_WITHIN, S3Bucket

from . import process  # noqa: F401 - to be warm

S3Bucket(
    "bucket", S3Options(endpoint_url="http://127.0.0.1:9", region="us-east-1", access_key="a", secret_key="b")
)._make_client(ANSWER_WITHIN).close()  # talks to nobody
gc.freeze()  # else the children's first collection would copy all of it
