"""Tags of objects: who may name them, and where they are told."""

from __future__ import annotations

from typing import Any

import httpx
import jwt
import pytest

from bigupload.core.checksums import Algorithm
from bigupload.service.access.upload_tokens import TokenRequest
from tests.service.posts.support import refusal
from tests.service.test_multipart import PART, create, cut, described, film, send
from tests.service.test_users import token
from tests.tools.cases import each_case
from tests.tools.media import sample
from tests.tools.service import Service

TAGS = {"plan": "free of charge", "Zürich": "a.b:c/d=e+f-g_h@i", "empty": ""}
UNVERIFIED: Any = {"verify_signature": False}


def completed(service: Service, key: str | None, **more: Any) -> dict[str, Any]:
    data = film(PART)
    parts = described(cut(data), Algorithm.CRC64NVME)
    made = create(service, PART, key=key, firstParts=parts, **more).json()
    [etag] = send(made["signed"], [data])
    row = {"partNumber": 1, "checksum": parts[0]["checksum"], "etag": etag}
    body = {"upload": made["upload"], "parts": [row]}
    return dict(service.call("POST", "/v1/media/multipart/complete", key=key, json=body).json())


def listed(service: Service, key: str) -> dict[str, dict[str, str]]:
    media = service.call("GET", "/v1/media", key=key, params={"details": "true"}).json()["media"]
    return {file["key"]: file["tags"] for file in media}


def test_an_api_key_and_a_token_name_tags(service: Service) -> None:
    key = service.new_key("tagger")
    named, plain = completed(service, key, tags=TAGS), completed(service, key)
    by_token = completed(service, token(service, key, tags={"plan": "paid"}))
    assert listed(service, key) == {named["key"]: TAGS, plain["key"]: {}, by_token["key"]: {"plan": "paid"}}
    assert jwt.decode(named["receipt"], options=UNVERIFIED)["tags"] == TAGS
    assert jwt.decode(by_token["receipt"], options=UNVERIFIED)["tags"] == {"plan": "paid"}
    checked = service.call("POST", "/v1/media/check", key=key, json={"url": named["publicUrl"]}).json()
    assert jwt.decode(checked["receipt"], options=UNVERIFIED)["tags"] == TAGS


def test_one_put_carries_the_tags_that_were_signed(service: Service) -> None:
    key = service.new_key("putter")
    photo = {"filename": "a.jpg", "contentType": "image/jpeg", "tags": TAGS}
    made = service.call("POST", "/v1/media/presign", key=key, json=photo).json()
    for change in ({"x-amz-tagging": "plan=paid"}, {}):
        headers = {"Content-Type": "image/jpeg"} | change
        assert httpx.put(made["uploadUrl"], headers=headers, content=sample("jpg"), trust_env=False).status_code == 403
    sent = httpx.put(made["uploadUrl"], headers=made["headers"], content=sample("jpg"), trust_env=False)
    assert sent.status_code == 200, sent.text
    assert listed(service, key) == {made["key"]: TAGS}
    checked = service.call("POST", "/v1/media/check", key=key, json={"url": made["publicUrl"]}).json()
    assert checked["usable"], "tags are no header that changes how it is served"


def test_a_person_names_no_tags(service: Service) -> None:
    """The bucket's rules act by them: they may say for how long a file is kept, or who reads it."""
    bearer = token(service, singlePut=True, tags={"plan": "free"})
    refused = create(service, PART, key=bearer, tags={"plan": "paid"})
    assert refusal(refused) == (422, "invalid_field", "tags")
    photo = {"filename": "a.jpg", "contentType": "image/jpeg", "tags": {}}
    assert refusal(service.call("POST", "/v1/media/presign", key=bearer, json=photo)) == (422, "invalid_field", "tags")


@each_case(
    "tags",
    [
        {"a": "b\n"}, {"a": "b&c"}, {"a": "<b>"}, {"": "a"}, {" a": ""}, {"aws:a": ""}, {"AWS:a": ""}, {"a": "x" * 257},
        {"a" * 129: ""}, {str(n): "" for n in range(11)}, {"a": 1},
    ],
)  # fmt: skip
def test_what_is_no_tag(tags: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="tags"):
        TokenRequest.model_validate({"tags": tags})
