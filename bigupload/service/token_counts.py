"""How many uploads were begun with a token: counted in the store, for all replicas.

Each upload takes a place, which is an empty object. It is written on the condition that it does not exist, so that of
two replicas one gets it. A create that is repeated, because its response was lost, finds the upload that it made, and
takes no second place. The notes lie beside those of refused uploads, and are swept like them: a token ends sooner.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.records import dataclass
from bigupload.service import contract as c
from bigupload.service.media_objects import MediaBucket
from bigupload.service.object_keys import TOKENS_PREFIX
from bigupload.service.problems import Problem, Refused
from bigupload.service.store_health import quietly, store_faults_as_refusals
from bigupload.service.upload_tokens import UploadToken

_ATTEMPTS = 3
"""For one place, if the store asks to repeat a conditional PUT (409)."""
_WHAT_IS_MADE = {"filename", "content_type", "size", "checksum_algorithm", "part_size", "token", "user", "metadata"}
"""The fields of a create that make the upload; the others only save a call."""
_PROBE = f"{TOKENS_PREFIX}{0:040}/00001"


@dataclass(frozen=True, slots=True)
class MadeBefore:
    """The upload that an earlier request of the same client made."""

    key: str
    upload_id: str


class TokenCounts:
    """The places of all tokens of one bucket."""

    def __init__(self, objects: MediaBucket) -> None:
        self._objects = objects
        self._counts: bool | None = None
        """Whether the store refuses a conditional PUT of an object that exists; None: nobody asked yet."""

    async def check_store(self) -> None:
        """Raise Refused(UPLOADS_NOT_COUNTED) if the store ignores the condition, as some do."""
        if self._counts is None:
            with store_faults_as_refusals():
                await self._objects.put_new_note(_PROBE, {})
                self._counts = not await self._objects.put_new_note(_PROBE, {})
        if not self._counts:
            raise Refused(Problem.UPLOADS_NOT_COUNTED)

    async def take(self, token: UploadToken, undo: contextlib.AsyncExitStack) -> None:
        """Take a place for one upload, if the token has a number of them. `undo` gives it back.

        Raises:
            Refused: TOKEN_USED_UP or UPLOADS_NOT_COUNTED.
            Fault: The store failed.
        """
        if token.uploads is None:
            return
        await self.check_store()
        folder = _folder(token)
        taken = set(await self._objects.note_keys(folder, most=token.uploads * 2))
        for number in range(1, token.uploads + 1):
            place = f"{folder}{number:05}"
            if place not in taken and await self._write(place):
                undo.push_async_callback(quietly, self._objects.delete, place, etag="")
                return
        message = f"{token.uploads} uploads were begun with this upload token, and it allows no more"
        raise Refused(Problem.TOKEN_USED_UP, message if token.uploads > 1 else None)

    async def _write(self, place: str) -> bool:
        nonce = secrets.token_hex(16)
        for _ in range(_ATTEMPTS):
            try:
                return await self._objects.put_new_note(place, {"by": nonce})
            except Fault as fault:
                if fault.kind.may_have_acted and ((await self._objects.note(place)) or {}).get("by") == nonce:
                    return True
                if fault.kind is not FaultKind.CONFLICT:
                    raise
        return False

    async def made_before(self, token: UploadToken | None, request: c.CreateRequest) -> MadeBefore | None:
        """Return the upload that the same request made, if it counts and its response was lost. Raises Fault."""
        if token is None or token.uploads is None or request.token is None:
            return None
        note = await self._objects.note(_request_note(token, request))
        if note is None or not {"key", "upload"} <= note.keys():
            return None
        return MadeBefore(note["key"], note["upload"])

    async def remember(self, token: UploadToken | None, request: c.CreateRequest, made: MadeBefore) -> None:
        """Note which upload the request made. If that fails, a repeated request counts as another upload."""
        if token is not None and token.uploads is not None and request.token is not None:
            note = {"key": made.key, "upload": made.upload_id}
            await quietly(self._objects.put_note, _request_note(token, request), note)


def _folder(token: UploadToken) -> str:
    name = hashlib.sha256(f"{token.owner}\n{token.id}".encode()).hexdigest()[:40]
    return f"{TOKENS_PREFIX}{name}/"


def _request_note(token: UploadToken, request: c.CreateRequest) -> str:
    """The key of the note of a request. A request for another upload has another note."""
    said = request.model_dump_json(include=_WHAT_IS_MADE)
    return f"{_folder(token)}by-{hashlib.sha256(said.encode()).hexdigest()[:32]}"
