"""The contestants and their settings: the defaults, and `:tuned` with settings from the peer's documentation.

All verify the store's certificate and sign. All get the same file, endpoint and credentials. None reads the user's
configuration. `proof` is what a contestant sends to let the store verify a part. A contestant without it saves that
work, so the targets about integrity leave it out.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .peering import Peers
from .stores import Store

MIB = 1 << 20
OURS = "bigupload"
TARGET = "s3://{job.bucket}/{job.key}"
MC_HOST = {"MC_HOST_null": "{scheme}://{job.access_key}:{job.secret_key}@{host}"}
RCLONE_REMOTE = {
    "RCLONE_CONFIG_NULL_TYPE": "s3",
    "RCLONE_CONFIG_NULL_PROVIDER": "Other",
    "RCLONE_CONFIG_NULL_ENDPOINT": "{job.url}",
    "RCLONE_CONFIG_NULL_ENV_AUTH": "true",
}
RCLONE_TUNED = ["--s3-upload-concurrency", "16", "--s3-chunk-size", "16Mi", "--s3-no-check-bucket", "--s3-no-head"]
S5CMD_TUNED = ["--concurrency", "16", "--part-size", "16"]
_SCRIPTS = Path(__file__).parent / "peers"
_TREE = Path(__file__).parent.parent
AWS_TUNED = {"AWS_CONFIG_FILE": str(_SCRIPTS / "aws-tuned.ini")}
NONE, CRC32, CRC32C, CRC64, MD5, SHA256 = "", "CRC32", "CRC32C", "CRC64NVME", "MD5", "SHA-256"
"""The checksum that is sent with a part, as seen in the requests, not taken from documentation. SHA-256 is that of the
payload in SigV4's signature."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """An upload to make. `scratch` is the contestant's new, empty home directory."""

    url: str
    ca: Path | None
    bucket: str
    key: str
    file: Path
    scratch: Path
    access_key: str
    secret_key: str = field(repr=False)
    region: str
    warm: Path | None = None
    """A small file to send first, if the upload is measured within a running process."""

    @classmethod
    def at(cls, store: Store, file: Path, scratch: Path, warm: Path | None = None) -> Job:
        """An upload of a file to a store, under the file's name."""
        return cls(
            url=store.url,
            ca=store.ca,
            bucket=store.bucket,
            key=file.name,
            file=file,
            scratch=scratch,
            access_key=store.access_key,
            secret_key=store.secret_key,
            region=store.region,
            warm=warm,
        )

    @property
    def secure(self) -> bool:
        return self.url.startswith("https:")

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return self.file.stat().st_size


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """`proof` by scheme: the checksum that is sent with a part."""

    name: str
    argv: Callable[[Job], list[str]]
    http: str
    https: str
    settings: Mapping[str, str] = field(default_factory=dict)
    inside: Callable[[Job], list[str]] | None = None
    """The same within a running process: prints the seconds and the CPU time as JSON."""

    @property
    def family(self) -> str:
        return self.name.partition(":")[0]

    @property
    def tuned(self) -> bool:
        return ":" in self.name

    def proof(self, *, tls: bool) -> str:
        return self.https if tls else self.http

    def environment(self, job: Job) -> dict[str, str]:
        """Nothing of the caller's but the search paths, so that nobody has a configuration that others lack."""
        found = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        found |= {
            "HOME": str(job.scratch),
            "AWS_ACCESS_KEY_ID": job.access_key,
            "AWS_SECRET_ACCESS_KEY": job.secret_key,
            "AWS_DEFAULT_REGION": job.region,
            "AWS_REGION": job.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if job.ca is not None:
            found |= {"AWS_CA_BUNDLE": str(job.ca), "SSL_CERT_FILE": str(job.ca)}
        return found | {name: _filled(value, job) for name, value in self.settings.items()}


def _filled(text: str, job: Job) -> str:
    scheme, _, host = job.url.partition("://")
    return text.format(job=job, scheme=scheme, host=host)


def _script(python: str, script: str, options: Mapping[str, Any]) -> Callable[[Job], list[str]]:
    def argv(job: Job) -> list[str]:
        fields = {
            "url": job.url,
            "ca": str(job.ca) if job.ca else None,
            "bucket": job.bucket,
            "key": job.key,
            "file": str(job.file),
            "access_key": job.access_key,
            "secret_key": job.secret_key,
            "region": job.region,
            "options": dict(options),
            "warm": str(job.warm) if job.warm else None,
        }
        return [python, str(_SCRIPTS / script), json.dumps(fields)]

    return argv


def library(name: str, python: str | None, script: str, http: str, https: str, **options: Any) -> list[Contestant]:
    """A peer that is a library, with a script for it; none where it is not installed."""
    if python is None:
        return []
    argv = _script(python, script, options)
    return [Contestant(name=name, argv=argv, inside=argv, http=http, https=https)]


def command(
    name: str,
    binary: str | None,
    arguments: list[str],
    http: str,
    https: str,
    settings: Mapping[str, str] | None = None,
) -> list[Contestant]:
    """A peer that is a command. Its arguments and settings may contain {job}, {scheme} and {host}."""
    if binary is None:
        return []

    def argv(job: Job) -> list[str]:
        return [binary, *(_filled(each, job) for each in arguments)]

    return [Contestant(name=name, argv=argv, http=http, https=https, settings=settings or {})]


def ourselves(
    name: str = OURS, *options: str, piped: bool = False, python: str = sys.executable, tree: Path = _TREE
) -> Contestant:
    """The command with its defaults, or with more options, which may contain {job}. `piped`: of standard input.

    `python` is the interpreter, and `tree` has the package: by default this checkout's, which may not be installed.
    """

    def argv(job: Job) -> list[str]:
        what = "-" if piped else str(job.file)
        to = ["--to", f"s3://{job.bucket}/{job.key}", "--endpoint-url", job.url]
        more = [_filled(option, job) for option in options]
        return [python, "-m", "bigupload", "upload", what, *to, "--json", "--progress", "none", *more]

    settings = {"BIGUPLOAD_STATE_DIR": "{job.scratch}/state", "PYTHONPATH": str(tree)}
    inside = _script(python, "with_bigupload.py", {})
    return Contestant(name=name, argv=argv, inside=inside, http=CRC64, https=CRC64, settings=settings)


def everyone(peers: Peers) -> dict[str, Contestant]:
    """Return the installed contestants by name, bigupload first."""
    found = [ourselves(), *_of_boto3(peers), *_of_other_libraries(peers), *_of_commands(peers)]
    return {each.name: each for each in found}


def only(names: str | None, installed: Sequence[Contestant]) -> list[Contestant]:
    """Return bigupload and those that are named, with commas between them. Without names, all."""
    wanted = {OURS, *names.split(",")} if names else {each.name for each in installed}
    return [each for each in installed if each.name in wanted]


def _of_boto3(peers: Peers) -> list[Contestant]:
    """Return boto3 and the peers based on it. Over http, 16 threads on two cores were slower than its default of
    ten."""
    python, aio = peers.python("main", "boto3"), peers.python("aioboto3", "aioboto3")
    larger = {"multipart_chunksize": 16 * MIB, "multipart_threshold": 16 * MIB}
    classic = {"preferred_transfer_client": "classic"}
    return [
        *library("boto3", python, "with_boto3.py", CRC32, CRC32, **classic),
        *library("boto3:tuned", python, "with_boto3.py", CRC32, CRC32, **classic, **larger, max_concurrency=8),
        *library("boto3-crt", python, "with_boto3_crt.py", CRC32, CRC32),
        *library("boto3-crt:tuned", python, "with_boto3_crt.py", CRC32, CRC32, part_size=16 * MIB),
        *library("aioboto3", aio, "with_aioboto3.py", CRC32, CRC32),
        *library("aioboto3:tuned", aio, "with_aioboto3.py", CRC32, CRC32, **larger, max_concurrency=8),
    ]


def _of_other_libraries(peers: Peers) -> list[Contestant]:
    crt, obstore, minio = (peers.python("main", module) for module in ("awscrt", "obstore", "minio"))
    fast = {"part_size": 16 * MIB, "throughput_target_gbps": 25}
    unsigned = {"chunk_size": 16 * MIB, "max_concurrency": 16, "unsigned_payload": True}
    return [
        *library("crt", crt, "with_crt.py", NONE, NONE),
        *library("crt:tuned", crt, "with_crt.py", NONE, NONE, **fast),
        *library("crt:crc", crt, "with_crt.py", CRC64, CRC64, **fast, checksum="CRC64NVME"),
        *library("obstore", obstore, "with_obstore.py", SHA256, SHA256),
        *library("obstore:tuned", obstore, "with_obstore.py", NONE, NONE, **unsigned),
        *library("minio", minio, "with_minio.py", SHA256, MD5),
        *library("minio:tuned", minio, "with_minio.py", SHA256, MD5, part_size=16 * MIB, num_parallel_uploads=8),
    ]


def _of_commands(peers: Peers) -> list[Contestant]:
    s5cmd, aws, rclone = (peers.command(name) for name in ("s5cmd", "aws", "rclone"))
    mc = peers.command("mc", "minio-client")
    s5 = ["--endpoint-url", "{job.url}", "cp"]
    mc_to = ["{job.file}", "null/{job.bucket}/{job.key}"]
    mc_put = ["--quiet", "put", "--parallel", "8", "--part-size", "16MiB"]
    rc = ["copyto", "{job.file}", "null:{job.bucket}/{job.key}"]
    cli = ["--endpoint-url", "{job.url}", "s3", "cp", "--no-progress", "{job.file}", TARGET]
    both = f"{SHA256}, {MD5}"
    return [
        *command("s5cmd", s5cmd, [*s5, "{job.file}", TARGET], both, both),
        *command("s5cmd:tuned", s5cmd, [*s5, *S5CMD_TUNED, "{job.file}", TARGET], both, both),
        *command("mc", mc, ["--quiet", "cp", *mc_to], SHA256, NONE, MC_HOST),
        *command("mc:tuned", mc, [*mc_put, *mc_to], SHA256, NONE, MC_HOST),
        *command("mc:crc", mc, [*mc_put, "--checksum", "CRC64NVME", *mc_to], CRC64, CRC64, MC_HOST),
        *command("rclone", rclone, rc, both, MD5, RCLONE_REMOTE),
        *command("rclone:tuned", rclone, [*rc, *RCLONE_TUNED], both, MD5, RCLONE_REMOTE),
        *command("aws-cli", aws, cli, CRC32, CRC32),
        *command("aws-cli:tuned", aws, cli, CRC32, CRC32, AWS_TUNED),
    ]
