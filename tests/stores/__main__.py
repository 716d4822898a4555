"""`python -m tests.stores [NAME…]`: the real command against other people's stores, each from a package.

Every store is installed into an environment of its own below the cache directory, started on 127.0.0.1, tried, and
stopped. The exit status is 0 if every store that could be had behaved as its module says.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from .third_party import STORES
from .third_party.environments import Unavailable, cache_directory
from .third_party.report import as_markdown, as_text
from .third_party.trial import Trial, try_store


def main() -> int:
    names = [store.name for store in STORES]
    parser = argparse.ArgumentParser(prog="python -m tests.stores", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"Only these of {', '.join(names)}.")
    parser.add_argument("--environments", type=Path, default=cache_directory(), help="Where the stores are installed.")
    parser.add_argument("--markdown", action="store_true", help="The table as docs/stores.md has it.")
    parser.add_argument("--keep", type=Path, help="Keep data, logs and manifests of the trials in this directory.")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"no such store: {', '.join(sorted(unknown))}. Choose from {', '.join(names)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the stores are stopped, too
    trials: list[Trial] = []
    missing: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bigupload-stores-") as temporary:
        directory = options.keep or Path(temporary)
        for store in STORES:
            if options.names and store.name not in options.names:
                continue
            print(f"{store.name}: installing and starting it", file=sys.stderr)
            try:
                trials.append(try_store(store, options.environments, directory / store.name))
            except Unavailable as e:
                missing.append(f"{store.name} could not be had: {e}")
    print(as_markdown(trials) if options.markdown else as_text(trials))
    for line in missing:
        print(line)
    surprises = [surprise for trial in trials for surprise in trial.surprises()]
    for line in surprises:
        print(f"unexpected: {line}")
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
