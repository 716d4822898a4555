"""Whether what came of an action is what must. Raises AssertionError; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bigupload import errors
from bigupload.errors import EXIT_RESUMABLE
from bigupload.testing.strict_s3 import Record

from .oracle import Done, Either, Ending, Proved, Refused
from .process import Action, Told
from .seen import Known, Seen


@dataclass(frozen=True, kw_only=True)
class Played:
    """An action that was carried out, or killed in the middle."""

    action: Action
    manifest: Path
    before: Seen
    after: Seen
    files_before: Mapping[str, bytes]
    files_after: Mapping[str, bytes]
    """Below the state directory, but for locks and the mark of the day's clean-up."""
    requests: Sequence[Record]
    taken: frozenset[str]
    """Upload ids that the user or a lifecycle rule ended, so far."""
    completed: frozenset[str]

    @property
    def untouched(self) -> bool:
        return self.files_before == self.files_after


def judge(played: Played, ending: Ending, told: Told) -> None:
    said = f"{ending}, and it was {told}"
    match ending:
        case Refused():
            assert (told.error, told.exit_code) == (ending.error, ending.exit_code), said
            _judge_refusal(played, ending, told)
        case Proved():
            assert told.error is None, said
            _judge_proof(played, ending, told)
        case Either(refused=refused) if told.error is not None:
            judge(played, refused, told)
        case Either():
            known, made = _known(played), played.after.made
            assert known.status == "completed", "proved, and the manifest does not say so"
            assert made is not None
            assert made.body == played.after.file.body == played.after.versions[known.fingerprint], said
        case Done():
            assert told.error is None, said
            assert set(told.orphans) == ending.listed, said
            assert not ending.given_up & set(played.after.open), said
            if played.action == "gc":
                assert played.untouched, "touched"
            else:
                assert _known(played).status == "aborted"
    appeared = set(played.after.open) - set(played.before.open)
    assert appeared <= played.after.owned(), "left an upload that no manifest has"
    judge_surroundings(played)


def _known(played: Played) -> Known:
    known = played.after.known(played.manifest)
    assert isinstance(known, Known), "there is no manifest"
    return known


def _judge_refusal(played: Played, ending: Refused, told: Told) -> None:
    if ending.untouched:
        assert played.untouched, "touched"
        assert (played.after.open, played.after.made) == (played.before.open, played.before.made), "touched"
    if ending.exit_code == EXIT_RESUMABLE:
        assert told.resumable
        if ending.error is not errors.ManifestUnwritable:  # which may have met the first record, or the last
            assert _known(played).live, "resumable, and there is nothing to resume"


def _judge_proof(played: Played, ending: Proved, told: Told) -> None:
    known, after = _known(played), played.after
    assert known.status == "completed", "proved, and the manifest does not say so"
    assert after.versions[known.fingerprint] == ending.body, "proved of other bytes"
    assert known.part_size == ending.part_size
    sent = {request.part_number for request in played.requests if request.op == "UploadPart"}
    assert sent == ending.sent, f"sent {sent} of {ending.sent}"
    assert told.resumed_parts == ending.resumed, f"resumed {told.resumed_parts} of {ending.resumed}"
    completed = any(request.op == "CompleteMultipartUpload" and request.status == 200 for request in played.requests)
    assert completed == ending.completes
    if completed:
        assert after.made is not None
        assert (after.made.upload_id, after.made.body) == (known.upload_id, ending.body)


def judge_surroundings(played: Played) -> None:
    """After a kill too: no upload vanishes that was not aborted, and no other manifest changes."""
    vanished = set(played.before.open) - set(played.after.open) - played.taken
    assert vanished <= played.completed, f"gave up {vanished} by itself"
    assert _others(played.before, played.manifest) == _others(played.after, played.manifest), "changed another manifest"


def _others(seen: Seen, manifest: Path) -> dict[Path, object]:
    return {path: known for path, known in seen.manifests.items() if path != manifest}
