"""The contestants that upload what comes through a pipe. See `contestants` for what they have in common."""

from __future__ import annotations

from .contestants import (
    AWS_TUNED,
    CRC32,
    CRC32C,
    CRC64,
    MC_HOST,
    MD5,
    MIB,
    NONE,
    OURS,
    RCLONE_REMOTE,
    RCLONE_TUNED,
    S5CMD_TUNED,
    SHA256,
    TARGET,
    Contestant,
    command,
    library,
    ourselves,
)
from .peering import Peers

FAMILIES = frozenset({"boto3", "obstore", "minio", "s5cmd", "mc", "rclone", "aws-cli"})
_SIZE = "{job.size}"


def everyone(peers: Peers) -> dict[str, Contestant]:
    """Return the installed contestants by name, bigupload first. `:sized` is told the size of the stream."""
    found = [
        ourselves(piped=True),
        ourselves(f"{OURS}:sized", "--expected-size", _SIZE, piped=True),
        *_of_libraries(peers),
        *_of_python_commands(peers),
        *_of_go_commands(peers),
    ]
    return {each.name: each for each in found}


def _of_libraries(peers: Peers) -> list[Contestant]:
    boto3, obstore, minio = (peers.python("main", module) for module in ("boto3", "obstore", "minio"))
    classic = {"piped": True, "preferred_transfer_client": "classic"}
    larger = {"multipart_chunksize": 16 * MIB, "multipart_threshold": 16 * MIB}
    own = {"piped": True, "part_size": 10 * MIB}  # as in its documentation; it has no default for a stream
    unsigned = {"chunk_size": 16 * MIB, "max_concurrency": 16, "unsigned_payload": True}
    return [
        *library("boto3", boto3, "with_boto3.py", CRC32, CRC32, **classic),
        *library("boto3:crc", boto3, "with_boto3.py", CRC64, CRC64, **classic, checksum="CRC64NVME"),
        *library("boto3:tuned", boto3, "with_boto3.py", CRC32, CRC32, **classic, **larger, max_concurrency=8),
        *library("obstore", obstore, "with_obstore.py", SHA256, SHA256, piped=True),
        *library("obstore:tuned", obstore, "with_obstore.py", NONE, NONE, piped=True, **unsigned),
        *library("minio", minio, "with_minio.py", SHA256, MD5, **own),
        *library("minio:tuned", minio, "with_minio.py", SHA256, MD5, **own | {"part_size": 16 * MIB}),
    ]


def _of_python_commands(peers: Peers) -> list[Contestant]:
    aws = peers.command("aws")
    cli = ["--endpoint-url", "{job.url}", "s3", "cp", "--no-progress", "-", TARGET]
    crc = ["--checksum-algorithm", "CRC64NVME"]
    return [
        *command("aws-cli", aws, cli, CRC32, CRC32),
        *command("aws-cli:sized", aws, [*cli, "--expected-size", _SIZE], CRC32, CRC32),
        *command("aws-cli:crc", aws, [*cli, *crc], CRC64, CRC64),
        *command("aws-cli:tuned", aws, [*cli, *crc], CRC64, CRC64, AWS_TUNED),
    ]


def _of_go_commands(peers: Peers) -> list[Contestant]:
    s5cmd, rclone, mc = peers.command("s5cmd"), peers.command("rclone"), peers.command("mc", "minio-client")
    both = f"{SHA256}, {MD5}"
    s5 = ["--endpoint-url", "{job.url}", "pipe"]
    rc, to = ["rcat"], "null:{job.bucket}/{job.key}"
    mc_pipe, mc_to = ["--quiet", "pipe"], "null/{job.bucket}/{job.key}"
    mc_tuned = ["--concurrent", "8", "--part-size", "16MiB"]
    mc_crc = ["--checksum", "CRC64NVME"]
    return [
        *command("s5cmd", s5cmd, [*s5, TARGET], both, both),
        *command("s5cmd:tuned", s5cmd, [*s5, *S5CMD_TUNED, TARGET], both, both),
        *command("rclone", rclone, [*rc, to], both, MD5, RCLONE_REMOTE),
        *command("rclone:sized", rclone, [*rc, "--size", _SIZE, to], both, MD5, RCLONE_REMOTE),
        *command("rclone:tuned", rclone, [*rc, *RCLONE_TUNED, to], both, MD5, RCLONE_REMOTE),
        *command("mc", mc, [*mc_pipe, mc_to], CRC32C, CRC32C, MC_HOST),
        *command("mc:crc", mc, [*mc_pipe, *mc_crc, mc_to], CRC64, CRC64, MC_HOST),
        *command("mc:tuned", mc, [*mc_pipe, *mc_tuned, mc_to], CRC32C, CRC32C, MC_HOST),
        *command("mc:tuned-crc", mc, [*mc_pipe, *mc_tuned, *mc_crc, mc_to], CRC64, CRC64, MC_HOST),
    ]
