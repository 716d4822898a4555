"""Whether a token is one: signatures, algorithms, claims, clocks. What is not, is refused and never repeated."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pydantic
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from bigupload.errors import UsageError
from bigupload.service.access.keys import token_signing_key
from bigupload.service.access.upload_tokens import MAX_TOKEN_LENGTH, TokenLimits, TokenRequest, UploadTokens, mint_token
from bigupload.service.contract import PresignRequest
from bigupload.service.media.media_types import JPEG, MP4
from bigupload.service.media.object_keys import MOST_BYTES
from bigupload.service.problems import Problem, Refused
from tests.tools.cases import each_case

SECRET, OLD = "s" * 40, "o" * 40
NOW = 1_800_000_000.25
CLAIMS: dict[str, Any] = {"aud": "bigupload", "sub": "me", "iat": int(NOW), "exp": int(NOW) + 60, "jti": "x1"}
KEY = token_signing_key(SECRET, "me")
LONG_TYPES = [f"image/{'x' * 90}{n:02}" for n in range(32)]


def tokens(now: float = NOW, secrets: tuple[str, ...] = (OLD, SECRET)) -> UploadTokens:
    return UploadTokens(secrets, clock=lambda: now)


def signed(claims: Any, key: str = KEY, header: dict[str, Any] | None = None) -> str:
    """By hand: a library refuses to make most of what is tried here."""
    parts = [json.dumps(header or {"alg": "HS256", "typ": "JWT"}), json.dumps(claims)]
    told = ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
    digest = hmac.digest(key.encode(), told.encode(), hashlib.sha256)
    return f"{told}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def problem_of(text: str, **how: Any) -> Problem:
    with pytest.raises(Refused) as caught:
        tokens(**how).verify(text)
    assert str(caught.value).isprintable()
    assert text not in str(caught.value) or not text
    assert caught.value.__cause__ is None  # it would go to the log
    return caught.value.problem


def test_a_minted_token_says_what_was_asked() -> None:
    request = TokenRequest.model_validate(
        {
            "maxSize": 5,
            "contentTypes": ["Image/*"],
            "uploads": 2,
            "expiresIn": 90,
            "user": "李",
            "singlePut": True,
            "metadata": {"plan": "a b"},
            "tags": {"plan": "a b"},
            "origins": ["https://app.example.com"],
        }
    )
    text = tokens().mint("me", request, key_id="9f86d081").token
    claims = jwt.decode(text, options={"verify_signature": False})
    assert (claims["exp"], claims["key"]) == (int(NOW) + 90, "9f86d081")
    token = tokens().verify(text)
    assert (token.owner, token.id, token.expires, token.key_id) == ("me", claims["jti"], claims["exp"], "9f86d081")
    limits = {
        "max_size": 5,
        "content_types": ["image/*"],
        "uploads": 2,
        "user": "李",
        "single_put": True,
        "metadata": {"plan": "a b"},
        "tags": {"plan": "a b"},
        "origins": ["https://app.example.com"],
    }
    assert token.model_dump(include=set(TokenLimits.model_fields), exclude_none=True) == limits
    plain = tokens().verify(tokens().mint("me", TokenRequest(), key_id="k").token)
    assert (plain.max_size, plain.content_types, plain.uploads, plain.metadata) == (None, None, None, None)
    assert plain.expires == int(NOW) + 3600


def test_a_token_of_an_application_that_mounts_the_service() -> None:
    limits: dict[str, Any] = {"max_size": 5, "content_types": ["image/*"], "uploads": 2, "metadata": {"user": "u1"}}
    found = UploadTokens([OLD, SECRET], clock=time.time).verify(mint_token(SECRET, "me", expires_in=90, **limits))
    assert (found.owner, found.key_id, found.max_size, found.uploads) == ("me", None, 5, 2)
    assert (found.content_types, found.metadata) == (["image/*"], {"user": "u1"})
    assert 0 < found.expires - time.time() <= 90
    for wrong, named in (
        ({"maxSize": 5}, "maxSize"), ({"uploads": 0}, "uploads"), ({"expires_in": 86_401}, "expires_in"),
        ({"metadata": {"A": "x"}}, "metadata"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=f"`{named}"):
            mint_token(SECRET, "me", **wrong)
    with pytest.raises(UsageError, match="owner's name"):
        mint_token(SECRET, "Me!")
    with pytest.raises(UsageError, match="longer than"):
        mint_token(SECRET, "me", content_types=LONG_TYPES)


def test_a_token_that_a_backend_signed() -> None:
    assert tokens().verify(signed(CLAIMS)).key_id is None
    assert tokens().verify(signed(CLAIMS | {"iss": "https://app.example", "nbf": int(NOW)})).owner == "me"
    assert tokens().verify(signed(CLAIMS, header={"alg": "HS256", "kid": "1"})).owner == "me"
    assert tokens().verify(signed(CLAIMS, token_signing_key(OLD, "me"))).owner == "me"


def test_the_key_of_another_owner_secret_or_purpose() -> None:
    for key in (token_signing_key(SECRET, "eve"), token_signing_key("x" * 40, "me"), SECRET, OLD, "", KEY[:-1]):
        assert problem_of(signed(CLAIMS, key)) is Problem.INVALID_TOKEN
    assert problem_of(signed(CLAIMS), secrets=(OLD,)) is Problem.INVALID_TOKEN


@each_case("algorithm", ["none", "None", "NONE", "HS384", "HS512", "RS256", "ES256", "EdDSA", "", None, 1, []])
def test_another_algorithm(algorithm: Any) -> None:
    right = signed(CLAIMS, header={"alg": algorithm, "typ": "JWT"})
    for text in (right, right.rpartition(".")[0] + "."):
        assert problem_of(text) is Problem.INVALID_TOKEN


def test_a_public_key_is_no_secret() -> None:
    """Algorithm confusion: a token that RS256 signed, or whose HMAC key is the public key in it."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert problem_of(jwt.encode(CLAIMS, private, algorithm="RS256")) is Problem.INVALID_TOKEN
    header = {"alg": "HS256", "typ": "JWT", "jwk": {"kty": "oct", "k": public.decode()}}
    assert problem_of(signed(CLAIMS, public.decode(), header)) is Problem.INVALID_TOKEN


@each_case("more", [{"crit": ["x"]}, {"b64": False}, {"jwk": {}}, {"jku": "https://evil.example"}, {"x5c": []}])
def test_a_header_that_says_more(more: dict[str, Any]) -> None:
    assert problem_of(signed(CLAIMS, header={"alg": "HS256"} | more)) is Problem.INVALID_TOKEN


@each_case(
    "change",
    [
        {"aud": None}, {"aud": "other"}, {"aud": ["bigupload"]}, {"sub": None}, {"sub": 1}, {"sub": "../x"},
        {"exp": None}, {"exp": "1900000000"}, {"exp": float("inf")}, {"exp": float("nan")}, {"exp": True}, {"exp": -1},
        {"iat": None}, {"iat": []}, {"jti": None}, {"jti": ""}, {"jti": "../../x"}, {"jti": "x" * 65}, {"jti": 1},
        {"key": "a b"}, {"maxSize": 0}, {"maxSize": "5"}, {"maxSize": 5.5}, {"maxSize": 2**63}, {"contentTypes": []},
        {"contentTypes": "image/png"}, {"contentTypes": ["*"]}, {"contentTypes": ["*/*"]}, {"contentTypes": ["image"]},
        {"contentTypes": ["image/png\r\nX: y"]}, {"uploads": 0}, {"uploads": 1001}, {"uploads": True},
        {"metadata": {"A": "x"}}, {"metadata": {"bigupload-token": "x"}}, {"metadata": {"a": "\r\nX: y"}},
        {"metadata": {"a": 1}}, {"metadata": []}, {"maxsize": 5}, {"admin": True},
    ],
)  # fmt: skip
def test_claims_that_are_missing_wrong_or_unknown(change: dict[str, Any]) -> None:
    claims = {name: value for name, value in (CLAIMS | change).items() if value is not None}
    assert problem_of(signed(claims)) is Problem.INVALID_TOKEN


@each_case("claims", [None, [], "x", 1, {}, {"sub": "me"}])
def test_what_is_no_set_of_claims(claims: Any) -> None:
    assert problem_of(signed(claims)) is Problem.INVALID_TOKEN


def test_clocks() -> None:
    assert tokens(CLAIMS["exp"] - 0.01).verify(signed(CLAIMS)).owner == "me"
    assert problem_of(signed(CLAIMS), now=CLAIMS["exp"]) is Problem.TOKEN_EXPIRED  # its end is never stretched
    for name in ("iat", "nbf"):
        ahead = CLAIMS | {"exp": int(NOW) + 600, name: NOW + 60}
        assert tokens().verify(signed(ahead)).owner == "me"  # a backend whose clock is a minute ahead
        assert problem_of(signed(ahead | {name: NOW + 61})) is Problem.INVALID_TOKEN
    day = CLAIMS | {"exp": CLAIMS["iat"] + 24 * 3600}
    assert tokens().verify(signed(day)).owner == "me"
    assert problem_of(signed(day | {"exp": day["exp"] + 1})) is Problem.INVALID_TOKEN


def test_tokens_that_are_too_long() -> None:
    long = signed(CLAIMS | {"metadata": {f"m{n}": "x" * 256 for n in range(16)}})
    assert len(long) > MAX_TOKEN_LENGTH
    assert problem_of(long) is Problem.INVALID_TOKEN
    for more, field in (({}, "contentTypes"), ({"metadata": {"a": "b"}}, "metadata")):
        request = TokenRequest.model_validate({"contentTypes": LONG_TYPES} | more)
        with pytest.raises(Refused) as caught:
            tokens().mint("me", request, key_id="k")
        assert (caught.value.problem, caught.value.field) == (Problem.INVALID_FIELD, field)


@pytest.mark.parametrize("length", [MOST_BYTES, MOST_BYTES + 1])
def test_as_much_metadata_as_the_store_takes(length: int) -> None:
    metadata = {f"m{n}": "x" * 248 for n in range(8)}
    metadata["m0"] += "x" * (length - sum(len(name) + len(text) for name, text in metadata.items()))
    claims = signed(CLAIMS | {"metadata": metadata})
    if length <= MOST_BYTES:
        assert tokens().verify(claims).metadata == metadata
        assert TokenRequest(metadata=metadata).metadata == metadata
    else:
        assert problem_of(claims) is Problem.INVALID_TOKEN
        with pytest.raises(pydantic.ValidationError, match="2,001 bytes"):
            TokenRequest(metadata=metadata)


def test_deep_and_odd_ones() -> None:
    deep = base64.urlsafe_b64encode(("[" * 1500).encode()).decode()
    for text in ("..", "a.b.c", f"{deep}.{deep}.x", "\0.\0.\0", "é.é.é", "a" * 4096, ".".join("a" * 2000), " . . "):
        assert problem_of(text) is Problem.INVALID_TOKEN


@given(st.text(max_size=60), st.integers(0, 300), st.integers(0, 300))
def test_no_altered_token_goes_through(text: str, start: int, end: int) -> None:
    whole = signed(CLAIMS)
    try:
        assert tokens().verify(whole[:start] + text + whole[end:]) == tokens().verify(whole)
    except Refused as refused:
        assert refused.problem is Problem.INVALID_TOKEN  # noqa: PT017 - either way is fine


def put(size: int | None) -> PresignRequest:
    return PresignRequest(filename="a", content_type="a/b", size=size)


def test_limits() -> None:
    limits = {"maxSize": 5, "contentTypes": ["image/*", "VIDEO/MP4"], "singlePut": True}
    token = tokens().verify(signed(CLAIMS | limits))
    token.check(JPEG, put(5))
    token.check(MP4, put(1))
    for kind, size, problem, field in (
        (JPEG, 6, Problem.TOKEN_SIZE_EXCEEDED, "size"),
        (JPEG, None, Problem.INVALID_FIELD, "size"),
    ):
        with pytest.raises(Refused) as caught:
            token.check(kind, put(size))
        assert (caught.value.problem, caught.value.field) == (problem, field)
    with pytest.raises(Refused) as caught:
        tokens().verify(signed(CLAIMS | limits | {"contentTypes": ["image/png", "video/*"]})).check(JPEG, put(1))
    assert caught.value.problem is Problem.TOKEN_TYPE_REFUSED
