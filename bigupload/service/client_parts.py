"""Checks what a client says of its parts against the upload's plan. Pure: raises `Refused`, which names the field."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from bigupload import errors
from bigupload.core import checksums
from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import PartProof
from bigupload.core.manifest import PartRecord
from bigupload.core.part_plan import S3_LIMITS, Plan, plan_parts
from bigupload.ports import UnsignedPart
from bigupload.service import contract as c
from bigupload.service.handles import Handle
from bigupload.service.problems import Problem, Refused


def plan_of(request: c.CreateRequest) -> Plan:
    """The plan for an upload: with the client's part size, or the service's if the client names none."""
    try:
        return plan_parts(request.size, request.part_size, limits=S3_LIMITS)
    except errors.UsageError as e:
        raise Refused(Problem.UNSUPPORTED_PART_SIZE, str(e), field="partSize") from e


def parts_to_sign(plan: Plan, algorithm: Algorithm, parts: Sequence[c.PartToSign], field: str) -> list[UnsignedPart]:
    """The parts to sign, for the store's port. Raises Refused if one does not match the plan."""
    return [_part_to_sign(plan, algorithm, part, f"{field}[{i}]") for i, part in enumerate(parts)]


def _part_to_sign(plan: Plan, algorithm: Algorithm, part: c.PartToSign, field: str) -> UnsignedPart:
    if part.part_number > plan.count or plan.part(part.part_number).size != part.size:
        raise Refused(
            Problem.WRONG_PART,
            f"the upload has no part {part.part_number} of {part.size:,} bytes, but {plan.count} of {plan.part_size:,}",
            field=field,
        )
    headers: dict[str, str] = {}
    if part.checksum is not None and algorithm is not Algorithm.NONE:
        headers[algorithm.header] = _checked(algorithm, part.checksum, f"{field}.checksum")
    elif algorithm is not Algorithm.NONE:
        raise Refused(Problem.MISSING_CHECKSUM, field=f"{field}.checksum")
    if part.md5 is not None:
        headers[Algorithm.MD5.header] = _checked(Algorithm.MD5, part.md5, f"{field}.md5")
    return UnsignedPart(part.part_number, part.size, headers)


def _checked(algorithm: Algorithm, checksum: str, field: str) -> str:
    try:
        checksums.decode(algorithm, checksum)
    except ValueError as e:
        raise Refused(Problem.INVALID_FIELD, str(e), field=field) from e
    return checksum


def from_base64(text: str, field: str) -> bytes:
    """The bytes of a base64 field. Raises Refused."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as e:
        raise Refused(Problem.INVALID_FIELD, "the field is not base64", field=field) from e


def in_order(handle: Handle, parts: Sequence[c.CompletedPart]) -> list[PartRecord]:
    """The parts that complete names, in order. Raises Refused unless each part of the plan is named once."""
    plan = handle.plan
    if sorted(part.part_number for part in parts) != list(range(1, plan.count + 1)):
        raise Refused(Problem.WRONG_PART, f"name each of the {plan.count} parts once", field="parts")
    records = []
    for i, part in sorted(enumerate(parts), key=lambda row: row[1].part_number):
        if part.checksum is None and handle.algorithm.is_s3_checksum:
            raise Refused(Problem.MISSING_CHECKSUM, field=f"parts[{i}].checksum")
        checksum = "" if part.checksum is None else part.checksum
        if handle.algorithm.is_s3_checksum:
            _checked(handle.algorithm, checksum, f"parts[{i}].checksum")
        size = plan.part(part.part_number).size
        records.append(
            PartRecord(number=part.part_number, size=size, etag=part.etag, checksum=checksum, proof=PartProof.NONE)
        )
    return records


def combined(handle: Handle, parts: Sequence[PartRecord]) -> str | None:
    """The object's checksum, made of the parts' checksums; None if the upload declared none."""
    algorithm = handle.algorithm
    if not algorithm.is_s3_checksum:
        return None
    return checksums.combine(algorithm, [(checksums.decode(algorithm, part.checksum), part.size) for part in parts])
