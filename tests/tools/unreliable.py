"""A fault proxy as a process of its own: `python -m tests.tools.unreliable --port PORT --share 0.05`.

Prints its URL, breaks so many of the exchanges at random, and ends when its standard input does. For runs that look at
the uploader's own memory and descriptors.
"""

from __future__ import annotations

import argparse
import json
import random
import sys

from bigupload.testing.fault_proxy import FaultProxy
from bigupload.testing.faults import (
    ErrorIn200,
    FlipBit,
    HalfResponse,
    HangUp,
    Junk,
    LostResponse,
    Reset,
    Stall,
    Status,
    StoreFault,
    Trickle,
)


class Chooser:
    """A fault for a share of the exchanges."""

    def __init__(self, share: float, seed: int) -> None:
        self._share, self._chance = share, random.Random(seed)
        self.chosen = 0

    def __call__(self, op: str) -> StoreFault | None:
        chance = self._chance
        if chance.random() >= self._share:
            return None
        self.chosen += 1
        faults: list[StoreFault] = [Reset(), LostResponse(), HangUp(), HalfResponse(chance.randrange(200)), Junk()]
        faults += [Status(503, "SlowDown", read_body=False), Status(500, "InternalError"), Status(429), Status(502)]
        if op == "UploadPart":
            at = chance.randrange(5 << 20)
            faults += [Reset(at), Stall(at), FlipBit(at), Trickle(), Status(403), Status(400, "RequestTimeout")]
        if op == "CompleteMultipartUpload":
            faults += [ErrorIn200(), ErrorIn200(act=True)]
        return chance.choice(faults)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True, help="Of the store, on 127.0.0.1.")
    parser.add_argument("--share", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chooser = Chooser(arguments.share, arguments.seed)
    with FaultProxy("127.0.0.1", arguments.port) as proxy:
        proxy.at_random(chooser)
        print(json.dumps({"url": proxy.url}), flush=True)
        sys.stdin.read()
    print(json.dumps({"broken": chooser.chosen, "connections": proxy.connections}), flush=True)


if __name__ == "__main__":
    main()
