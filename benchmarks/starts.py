"""The cost of a start with each source of credentials.  `python -m benchmarks starts [--old REF]`

A file of 1 KiB is uploaded, and an upload that was killed half way is resumed: the whole process counts. The keys are
static, or come from a `credential_process`, from a role by a web identity (a fake STS on 127.0.0.1), or from the
machine's own role (a fake IMDS on 127.0.0.1). The contestants take turns: this version, another one (`--old`), boto3's
upload_file, and boto3 that only finds the keys.

The exit status is 1 if an upload with one of the other sources takes more than 1.1 × the CPU time of static keys and of
finding the keys by boto3 together, or if static keys take more than 1.05 × what they took in the other version.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import report
from .children import Ended, run
from .contest import turn
from .peering import default_directory
from .report import Spread, Target
from .stores import BUCKET, REGION, Store, null_store
from .versions import Version, installed

_ROOT = Path(__file__).parent.parent
_MIB = 1 << 20
_BOTO3 = """import sys, boto3
boto3.client("s3", endpoint_url=sys.argv[1]).upload_file(sys.argv[2], "bucket", "key")"""
_KEYS = "import boto3; print(boto3.Session().get_credentials().get_frozen_credentials().access_key)"
MOST_OF_SOURCE = 1.1
MOST_OF_OLD = 1.05


class _Side(http.server.BaseHTTPRequestHandler):
    """A fake STS and a fake IMDS."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the standard library
        """Say nothing."""

    def _answer(self, text: str, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self) -> None:
        self._answer("token", "text/plain")

    def do_GET(self) -> None:
        if self.path.endswith("/security-credentials/"):
            self._answer("role", "text/plain")
            return
        keys = {"Code": "Success", "AccessKeyId": "AK", "SecretAccessKey": "SK", "Token": "T", "Expiration": _later()}
        self._answer(json.dumps(keys), "application/json")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        keys = {"AccessKeyId": "AK", "SecretAccessKey": "SK", "SessionToken": "T", "Expiration": _later()}
        inner = "".join(f"<{name}>{value}</{name}>" for name, value in keys.items())
        action = "AssumeRoleWithWebIdentity"
        self._answer(
            f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result><Credentials>{inner}'
            f"</Credentials></{action}Result></{action}Response>",
            "text/xml",
        )


def _later() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 6 * 3600))


@contextlib.contextmanager
def _side() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Side)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def sources(side: str, home: Path) -> dict[str, dict[str, str]]:
    """Return the environment of each source of credentials."""
    (home / "token").write_text("a.b.c")
    keys = json.dumps({"Version": 1, "AccessKeyId": "AK", "SecretAccessKey": "SK"})
    (home / "process").write_text(f"#!/bin/sh\necho '{keys}'\n")
    (home / "process").chmod(0o755)
    (home / "config").write_text(f"[profile made]\nregion = {REGION}\ncredential_process = {home / 'process'}\n")
    return {
        "static keys": {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK"},
        "credential_process": {"AWS_PROFILE": "made", "AWS_CONFIG_FILE": str(home / "config")},
        "web identity": {
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(home / "token"),
            "AWS_ENDPOINT_URL_STS": side,
        },
        "machine's role": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": side},
    }


@dataclass
class _Round:
    """What all runs of one round share."""

    store: Store
    small: Path
    large: Path
    home: Path
    runs: dict[tuple[str, str, str], list[Ended]] = field(default_factory=dict)

    def run(self, of: tuple[str, str, str], argv: list[str], environment: Mapping[str, str]) -> None:
        ended = run(argv, environment, patience=120)
        if ended.status != 0:
            raise SystemExit(f"{', '.join(of)}: {ended.complaint}")
        self.runs.setdefault(of, []).append(ended)


def _environment(version: Version, source: Mapping[str, str], home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_DEFAULT_REGION": REGION,
        "PYTHONPATH": str(version.tree),
        "BIGUPLOAD_STATE_DIR": str(home / "state"),
        **source,
    }


def _upload(version: Version, file: Path, store: Store, *more: str) -> list[str]:
    to = ["--to", f"s3://{BUCKET}/key", "--endpoint-url", store.url]
    return [version.python, "-m", "bigupload", "upload", str(file), *to, "--progress", "none", *more]


def _kill_half_way(version: Version, environment: Mapping[str, str], each: _Round) -> None:
    """Leave an upload of which two of four parts are in the store, and recorded."""
    small_parts = ("--part-size", "5MiB", "--concurrency", "1", "--limit-rate", "20MB/s")
    argv = _upload(version, each.large, each.store, *small_parts, "--no-resume")
    each.store.reset()
    with subprocess.Popen(argv, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            while each.store.counts()["parts"] < 2 and child.poll() is None:
                time.sleep(0.01)
            time.sleep(0.1)  # A part takes 0.26 s: the second is recorded now, and the third under way.
        finally:
            child.kill()
    each.store.reset()


def _resume(name: str, version: Version, environment: Mapping[str, str], source: str, each: _Round) -> None:
    _kill_half_way(version, environment, each)
    each.run((name, source, "resume"), _upload(version, each.large, each.store), environment)
    if (sent := each.store.counts()["parts"]) != 2:
        raise SystemExit(f"{name}, {source}: the upload sent {sent} parts instead of the two that were missing")


def measure(versions: Mapping[str, Version], side: str, each: _Round, progress: Callable[[str], None]) -> None:
    """Run every contestant once with each source."""
    bare = {"PATH": os.environ["PATH"], "HOME": str(each.home)}
    each.run(("python", "", "start"), [sys.executable, "-c", "pass"], bare)
    for source, settings in sources(side, each.home).items():
        for name, version in versions.items():
            environment = _environment(version, settings, each.home)
            each.run((name, source, "upload"), _upload(version, each.small, each.store, "--no-resume"), environment)
            _resume(name, version, environment, source, each)
        own = _environment(versions["bigupload"], settings, each.home)
        each.run(("boto3", source, "upload"), [sys.executable, "-c", _BOTO3, each.store.url, str(each.small)], own)
        each.run(("keys", source, "find"), [sys.executable, "-c", _KEYS], own)
        progress(source)


def table(runs: Mapping[tuple[str, str, str], list[Ended]], old: str | None) -> Iterator[str]:
    """Return the lines of a Markdown table: CPU seconds and wall seconds, medians."""
    yield f"| credentials | what | {old or 'before'} | bigupload | boto3 | boto3 finds the keys |"
    yield "|---|---|---|---|---|---|"
    for source, what in dict.fromkeys((source, what) for _, source, what in runs if what in ("upload", "resume")):
        cells = (("old", what), ("bigupload", what), ("boto3", what), ("keys", "find"))
        found = (runs.get((name, source, kind), []) for name, kind in cells)
        yield f"| {source} | {what} | {' | '.join(map(_cell, found))} |"


def _cell(ended: list[Ended]) -> str:
    if not ended:
        return ""
    return f"{_median(ended, 'cpu'):.3f} CPU s, {_median(ended, 'seconds'):.3f} s"


def _median(ended: list[Ended], figure: str) -> float:
    return Spread.of(getattr(each, figure) for each in ended).median


def targets(runs: Mapping[tuple[str, str, str], list[Ended]]) -> list[Target]:
    """Compare each source with static keys, and static keys with the other version."""
    bare = _median(runs["python", "", "start"], "cpu")
    found = []
    for name, source, what in runs:
        if name != "bigupload":
            continue
        ours = _median(runs[name, source, what], "cpu")
        if source == "static keys":
            if (old := runs.get(("old", source, what))) is not None:
                ratio = ours / _median(old, "cpu")
                said = f"{what}, static keys: CPU time ≤ {MOST_OF_OLD} × the other version's"
                found.append(Target(what=said, found=f"{ratio:.2f} ×", holds=ratio <= MOST_OF_OLD))
            continue
        most = _median(runs[name, "static keys", what], "cpu") + _median(runs["keys", source, "find"], "cpu") - bare
        said = f"{what}, {source}: CPU time ≤ {MOST_OF_SOURCE} × static keys and boto3's own part"
        found.append(Target(what=said, found=f"{ours / most:.2f} ×", holds=ours <= MOST_OF_SOURCE * most))
    return found


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--old", metavar="REF", help="A version in git to compare with.")
    made.add_argument("--rounds", type=int, default=9, metavar="N", help="Rounds after the warm-up. [9]")
    made.add_argument("--peers", type=Path, default=default_directory(), metavar="DIR", help="Where versions are.")
    made.add_argument("--lock", type=Path, metavar="FILE", help="Lock FILE for each round.")
    made.add_argument("--json", type=Path, metavar="FILE", help="Write all figures there.")
    arguments = made.parse_args()
    compileall.compile_dir(_ROOT / "bigupload", quiet=2)
    versions = {"bigupload": Version(python=sys.executable, tree=_ROOT)}
    if arguments.old:
        old = installed(arguments.old, arguments.peers)
        # The same interpreter and libraries: only the package differs.
        versions["old"] = Version(python=sys.executable, tree=old.tree)
    runs: dict[tuple[str, str, str], list[Ended]] = {}
    with _side() as side, tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
        small, large = Path(name) / "small.bin", Path(name) / "large.bin"
        small.write_bytes(os.urandom(1024))
        large.write_bytes(os.urandom(20 * _MIB))
        for number in range(arguments.rounds + 1):
            scratch = Path(name) / str(number)
            scratch.mkdir()
            with turn(arguments.lock), null_store()(scratch, number) as store:
                each = _Round(store, small, large, scratch)
                measure(versions, side, each, lambda source: print(".", end="", flush=True))
            if number:
                for of, ended in each.runs.items():
                    runs.setdefault(of, []).extend(ended)
    print()
    for line in table(runs, arguments.old):
        print(line)
    found = targets(runs)
    if arguments.json is not None:
        report.write(arguments.json, "starts", {"runs": {" / ".join(of): runs[of] for of in runs}}, found)
    return report.conclude(found)
