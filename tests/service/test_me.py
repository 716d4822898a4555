"""Whose an API key or an upload token is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bigupload.service.access.upload_tokens import MeResponse
from tests.service.posts.support import refusal
from tests.tools.service import Service

UNLIMITED = dict.fromkeys(field.alias for field in MeResponse.model_fields.values())


def test_a_key_tells_its_owner(service: Service) -> None:
    told = service.call("GET", "/v1/me", key=service.new_key("alice")).json()
    assert told == UNLIMITED | {"owner": "alice"}


def test_an_upload_token_tells_its_owner_and_its_limits(service: Service) -> None:
    limits = {"maxSize": 1000, "contentTypes": ["image/*"], "uploads": 3, "expiresIn": 60}
    token = service.call("POST", "/v1/media/tokens", json=limits).json()["token"]
    told = service.call("GET", "/v1/me", key=token).json()
    ends = datetime.fromisoformat(told.pop("expiresAt")) - datetime.now(UTC)
    assert timedelta(0) < ends <= timedelta(seconds=60)
    assert told | {"expiresAt": None} == UNLIMITED | {
        "owner": "local",
        "maxSize": 1000,
        "contentTypes": ["image/*"],
        "uploads": 3,
    }


def test_a_key_that_is_unknown_or_was_revoked_is_refused(service: Service) -> None:
    key = service.new_key("bob")
    assert service.call("GET", "/v1/me", key=key).status_code == 200
    service.revoke(key)
    for refused in (key, "sk_of_nobody"):
        assert refusal(service.call("GET", "/v1/me", key=refused)) == (401, "invalid_key", None)
