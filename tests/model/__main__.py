"""`python -m tests.model --minutes N`: other examples each time, until one breaks the model or the time is over."""

from __future__ import annotations

import argparse
import logging
import random
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from bigupload.testing.strict_s3 import StrictS3
from tests.integration.support import KIB

from .machine import Model
from .mutants import MUTANTS


def play(home: Path, number: int, mutant: str | None = None) -> None:
    """A few examples, by the seed `number`. Raises what one of them raises, shrunk as far as it goes."""
    # Few: Hypothesis begins with whatever comes to its mind and goes on with variations of that, where another seed
    # comes to something else.
    few = settings(
        max_examples=3,
        stateful_step_count=25,
        deadline=None,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    with StrictS3(min_part_size=KIB) as s3:
        playing = type("Playing", (Model,), {"s3": s3, "home": home, "mutant": mutant})
        run_state_machine_as_test(seed(number)(playing), settings=few)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, help="the first; the next are one more each")
    parser.add_argument("--mutant", choices=MUTANTS, help="the library broken on purpose, to see that it is noticed")
    arguments = parser.parse_args()
    logging.getLogger("aiohttp.server").disabled = True  # the store's, whose clients are killed
    until = time.monotonic() + 60 * arguments.minutes
    number = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    while time.monotonic() < until:
        print(f"seed {number}", flush=True)
        with tempfile.TemporaryDirectory() as home:
            play(Path(home), number, arguments.mutant)
        number += 1


if __name__ == "__main__":
    main()
