"""Small files, each uploaded by one presigned PUT: hash, sign, PUT, prove.

It has the policy for retries, the slots, the transport and the proofs that parts have. What is proved of the one part
is proved of the whole object. A PUT whose response was lost is sent again: the same bytes under the same key. It is
never sent twice at a time, because in a bucket that keeps versions each PUT makes one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator

from bigupload import errors, events
from bigupload.core import checksums
from bigupload.core.checksums import Algorithm, Digests, Hashed
from bigupload.core.integrity import (
    LOOKS_INSTEAD,
    MAY_NOT_LOOK,
    NO_ETAG,
    ONLY_CONDITION,
    ChecksumMismatch,
    ObjectFacts,
    PartProof,
    Verified,
    prove_part,
)
from bigupload.core.part_plan import MIB, Part
from bigupload.core.retry_policy import Attempts, Fault, FaultKind, Retry, RetryPolicy
from bigupload.engine.context import PutInFlight, SharedSlots, UploadSettings, check_source
from bigupload.engine.in_flight import send
from bigupload.engine.part_hashing import PartHasher, hash_part
from bigupload.engine.retrying import Effects, Retrier
from bigupload.ports import Facts, ObjectStore, PutResponse, SignedRequest, Source, Transport, UnsignedPut
from bigupload.records import dataclass

MOST_BYTES = 8 * MIB
"""The largest file that is sent by one PUT. A larger one gains by parts: a kill loses less of it, and its parts are in
flight together. A limit computed from the round trip would save a tenth of the time up to 10 MB where no connection is
capped, and cost time where one is (benchmarks/README.md, "The start")."""
_HASHED_HERE = 256 * 1024
"""Bytes in memory that are hashed in the event loop: a CRC of them takes less time than a thread needs to begin."""
_MOST_LOOKS = 2
"""The number of times that a file whose metadata keeps changing is hashed again."""
_PROVES = {
    PartProof.CHECKSUM: Verified.FULL_OBJECT,
    PartProof.ETAG: Verified.COMPOSITE_ETAG,
    PartProof.MD5: Verified.SIZE,
    PartProof.NONE: Verified.SIZE,
}


CONDITION = "if-none-match"
_SHOWS_A_STORE = MIB
"""Bytes that no mistyped endpoint takes: a network that is away after them is an outage, which is waited out."""
_REPORT_EVERY = 3
"""Ticks between two reports of how much of a file was sent."""


class NothingProvesPut(Exception):
    """The store has the object, and proves less of it than is required. A multipart upload may prove more."""


@dataclass(frozen=True, slots=True)
class OptionalHeaders:
    """Headers that a store may not know."""

    checksum: bool
    condition: bool
    """If-None-Match."""

    def intersection(self, other: OptionalHeaders) -> OptionalHeaders:
        """Return those that both send."""
        return OptionalHeaders(self.checksum and other.checksum, self.condition and other.condition)

    def subsets(self) -> Iterator[OptionalHeaders]:
        """Yield the headers to try after refusals, the best proof first."""
        for checksum, condition in ((True, False), (False, True), (False, False)):
            less = OptionalHeaders(checksum, condition)
            if less != self and less.intersection(self) == less:
                yield less

    def is_named(self, fault: Fault) -> bool:
        """Whether a refusal names one of its headers."""
        return (self.condition and CONDITION in fault.named) or (self.checksum and fault.names_checksum)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """An object that one PUT made."""

    etag: str
    checksum: str | None
    """The checksum of the whole object, as S3 writes it; None if the store confirmed none."""
    verified: Verified
    version_id: str | None
    proof: PartProof
    attempts: int = 1
    """PUTs that it took."""


class SinglePuts:
    """Small files on their way to one bucket: those of one job, or of calls that overlap."""

    def __init__(
        self,
        store: ObjectStore,
        transport: Transport,
        shared: SharedSlots,
        settings: UploadSettings,
        effects: Effects = Effects(),  # noqa: B008 - it is frozen
        facts: Facts | None = None,
    ) -> None:
        """Send nothing yet.

        Args:
            store: The bucket, with the properties of most objects.
            transport: Sends the PUTs.
            shared: The slots, which all other uploads use, too.
            settings: The settings of each file.
            effects: The clock.
            facts: What earlier runs found out about the bucket; None: nothing is remembered.
        """
        self._effects = effects
        self._transport = transport
        self._shared = shared
        self._algorithm = settings.algorithm
        self._required = settings.require_proof
        self._priority = settings.priority
        self._slots = shared.slots.queue(lambda: 0, settings.priority)
        self._hashing = shared.hashing.queue(lambda: 0, settings.priority)
        self._puts: dict[PutInFlight, Callable[[int], None] | None] = {}
        """The PUTs in flight, each with the function that gets the bytes sent."""
        self._most = OptionalHeaders(settings.algorithm.is_s3_checksum, condition=not store.replaces)
        self._facts = facts
        self._refuses = f"put-{settings.algorithm}"
        """The name of the fact that the store refuses this checksum."""
        # What may have changed since must not cost a proof that is asked for.
        recalls = settings.recalls and self._most.checksum and Verified.COMPOSITE_ETAG.satisfies(settings.require_proof)
        self._recalled = facts.recall(self._refuses) if facts is not None and recalls else None
        """What was remembered, until it turns out to be wrong."""
        self.optional = (
            self._most if self._recalled is None else OptionalHeaders(checksum=False, condition=self._most.condition)
        )
        """The headers with which files are sent: fewer, once the store has taken a file only so."""
        self._confirmed = False
        """Whether the store has accepted a PUT as it is sent now."""
        self._with_md5 = settings.algorithm is Algorithm.MD5
        self._proves_nothing = False
        """Whether the warning that the store proves nothing of a PUT was given."""
        self._lacks_etags = self._may_not_look = False
        shared.expect_files()

    async def watch(self, policy: RetryPolicy, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Cancel PUTs that stall, adapt the number in flight, and report how much was sent, until cancelled.

        Args:
            policy: How long a PUT may stall.
            is_wanted: Asked a few times a second: if not, it ends.
        """
        ticks = 0
        while is_wanted():
            await self._effects.sleep(self._shared.tick)
            now = self._effects.clock()
            for put in self._puts:
                put.cancel_if_stalled(now, policy, self._shared)
            self._shared.adapt(now)
            ticks += 1
            if ticks % _REPORT_EVERY == 0:
                for put, report in list(self._puts.items()):
                    if report is not None:
                        report(put.sent())

    async def upload(
        self,
        source: Source,
        key: str,
        name: str,
        retrier: Retrier,
        *,
        store: ObjectStore,
        report: Callable[[int], None] | None = None,
    ) -> StoredFile:
        """Upload one file.

        Args:
            source: The file. It is not closed.
            key: The object's key.
            name: The file's name, for the object's type.
            retrier: Retries its requests. It also gets the warnings, and counts the bytes that are sent.
            store: Where it goes: the bucket, with the properties of its object.
            report: Called a few times a second with the bytes that were sent.

        Raises:
            NothingProvesPut: The store has the object, but proves less of it than is required.
            ProofTooWeak: The same, and no other upload may replace the object.
            BigUploadError: It failed.
        """
        found = None if store.replaces else await self.stat(store, key, retrier)
        if self._recalled is not None:
            self.use_md5(retrier.emit, f"the store refused {self._algorithm} checksums in an earlier run")
        part = Part(1, 0, source.fingerprint.size)
        one = _OnePut(self, store, source, part, key, name, retrier, report, self.optional)
        return await (one.until_proved() if found is None else one.made_before(found, "exists"))

    async def stat(self, store: ObjectStore, key: str, retrier: Retrier) -> ObjectFacts | None:
        """Look at an object; None if it does not exist, or, with one warning, if these credentials may not read it."""
        try:
            return await retrier.request(lambda: store.stat(key, self._algorithm))
        except errors.AccessDenied:
            if not self._may_not_look:
                self._may_not_look = True
                retrier.emit(events.Warned(message=ONLY_CONDITION))
            return None

    def headers(self, hashed: Hashed, optional: OptionalHeaders) -> dict[str, str]:
        """The headers that prove the content of what is sent."""
        headers = {}
        if optional.checksum:
            headers[self._algorithm.header] = hashed.checksum
        if hashed.md5 is not None:
            headers[Algorithm.MD5.header] = checksums.encode(hashed.md5)
        return headers

    async def hash(self, source: Source, part: Part, *, md5: bool) -> Hashed:
        """Hash a file, in a thread unless that takes longer."""
        here = part.size <= _HASHED_HERE and source.view(0, part.size) is not None
        wanted = Digests(self._algorithm, md5)
        if here and not wanted.is_empty:
            return hash_part(source, part, wanted, check=lambda: None)
        return await PartHasher(source, self._algorithm, self._hashing).hash(part, md5=md5)

    async def put(
        self,
        source: Source,
        part: Part,
        request: SignedRequest,
        retrier: Retrier,
        *,
        fresh: bool,
        report: Callable[[int], None] | None = None,
    ) -> PutResponse:
        """Send one PUT, for a caller that holds a slot.

        Raises:
            Fault: It failed.
        """
        put = PutInFlight(source, part, request, self._effects.clock(), priority=self._priority)
        self._puts[put] = report
        self._shared.first_puts.add(put)
        try:
            await send(
                put,
                transport=self._transport,
                shared=self._shared,
                counts=retrier.counts,
                clock=self._effects.clock,
                fresh=fresh,
            )
        finally:
            del self._puts[put]
            if put.sent() >= _SHOWS_A_STORE:
                retrier.record_contact(put.began)
        if put.response is None:
            raise put.stalled(self._effects.clock())
        return put.response

    def after_refusal(self, tried: Collection[OptionalHeaders], fault: Fault) -> OptionalHeaders | None:
        """Return how to send a file after a refusal that may be of its headers; None: a repetition would not help.

        Args:
            tried: The manners in which the file was refused.
            fault: The last refusal.
        """
        if not fault.may_be_unsupported:
            return None
        if not self._confirmed:
            self._forget()
        others = (self.optional,) if self._confirmed else (self.optional, *self._most.subsets())
        return next((each for each in others if each not in tried and not each.is_named(fault)), None)

    def _forget(self) -> None:
        """What was remembered of the store is wrong, or costs the proof: find out again."""
        if self._recalled is not None and self._facts is not None:
            self._facts.record(self._refuses, None)
            self._recalled, self.optional, self._confirmed = None, self._most, False

    def confirm(self, optional: OptionalHeaders, refusal: Fault | None, emit: Callable[[events.Event], None]) -> None:
        """Note that the store has taken a file: the first one decides how all others are sent.

        Until then, a refusal may be of the one file alone.

        Args:
            optional: The headers that it was sent with.
            refusal: Why it was not sent with more.
            emit: Gets the warnings of this file's upload.
        """
        if self._confirmed:
            return
        self._confirmed = True
        if self.optional.checksum and not optional.checksum:
            self.use_md5(emit, f"the store refused {self._algorithm} checksums ({refusal})")
            if self._facts is not None and refusal is not None and _is_of_checksums(refusal):
                self._facts.record(self._refuses, "refused")
        if self.optional.condition and not optional.condition:
            emit(events.Warned(message=f"{refusal}: {LOOKS_INSTEAD}"))
        self.optional = self.optional.intersection(optional)

    def use_md5(self, emit: Callable[[events.Event], None], why: str) -> None:
        """Send the MD5 with every further file."""
        if not self._with_md5:
            self._with_md5 = True
            emit(events.Warned(message=f"{why}: files are proved by MD5 instead"))

    def warn_of_etags(self, emit: Callable[[events.Event], None]) -> None:
        """Warn, once, of responses without ETags."""
        if not self._lacks_etags:
            self._lacks_etags = True
            message = "responses to PUTs have no ETag: a proxy on the way drops it. Each object is looked at instead"
            emit(events.Warned(message=message))

    def judge(
        self, proved: StoredFile, store: ObjectStore, key: str, emit: Callable[[events.Event], None]
    ) -> StoredFile:
        """Return the object of one PUT, if it is proved well enough.

        Raises:
            NothingProvesPut: It is not.
            ProofTooWeak: It is not, and the object must not be replaced.
        """
        if proved.proof is PartProof.NONE:
            self._forget()
        if not proved.verified.satisfies(self._required):
            if store.replaces:
                raise NothingProvesPut
            raise errors.ProofTooWeak(
                f"{store.target(key)} is complete, but proved by {proved.verified} only; {self._required} is required. "
                "The object stays: `read_back` compares every byte of it with the file"
            )
        if proved.proof is PartProof.NONE and self._algorithm is not Algorithm.NONE and not self._proves_nothing:
            self._proves_nothing = self._with_md5 = True  # a store that proves nothing may still check the bytes
            emit(
                events.Warned(
                    message="the store confirms neither checksums nor MD5s of small files: only their sizes are proved "
                    "(to require more: `require_proof`)"
                )
            )
        return proved


def _is_of_checksums(refusal: Fault) -> bool:
    """Whether a store that took a file only without a checksum refuses all: another refusal may be of that one PUT."""
    return refusal.names_checksum or (refusal.kind is FaultKind.UNSUPPORTED and CONDITION not in refusal.named)


@dataclass(slots=True, eq=False)
class _OnePut:
    """One file on its way."""

    _puts: SinglePuts
    _store: ObjectStore
    _source: Source
    _part: Part
    _key: str
    _name: str
    _retrier: Retrier
    _report: Callable[[int], None] | None
    _optional: OptionalHeaders
    _refusal: Fault | None = None
    """The refusal because of which less is sent of it than of other files."""
    _may_be_stored: bool = False
    """Whether an attempt whose outcome is unknown may have made the object."""

    async def until_proved(self) -> StoredFile:
        puts, retrier = self._puts, self._retrier
        hashed = await self._hash(md5=puts._with_md5)
        attempts: Attempts = retrier.attempts()
        tried: set[OptionalHeaders] = set()
        fresh = False
        while True:
            since = puts._effects.clock()
            request: SignedRequest | None = None
            try:
                async with puts._slots:
                    optional = self._optional = self._optional.intersection(puts.optional)
                    if not (optional.condition or self._store.replaces):
                        await self._require_absent()
                    headers = puts.headers(hashed, optional)
                    unsigned = UnsignedPut(self._key, self._name, self._part.size, headers, optional.condition)
                    request = await self._store.sign_put(unsigned)
                    response = await puts.put(
                        self._source, self._part, request, retrier, fresh=fresh, report=self._report
                    )
                stored = await self._prove(hashed, response)
            except Fault as fault:
                self._may_be_stored |= fault.kind.may_have_acted
                if fault.kind is FaultKind.EXISTS:
                    found = await puts.stat(self._store, self._key, retrier)
                    return await self.made_before(found, "was created meanwhile")
                if request is not None and fault.status is not None:
                    self._store.refused(request, fault)
                tried.add(self._optional)
                if (other := puts.after_refusal(tried, fault)) is not None:
                    self._optional, self._refusal = other, fault
                    hashed = await self._hash(md5=puts._with_md5 or not other.checksum)
                    continue
                retry = await self._pause(attempts, fault, since)
                fresh = fault.kind.breaks_connection
                hashed = await self._hash_again(hashed) if retry.rehash else hashed
            else:
                retrier.record_response()
                puts.confirm(self._optional, self._refusal, self._retrier.emit)
                stored = puts.judge(stored, self._store, self._key, self._retrier.emit)
                return stored if attempts.made == 1 else dataclasses.replace(stored, attempts=attempts.made)

    async def _require_absent(self) -> None:
        """Look whether there is an object: of a store that does not know the condition, nothing else protects it.

        Raises:
            Fault: EXISTS: there is one.
            StoreRefused: These credentials may not look.
        """
        try:
            found = await self._retrier.request(lambda: self._store.stat(self._key, self._puts._algorithm))
        except errors.AccessDenied as e:
            raise errors.StoreRefused(f"{self._refusal}: {MAY_NOT_LOOK}") from e
        if found is not None:
            raise Fault(FaultKind.EXISTS, "there is an object under the key")

    async def _hash(self, *, md5: bool) -> Hashed:
        """Hash the file, and see that it is what it was when it was opened: what is sent now is the file as it is.

        Raises:
            SourceChanged: It is not.
        """
        source = self._source
        hashed = await self._puts.hash(source, self._part, md5=md5)
        await self._check()
        for _ in range(_MOST_LOOKS):
            if not source.metadata_changed:
                break
            source.accept_metadata()
            hashed = await self._puts.hash(source, self._part, md5=md5)
            await self._check()
        return hashed

    async def _check(self) -> None:
        try:
            await check_source(self._source, self._puts._shared.checking)
        except errors.SourceChanged as e:
            raise _changed(self._source, "while it was uploaded") from e  # there are no parts to keep

    async def _hash_again(self, before: Hashed) -> Hashed:
        """After a checksum mismatch: find out whether the file has changed."""
        now = await self._hash(md5=before.md5 is not None)
        if now != before:
            raise _changed(self._source, "while it was uploaded, although its times did not")
        return now

    async def _pause(self, attempts: Attempts, fault: Fault, since: float) -> Retry:
        if fault.kind.asks_to_slow_down:
            self._puts._shared.refused(self._puts._effects.clock())
        return await self._retrier.pause(attempts, fault, since)

    async def _prove(self, hashed: Hashed, response: PutResponse) -> StoredFile:
        """Return the proof of the object in the response.

        Raises:
            Fault: CORRUPTED: checksum mismatch. BROKEN: the response has no ETag, and the store has no such object.
            PartUnproved: The response has no ETag, and these credentials may not read the object.
        """
        if not response.etag:
            response = await self._as_shown(response)

        def prove(hashed: Hashed) -> PartProof | None:
            try:
                return prove_part(self._puts._algorithm, hashed, echoed=response.checksums, etag=response.etag)
            except ChecksumMismatch as e:
                raise Fault(FaultKind.CORRUPTED, f"{self._key}: {e}") from e

        proof = prove(hashed)
        if proof is None and hashed.md5 is None:  # the response has no checksum: is its ETag the MD5?
            proof = prove(await self._puts.hash(self._source, self._part, md5=True))
            if proof is not None:
                self._puts.use_md5(self._retrier.emit, "the store confirms no checksums")
        proof = proof or PartProof.NONE
        return StoredFile(
            etag=response.etag,
            checksum=hashed.checksum if proof is PartProof.CHECKSUM else None,
            verified=_PROVES[proof],
            version_id=response.version_id,
            proof=proof,
        )

    async def _as_shown(self, response: PutResponse) -> PutResponse:
        """Add to a response without an ETag what the store shows of the object."""
        puts = self._puts
        puts.warn_of_etags(self._retrier.emit)
        try:
            found = await self._retrier.request(lambda: self._store.stat(self._key, puts._algorithm))
        except errors.AccessDenied as e:
            raise errors.PartUnproved(
                f"the response to the PUT of {self._store.target(self._key)} has no ETag, and the object can't be "
                f"looked at ({e}). {NO_ETAG}"
            ) from e
        if found is None or not self._is_own(found):
            message = f"the response to the PUT has no ETag, and the store has not what was sent under {self._key!r}"
            raise Fault(FaultKind.BROKEN, message)
        shown = {} if found.checksum is None else {puts._algorithm.header: found.checksum}
        return PutResponse(
            etag=found.etag,
            checksums={**response.checksums, **shown},
            version_id=found.version_id or response.version_id,
        )

    async def made_before(self, found: ObjectFacts | None, how: str) -> StoredFile:
        """Return the object that is there, if an attempt whose response was lost made it, or a run of the job that was
        killed before it recorded the object.

        The token of an earlier run is not enough: the file may have changed since.

        Args:
            found: The object; None: these credentials may not look.
            how: What is known of it, for the error.

        Raises:
            TargetExists: It is another one, or an earlier run's and not proved to be the file.
            ObjectMismatch: This upload made it, and it is not the file.
        """
        target = self._store.target(self._key)
        exists = errors.TargetExists(f"{target} {how}, and `if_none_match` forbids to replace it")
        if found is None or not self._is_own(found):
            raise exists
        hashed = await self._hash(md5=True)
        by_etag = checksums.md5_of_etag(found.etag) == hashed.md5
        proof = PartProof.CHECKSUM if found.checksum else PartProof.ETAG if by_etag else PartProof.NONE
        is_other = found.checksum not in (None, hashed.checksum)
        if (is_other or proof is PartProof.NONE) and not self._may_be_stored:
            raise exists
        if is_other:
            raise errors.ObjectMismatch(
                f"the object {target} was made by this upload and is not the file: its checksum is "
                f"{found.checksum}, the file's {hashed.checksum}"
            )
        stored = StoredFile(
            etag=found.etag,
            checksum=found.checksum,
            verified=_PROVES[proof],
            version_id=found.version_id,
            proof=proof,
        )
        return self._puts.judge(stored, self._store, self._key, self._retrier.emit)

    def _is_own(self, found: ObjectFacts) -> bool:
        return (found.token, found.size) == (self._store.token, self._part.size)


def _changed(source: Source, when: str) -> errors.SourceChanged:
    return errors.SourceChanged(
        f"{errors.IT} changed {when}: upload it again when nothing writes to it", it=source.path, same_size=True
    )
