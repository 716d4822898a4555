"""What does a closed page cost?  `python -m benchmarks closed_page [--rates 0.5MB/s,2MB/s,10MB/s] [--closes 10]`

The upload page, in a real Chromium, uploads to a SeaweedFS behind a proxy that takes whole bodies as fast as they come
and passes them on at the rate given, one after another or all together. The browser is killed after a seeded time of 5
to 25 s from the first byte, the page is opened again, and so on. The last visit goes on to the end, without the limit.
That needs `chromium` and the packages of the tests.

A closed page loses what the proxy had of parts that the store had not accepted. The exit status is 1 if one that closes
after its first response loses more than ten seconds of the rate and more than one part.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bigupload.core.stored_rate import HORIZON
from bigupload.stores import local_store
from bigupload.units import parse_rate

from . import report
from .report import Target

SOONEST, LATEST = 5.0, 25.0
"""Seconds after the first byte in which a page is closed."""
SECONDS = 25
"""For each close, a file has what the proxy passes on in so many seconds."""
PART = 5 * 1024 * 1024
WAYS = {"one after another": True, "all together": False}
"""How the proxy passes bodies on."""


@dataclass(frozen=True, kw_only=True)
class Closed:
    """A page that was closed after `seconds`. Sizes in bytes; `rate` in bytes a second."""

    way: str
    rate: float
    seconds: float
    stored: int
    """Of this visit."""
    lost: int

    @property
    def bound(self) -> float:
        return max(HORIZON * self.rate, PART)

    @property
    def holds(self) -> bool:
        return not self.stored or self.lost <= self.bound


@dataclass(frozen=True, kw_only=True)
class Series:
    """The closes of one upload, and what came of it."""

    way: str
    rate: float
    size: int
    closes: Sequence[Closed]
    sent: int
    """Bytes that the proxy took in all visits."""


def series(way: str, rate: float, closes: int, seed: int, directory: Path, store: local_store.LocalStore) -> Series:
    """Close the page of one upload again and again, then let it end."""
    from playwright.sync_api import sync_playwright

    from tests.tools.browser import Profile
    from tests.tools.buffering_proxy import buffering_proxy
    from tests.tools.page import clip
    from tests.tools.service import serving

    chance, found = random.Random(f"{seed} {rate} {way}"), []
    size = max(int(rate * SECONDS * closes), 4 * PART)
    file = clip(directory, size)
    with (
        sync_playwright() as playwright,
        buffering_proxy(store.endpoint_url, rate, in_turn=WAYS[way]) as proxy,
        serving(
            store, directory / "home", "--client-endpoint-url", proxy.url, "--requests", "10000", "--sweep-every", "0"
        ) as service,
    ):
        profile = Profile(playwright, directory / "profile")
        for _ in range(closes):
            taken, stored, seconds = proxy.accepted, proxy.stored, chance.uniform(SOONEST, LATEST)
            with profile.page() as page:
                page.open(service.url, service.key)
                page.choose(file)
                while proxy.accepted == taken:
                    time.sleep(0.01)
                time.sleep(seconds)
                lost, kept = proxy.held, proxy.stored - stored
                profile.kill()
            found.append(Closed(way=way, rate=rate, seconds=seconds, stored=kept, lost=lost))
            print(line(found[-1]), flush=True)
        proxy.rate = None
        with profile.page() as page:
            page.open(service.url, service.key)
            page.choose(file)
            page.expect_done()
        return Series(way=way, rate=rate, size=size, closes=found, sent=proxy.accepted)


def line(each: Closed) -> str:
    """Return a row of the table."""
    return (
        f"| {each.way} | {each.rate / 1e6:g} MB/s | {each.seconds:.1f} s | {each.stored / 1e6:.1f} | "
        f"{each.lost / 1e6:.2f} | {each.lost / each.rate:.1f} s | {each.bound / 1e6:.2f} | "
        f"{'yes' if each.holds else 'NO'} |"
    )


def targets(found: Sequence[Series]) -> list[Target]:
    made = []
    for each in found:
        lost = sorted(closed.lost for closed in each.closes)
        holding = sum(closed.holds for closed in each.closes)
        made.append(
            Target(
                what=f"{each.rate / 1e6:g} MB/s, {each.way}: a closed page loses at most ten seconds or one part",
                found=f"{holding} of {len(lost)}; median {lost[len(lost) // 2] / 1e6:.1f} MB, at most "
                f"{lost[-1] / 1e6:.1f} MB; sent {each.sent / each.size:.2f} × the file",
                holds=holding == len(lost),
            )
        )
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="0.5MB/s,2MB/s,10MB/s", metavar="RATE,…", help="Of the proxy.")
    parser.add_argument("--closes", type=int, default=10, metavar="N", help="Closes of each upload. [10]")
    parser.add_argument("--seed", type=int, default=0, help="Chooses the moments.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write all figures there.")
    arguments = parser.parse_args()
    found: list[Series] = []
    with tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
        store = local_store.start(Path(name) / "store")
        try:
            print("| the proxy passes on | at | closed after | MB stored | MB lost | lost | bound, MB | holds |")
            print("|---|---|---|---|---|---|---|---|", flush=True)
            for number, rate in enumerate(map(parse_rate, arguments.rates.split(","))):
                for way in WAYS:
                    directory = Path(name) / f"{number} {way}"
                    directory.mkdir()
                    found.append(series(way, rate, arguments.closes, arguments.seed, directory, store))
        finally:
            local_store.stop(Path(name) / "store")
    checked = targets(found)
    if arguments.json is not None:
        report.write(arguments.json, "closed_page", {"series": found}, checked)
    return report.conclude(checked)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
