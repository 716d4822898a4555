"""What is wrong with a field, in words for people."""

from __future__ import annotations

import re
from typing import Any

import pydantic
import pytest

from bigupload.service import contract as c
from bigupload.service.access.upload_tokens import TokenRequest
from bigupload.service.problems import words_for
from tests.service.test_attacks import PHOTO
from tests.tools.service import Service

PATTERN = "the field is not written as it must be: the API's description shows how"
WRONG: list[tuple[type[pydantic.BaseModel], dict[str, Any], str]] = [
    (c.CreateRequest, {"filename": "a.jpg", "contentType": "image/jpeg", "size": 0}, "the file is empty"),
    (c.CreateRequest, {"filename": "a.jpg", "contentType": "image/jpeg"}, "the field is missing"),
    (c.PresignRequest, {"filename": "", "contentType": "image/jpeg"}, "the field is empty"),
    (c.PresignRequest, {"filename": "x" * 2000, "contentType": "a/b"}, "the field must have 1,024 characters at most"),
    (TokenRequest, {"contentTypes": []}, "the list is empty"),
    (TokenRequest, {"maxsize": 1}, "there is no such field"),
    (TokenRequest, {"expiresIn": 10**9}, "the number must be 86,400 at most"),
    (TokenRequest, {"user": "a\nb"}, "the name is too long, or has characters that can't be shown"),
    (
        TokenRequest,
        {"contentTypes": ["x"]},
        "the field is not written as it must be: the API's description shows how",
    ),
    (c.PostRequest, {"mediaItems": [{"type": "x", "url": "u"}]}, "the field must be 'image', 'video' or 'gif'"),
]


@pytest.mark.parametrize(("model", "value", "words"), WRONG, ids=[words for *_, words in WRONG])
def test_words(model: type[pydantic.BaseModel], value: dict[str, Any], words: str) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        model.model_validate(value, by_alias=True, by_name=False)
    first = caught.value.errors(include_url=False, include_input=False)[0]
    assert words_for(first) == words
    assert not re.search(r"Input|String|should|\^", words)


def test_a_parameter_of_the_wrong_type(service: Service) -> None:
    error = service.call("GET", "/v1/media?details=maybe").json()["error"]
    assert (error["field"], error["message"]) == ("details", "the field must be true or false")


def test_a_wrong_name_within_a_field_is_named(service: Service) -> None:
    response = service.call("POST", "/v1/media/presign", json=PHOTO | {"metadata": {"Album": "x"}})
    assert response.json()["error"]["field"] == "metadata.Album"
