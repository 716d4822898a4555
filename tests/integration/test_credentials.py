"""Uploads that outlive their credentials: of a function, of a session, and of keys that nobody renews."""

from __future__ import annotations

import datetime
import functools
import time
from collections.abc import Callable
from datetime import UTC
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.credentials import RefreshableCredentials

import bigupload
from bigupload import Credentials, S3Options, Verified, errors, events
from bigupload.stores.s3 import bucket
from bigupload.stores.s3.renewal import Renewal
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3

from .support import BUCKET, FAST, PART, World, assert_secretless

LIFE = 3600.0


class Issuer:
    """Issues sessions, the first for an hour. The caller knows their end, or learns it by ExpiredToken."""

    def __init__(self, s3: StrictS3, *, tells: bool) -> None:
        self._s3 = s3
        self._tells = tells
        self.issued = 0
        self.secrets: list[str] = []

    async def __call__(self) -> Credentials:
        self.issued += 1
        session = self._s3.issue_session(seconds=LIFE * 10 ** (self.issued - 1))
        assert session.session_token is not None
        assert session.expires_at is not None
        self.secrets += [session.secret_key, session.session_token]
        return Credentials(
            access_key=session.access_key,
            secret_key=session.secret_key,
            session_token=session.session_token,
            expires_at=datetime.datetime.fromtimestamp(session.expires_at, UTC) if self._tells else None,
        )


def options(world: World, **more: Any) -> S3Options:
    return S3Options(endpoint_url=world.s3.url, region=world.s3.region, **more)


async def upload(world: World, s3: S3Options, at: int, then: Callable[[], None]) -> bigupload.UploadResult:
    """Upload a file of six parts, with `then` after part number `at` arrived."""

    def on_event(event: events.Event) -> None:
        world.events.append(event)
        if isinstance(event, events.PartUploaded) and len(world.told(events.PartUploaded)) == at:
            then()

    return await bigupload.upload(
        world.file(6 * PART),
        to=f"s3://{BUCKET}/key",
        s3=s3,
        manifest=world.manifest_path,
        on_event=on_event,
        uploader=bigupload.Uploader(retry=FAST, concurrency=1),
    )


def revoke(world: World) -> None:
    """Every session that was issued ends now."""
    for credentials in world.s3.credentials.values():
        if credentials.session_token is not None:
            object.__setattr__(credentials, "expires_at", time.time())


@pytest.mark.parametrize("at", [1, 3, 6])
async def test_an_upload_outlives_the_credentials_of_a_function(world: World, at: int) -> None:
    """The store alone knows that they have ended: parts, list and complete are signed with others then."""
    issuer = Issuer(world.s3, tells=False)
    result = await upload(world, options(world, credentials=issuer), at, lambda: revoke(world))
    assert result.verified is Verified.FULL_OBJECT
    assert issuer.issued == 2
    assert not any(secret in world.manifest_path.read_text() for secret in issuer.secrets)


async def test_credentials_that_are_known_to_end_are_renewed_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = Issuer(world.s3, tells=True)
    moved = 0.0
    monkeypatch.setattr(bucket, "Renewal", functools.partial(Renewal, clock=lambda: time.time() + moved))

    def later() -> None:
        nonlocal moved
        moved = LIFE - 100

    result = await upload(world, options(world, credentials=issuer), 3, later)
    assert result.verified is Verified.FULL_OBJECT
    assert issuer.issued == 2
    assert not world.told(events.Retrying), "the store never saw the old ones again"


async def test_an_upload_outlives_the_credentials_of_a_session(world: World) -> None:
    """As those of an assumed role: botocore renews them, and parts are signed by what is valid then."""
    issued = 0

    def refresh() -> dict[str, str]:
        nonlocal issued
        issued += 1
        session = world.s3.issue_session(seconds=LIFE * 10 ** (issued - 1))
        return {
            "access_key": session.access_key,
            "secret_key": session.secret_key,
            "token": session.session_token or "",
            "expiry_time": datetime.datetime.fromtimestamp(session.expires_at or 0, UTC).isoformat(),
        }

    now = datetime.datetime.now(UTC)
    moved = datetime.timedelta()
    inner = botocore.session.get_session()
    first = refresh()
    inner._credentials = RefreshableCredentials(
        first["access_key"],
        first["secret_key"],
        first["token"],
        now + datetime.timedelta(seconds=LIFE),
        refresh,
        "assume-role",
        time_fetcher=lambda: datetime.datetime.now(UTC) + moved,
    )
    session = boto3.session.Session(botocore_session=inner, region_name=world.s3.region)

    def later() -> None:
        nonlocal moved
        moved = datetime.timedelta(seconds=LIFE - 60)
        revoke(world)

    result = await upload(world, options(world, session=session), 3, later)
    assert result.verified is Verified.FULL_OBJECT
    assert issued == 2


@pytest.mark.parametrize("at", [3, 6])
async def test_keys_that_nobody_renews_are_said_to_have_expired(world: World, at: int) -> None:
    """At a part's URL, and at complete. The same command resumes with others."""
    session = world.s3.issue_session(seconds=LIFE)
    frozen = options(
        world, access_key=session.access_key, secret_key=session.secret_key, session_token=session.session_token
    )
    with pytest.raises(errors.CredentialsError, match="the credentials have expired") as e:
        await upload(world, frozen, at, lambda: revoke(world))
    assert e.value.exit_code == errors.EXIT_RESUMABLE
    assert_secretless(e.value, [session.secret_key, session.session_token or ""])
    result = await world.upload(world.directory / "file.bin")
    assert result.resumed_parts >= 3
    assert result.verified is Verified.FULL_OBJECT


async def test_a_function_that_gives_the_expired_ones_again(world: World) -> None:
    session = world.s3.issue_session(seconds=LIFE)
    same = Credentials(
        access_key=session.access_key, secret_key=session.secret_key, session_token=session.session_token
    )
    with pytest.raises(errors.CredentialsError, match="have expired"):
        await upload(world, options(world, credentials=lambda: same), 3, lambda: revoke(world))


@pytest.mark.exhaustive
@pytest.mark.parametrize(("temporary", "hinted"), [(True, True), (False, False)])
@pytest.mark.parametrize("op", ["UploadPart", "ListParts"])
async def test_a_refusal_without_a_reason_may_be_an_expired_token(
    world: World, op: str, temporary: bool, hinted: bool
) -> None:
    """As of stores that respond with 403 to it. Keys that do not end are not suspected, nor those that are renewed."""
    issued = world.s3.issue_session(seconds=LIFE) if temporary else world.s3.credentials[world.s3.access_key]
    frozen = options(
        world, access_key=issued.access_key, secret_key=issued.secret_key, session_token=issued.session_token
    )
    await world.interrupted(world.file(6 * PART), after=3, s3=frozen)
    world.s3.script(op, Status(403), repeat=True)
    with pytest.raises(errors.AccessDenied, match=r"refused .*: 403") as caught:
        await upload(world, frozen, 9, lambda: None)
    assert ("if the session token has expired, renew the credentials" in str(caught.value)) == hinted
    issuer = Issuer(world.s3, tells=True)
    with pytest.raises(errors.AccessDenied) as caught:
        await upload(world, options(world, credentials=issuer), 9, lambda: None)
    assert "session token" not in str(caught.value)
    assert 2 <= issuer.issued <= 4, "the store may mean the credentials, but is not believed for ever"


async def test_a_part_by_an_unknown_key_is_not_tried_again(world: World) -> None:
    """As of a key that was deleted while its upload ran."""
    issued = world.s3.issue_session(seconds=LIFE)
    keys = options(
        world, access_key=issued.access_key, secret_key=issued.secret_key, session_token=issued.session_token
    )
    with pytest.raises(errors.CredentialsError, match=r"InvalidAccessKeyId.*the credentials that were given") as caught:
        await upload(world, keys, 3, lambda: world.s3.credentials.pop(issued.access_key))
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert_secretless(caught.value, [issued.secret_key])
    assert world.told(events.Retrying) == []
    assert len(world.sent()) == len(set(world.sent()))


async def test_a_file_by_an_unknown_key_is_not_tried_again(world: World) -> None:
    keys = options(world, access_key="AKIAUNKNOWN", secret_key="unknown")
    with pytest.raises(errors.CredentialsError, match=r"InvalidAccessKeyId.*\(key \.\.\.NOWN\) were used"):
        [
            _
            async for _ in bigupload.upload_many(
                [world.file(9)], to=f"s3://{BUCKET}/p/", s3=keys, uploader=bigupload.Uploader(retry=FAST)
            )
        ]
    assert world.s3.count("PutObject") == 1


async def test_an_unknown_key_of_a_function_may_be_renewed(world: World) -> None:
    issuer = Issuer(world.s3, tells=False)
    result = await upload(world, options(world, credentials=issuer), 3, lambda: world.s3.credentials.popitem())
    assert (result.verified, issuer.issued) == (Verified.FULL_OBJECT, 2)


async def test_a_resume_takes_them_from_a_function_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest records none, and what the environment has is not asked for."""
    await world.interrupted(world.file(6 * PART), after=3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    issuer = Issuer(world.s3, tells=True)
    result = await bigupload.resume(
        world.manifest_path, s3=S3Options(credentials=issuer), trust=True, uploader=bigupload.Uploader(retry=FAST)
    )
    assert result.resumed_parts >= 3
    assert issuer.issued == 1
