"""`python -m tests.fuzz TARGET --minutes N`: ends with status 0, or with the bytes that broke something in a file."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path


def mutate(rng: random.Random, samples: list[bytes], tokens: list[bytes]) -> bytes:
    """A sample with a few things changed: bytes, tokens, pieces of others."""
    data = bytearray(rng.choice(samples))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at, end = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
        match rng.randrange(7):
            case 0 if data:
                data[min(at, len(data) - 1)] = rng.randrange(256)
            case 1:
                data[at:at] = rng.choice(tokens)
            case 2:
                data[at : min(end, at + 12)] = rng.choice(tokens)
            case 3:
                del data[at : min(end, at + 40)]
            case 4:
                other = rng.choice(samples)
                data[at:] = other[rng.randrange(len(other) + 1) :]
            case 5:
                data[at:at] = data[at:end] * rng.choice((1, 1, 2, 50))
            case _:
                # A JSON or XML value as a whole: between two of its delimiters.
                marks = [i for i, c in enumerate(data) if c in b':,<>"[]{}']
                if len(marks) > 1:
                    i = rng.randrange(len(marks) - 1)
                    data[marks[i] + 1 : marks[i + 1]] = rng.choice(tokens)
        del data[1 << 20 :]
    return bytes(data)


def run(name: str, *, seed: int, seconds: float, times: int | None = None) -> int:
    """Mutations of the samples, until the time is over or so many `times`. Raises what the target raises."""
    from tests.fuzz.targets import SAMPLES, TARGETS, TOKENS

    rng, until, count = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < until and (times is None or count < times):
        data = mutate(rng, SAMPLES[name], TOKENS)
        began = time.monotonic()
        try:
            TARGETS[name](data)
        except Exception:
            Path(f"crash-{name}-{seed}-{count}").write_bytes(data)
            raise
        assert time.monotonic() - began < 10, f"{name}: {len(data)} bytes took {time.monotonic() - began:.1f} s"
        count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=["manifest", "http", "s3", "service"])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-atheris", action="store_true", help="mutations alone, also where atheris is installed")
    arguments = parser.parse_args()
    try:
        import atheris
    except ImportError:
        atheris = None
    if atheris is None or arguments.no_atheris:
        done = run(arguments.target, seed=arguments.seed, seconds=60 * arguments.minutes)
        print(f"{arguments.target}: {done:,} inputs, no find (seed {arguments.seed}, by mutation)")
        return
    with atheris.instrument_imports(include=["bigupload"]):
        from tests.fuzz.targets import SAMPLES, TARGETS, TOKENS
    with tempfile.TemporaryDirectory() as corpus:
        for number, sample in enumerate(SAMPLES[arguments.target]):
            (Path(corpus) / str(number)).write_bytes(sample)
        dictionary = Path(corpus).with_suffix(".dict")
        quoted = ["".join(f"\\x{c:02x}" for c in token) for token in TOKENS if len(token) <= 64]
        dictionary.write_text("".join(f'"{text}"\n' for text in quoted))
        atheris.Setup(
            [
                sys.argv[0], corpus, f"-dict={dictionary}", f"-max_total_time={int(60 * arguments.minutes)}",
                f"-seed={arguments.seed}", "-max_len=65536", "-timeout=10", "-rss_limit_mb=1024",
                "-print_final_stats=1",
            ],
            TARGETS[arguments.target],
        )  # fmt: skip
        atheris.Fuzz()


if __name__ == "__main__":
    main()
