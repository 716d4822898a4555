"""What is tried with every store, through `python -m bigupload`. Objects are compared byte by byte through boto3."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bigupload.testing.fault_proxy import FaultProxy
from bigupload.testing.faults import Stall

from .lacking import what_it_lacks
from .launching import Store
from .trial_client import BUCKET, WITHIN, Client, Failed

SIZES = {"empty": 0, "one part": 3_000_000, "3 parts": 15_000_000}
_LONG = 42_000_000
"""Bytes of the file whose upload is killed: nine parts."""
_KILL_AFTER = 3
"""Parts that the manifest has."""
_LAGS = 5
"""The part whose first PUT stalls, when enough others have arrived to notice it."""


@dataclass
class Trial:
    """What came of one store."""

    store: Store
    steps: dict[str, str] = field(default_factory=dict)
    """Each step, and what was said where it failed; "" where it worked."""
    proofs: dict[str, str] = field(default_factory=dict)
    """The level of proof of each size, and of `verify`."""
    lacks: list[str] = field(default_factory=list)

    def surprises(self) -> list[str]:
        """What is not as the store's module says."""
        found = [
            f"{self.store.name}: {step}: {said or 'it works, and was known to fail'}"
            for step, said in self.steps.items()
            if bool(said) != (step in self.store.fails) or self.store.fails.get(step, "") not in said
        ]
        proof = self.proofs.get("3 parts")
        if proof != self.store.proof:
            found.append(f"{self.store.name}: proved by {proof} instead of {self.store.proof}")
        return found


def try_store(store: Store, environments: Path, directory: Path) -> Trial:
    """Install, start, try and stop it. Raises Unavailable where it cannot be installed or started."""
    environment = store.install(environments)
    directory.mkdir(parents=True)
    with store.start(environment, directory / "store") as running:
        client = Client(running, directory / "home", store.arguments)
        client.home.mkdir()
        return _Trials(Trial(store), client, directory).run()


def _file(directory: Path, size: int) -> Path:
    path = directory / f"{size}.bin"
    if not path.exists():
        path.write_bytes(random.Random(size).randbytes(size))
    return path


class _Trials:
    """The steps, in order; each stands for itself, and one that fails stops none that follows."""

    def __init__(self, trial: Trial, client: Client, directory: Path) -> None:
        self._trial = trial
        self._client = client
        self._directory = directory
        self._s3: Any = client.boto3()
        self._s3.create_bucket(Bucket=BUCKET)
        self._long = _file(directory, _LONG)

    def run(self) -> Trial:
        for name, size in SIZES.items():
            self._step(name, lambda name=name, size=size: self._size(name, size))
        if self._client.arguments:
            self._step("default checksum", self._default_checksum)
        self._step("metadata", self._metadata)
        self._step("resume", self._resume)
        self._step("no-resume", self._no_resume)
        self._step("verify", self._verify)
        self._step("download", lambda: self._client.run("verify", self._three, f"s3://{BUCKET}/3 parts", "--download"))
        self._step("replace", self._replace)
        self._step("delta", self._delta)
        self._step("if-none-match", self._if_none_match)
        self._step("gc", self._gc)
        self._step("abort", self._abort)
        self._step("hedge", self._hedge)
        if self._trial.store.many_parts:
            self._step("many parts", self._many_parts)
        self._trial.lacks = what_it_lacks(self._s3)
        return self._trial

    def _step(self, name: str, step: Callable[[], object]) -> None:
        try:
            step()
        except (Failed, AssertionError) as e:
            self._trial.steps[name] = str(e) or "it is not as it should be"
        else:
            self._trial.steps[name] = ""

    @property
    def _three(self) -> Path:
        return _file(self._directory, SIZES["3 parts"])

    def _holds(self, key: str, file: Path) -> None:
        found = self._s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        assert found == file.read_bytes(), f"the object {key} is not the file"

    def _size(self, name: str, size: int) -> None:
        file = _file(self._directory, size)
        self._trial.proofs[name] = self._client.upload(file, name)["verified"]
        self._holds(name, file)

    def _default_checksum(self) -> None:
        """Without the arguments that this store is said to need."""
        plain = Client(self._client.running, self._client.home)
        plain.upload(self._three, "default")

    def _metadata(self) -> None:
        more = ("--metadata", "take=seven", "--content-type", "video/x-trial")
        self._client.upload(self._three, "metadata", *more)
        head = self._s3.head_object(Bucket=BUCKET, Key="metadata")
        kept = {name.lower(): value for name, value in head["Metadata"].items()}
        assert kept.get("take") == "seven", f"metadata came back as {head['Metadata']}"
        assert head["ContentType"] == "video/x-trial", f"the content type came back as {head['ContentType']}"

    def _killed(self, key: str) -> Path:
        """The manifest of an upload whose process was killed when some parts were recorded."""
        manifest = self._directory / f"{key}.manifest.jsonl"
        slowly = ("--limit-rate", "8MB/s", "--concurrency", "2")
        target = ("--to", f"s3://{BUCKET}/{key}", "--part-size", "5MiB", "--manifest", manifest)
        command = self._client.command("upload", self._long, *target, *slowly, *self._client.arguments)
        uploading = subprocess.Popen(
            command, env=self._client.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + WITHIN
        try:
            while not manifest.exists() or manifest.read_text().count('"type":"part"') < _KILL_AFTER:
                assert uploading.poll() is None, "the upload ended before it could be killed"
                assert time.monotonic() < deadline, "no part arrived"
                time.sleep(0.02)
        finally:
            uploading.send_signal(signal.SIGKILL)
            uploading.wait()
        return manifest

    def _resume(self) -> None:
        manifest = self._killed("resumed")
        result = self._client.upload(self._long, "resumed", "--manifest", manifest)
        self._holds("resumed", self._long)
        assert result["resumed_parts"] >= _KILL_AFTER, f"only {result['resumed_parts']} parts were resumed"
        assert result["bytes_sent"] < _LONG, "every part was sent again"

    def _no_resume(self) -> None:
        """What the error of a resume that cannot be advises."""
        manifest = self._killed("anew")
        self._client.upload(self._long, "anew", "--manifest", manifest, "--no-resume")
        self._holds("anew", self._long)

    def _verify(self) -> None:
        self._trial.proofs["verify"] = self._client.run("verify", self._three, f"s3://{BUCKET}/3 parts").strip()

    def _replace(self) -> None:
        other = _file(self._directory, SIZES["one part"])
        self._client.upload(other, "metadata")
        self._holds("metadata", other)

    def _delta(self) -> None:
        """One byte is changed. Whether the store copies the rest of the object or not, it becomes the file."""
        file = self._directory / "delta.bin"
        data = bytearray(self._three.read_bytes())
        for _ in range(2):
            file.write_bytes(data)
            self._client.run("upload", file, "--to", f"s3://{BUCKET}/delta", "--delta", *self._client.arguments)
            self._holds("delta", file)
            data[len(data) // 2] ^= 1

    def _if_none_match(self) -> None:
        key, other = "one part", self._three
        said = ""
        try:
            self._client.upload(other, key, "--if-none-match")
        except Failed as e:
            said = str(e)
        assert "exists" in said, said or "the object was replaced although --if-none-match forbids it"
        self._holds(key, _file(self._directory, SIZES[key]))

    def _gc(self) -> None:
        self._killed("open")
        said = self._client.run("gc", f"s3://{BUCKET}/open", "--dry-run")
        assert " 0 " in said, said
        assert "1 not idle" in said, said

    def _abort(self) -> None:
        manifest = self._killed("aborted")
        self._client.run("abort", manifest)
        left = self._s3.list_multipart_uploads(Bucket=BUCKET, Prefix="aborted").get("Uploads", [])
        assert not [row for row in left if row["Key"] == "aborted"], "the aborted upload is still open"

    def _many_parts(self) -> None:
        """Compared by the ETag of its parts: reading it back takes as long again, and every other step does so."""
        file = self._directory / "many.bin"
        with file.open("wb") as out:
            for seed in range(self._trial.store.many_parts // 1_000_000):
                out.write(random.Random(seed).randbytes(1_000_000))
        sent = self._client.upload(file, "many")["bytes_sent"]
        self._trial.proofs["many parts"] = self._client.run("verify", file, f"s3://{BUCKET}/many").strip()
        assert sent < 3 * self._trial.store.many_parts, f"{sent:,} bytes were sent"

    def _hedge(self) -> None:
        """A part whose first PUT stalls is sent a second time, or alone if the store needs that."""
        running = self._client.running
        with FaultProxy("127.0.0.1", running.port, keys=(running.access_key, running.secret_key)) as proxy:
            proxy.script("UploadPart", Stall(after_bytes=1_000_000), part_number=_LAGS)
            self._client.upload(self._long, "hedged", endpoint=proxy.url)
        self._holds("hedged", self._long)
