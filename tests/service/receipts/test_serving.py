"""Receipts of the running service: who gets them, who verifies them, and what is refused."""

from __future__ import annotations

import base64
import contextlib
import hmac
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bigupload.core.checksums import Algorithm
from bigupload.service.access.handles import _receipt_key, key_id
from bigupload.service.uploads.posts import _that_fit
from bigupload.stores.local_store import LocalStore
from tests.service.posts.support import CREATED, post, sent
from tests.service.test_attacks import refusal
from tests.service.test_multipart import PART, create, cut, described, film, send, upload
from tests.service.test_users import token
from tests.tools.http_stub import HttpStub
from tests.tools.media import sample
from tests.tools.service import Service, serving

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


def completed(service: Service, key: str | None = None, **more: Any) -> dict[str, Any]:
    """The response to complete of a film of one part."""
    data = film(PART)
    parts = described(cut(data), Algorithm.CRC64NVME)
    made = create(service, PART, key=key, firstParts=parts, **more).json()
    [etag] = send(made["signed"], [data])
    row = {"partNumber": 1, "checksum": parts[0]["checksum"], "etag": etag}
    done = service.call(
        "POST", "/v1/media/multipart/complete", key=key, json={"upload": made["upload"], "parts": [row]}
    )
    assert done.status_code == 200, done.text
    return dict(done.json())


def published(service: Service) -> list[dict[str, str]]:
    """Without any key or token."""
    response = httpx.get(f"{service.url}/.well-known/jwks.json", trust_env=False)
    assert response.headers["Cache-Control"] == "public, max-age=300"
    return list(response.json()["keys"])


def read(service: Service, receipt: str, owner: str = "local") -> dict[str, Any]:
    keys = jwt.PyJWKSet.from_dict({"keys": published(service)})
    claims: dict[str, Any] = jwt.decode(
        receipt, keys[jwt.get_unverified_header(receipt)["kid"]], algorithms=["ES256"], audience=owner
    )
    return claims


def test_complete_returns_a_receipt_and_repeats_it(service: Service) -> None:
    bearer = token(service, user="李 四", metadata={"album": "Zürich"})
    done = completed(service, bearer, filename="Zürich.mp4", metadata={"album": "mine", "of": "a<b>"})
    facts = read(service, done["receipt"])
    assert {name: facts[name] for name in ("key", "publicUrl", "size", "etag", "checksum", "proof", "user")} == {
        "key": done["key"],
        "publicUrl": done["publicUrl"],
        "size": PART,
        "etag": done["etag"],
        "checksum": done["checksum"],
        "proof": "full-object",
        "user": "李 四",
    }
    assert (facts["filename"], facts["metadata"]) == ("Zürich.mp4", {"album": "Zürich", "of": "a<b>"})
    handle, body = upload(service, film(PART))
    receipts = [service.call("POST", "/v1/media/multipart/complete", json=body).json()["receipt"] for _ in range(2)]
    status = service.call("GET", "/v1/media/multipart", params={"upload": handle}).json()["completed"]
    assert len({read(service, each)["jti"] for each in [*receipts, status["receipt"]]}) == 1


def test_check_returns_the_receipt_of_what_nobody_can_write_again(service: Service) -> None:
    ann, bob = token(service, user="ann"), token(service, user="bob")
    done = completed(service, ann)

    def checked(key: str | None, url: str) -> dict[str, Any]:
        return dict(service.call("POST", "/v1/media/check", key=key, json={"url": url}).json())

    facts = read(service, checked(ann, done["publicUrl"])["receipt"])
    assert (facts["jti"], facts["checksum"]) == (read(service, done["receipt"])["jti"], done["checksum"])
    assert facts["proof"] is None
    for stranger in (bob, token(service), service.new_key("bank")):
        refused = checked(stranger, done["publicUrl"])
        assert (refused["usable"], refused["receipt"]) == (False, None)
    assert checked(None, sent(service, sample("jpg")))["receipt"] is None


def test_a_post_carries_the_receipts_of_its_uploads(posting: Service, posts_api: HttpStub) -> None:
    posts_api.responses["/v1/posts"] = CREATED
    film_, photo = completed(posting)["publicUrl"], sent(posting, sample("jpg"))
    response = post(posting, ("image", photo), ("video", film_), ("image", photo))
    assert response.status_code == 201, response.text
    got = posts_api.received[-1]
    facts = [read(posting, each) for each in got.headers["x-bigupload-receipt"].split(", ")]
    named = [item["url"] for item in json.loads(got.body)["mediaItems"]]
    assert [each["publicUrl"] for each in facts] == [named[0], named[1]]  # the copy's, not that of the presigned PUT
    assert named[0] != photo
    assert facts[0]["contentType"] == "image/jpeg"


def test_receipts_that_a_server_might_not_take_are_left_out() -> None:
    assert _that_fit(["a" * 6000, "b" * 6000]) == ["a" * 6000, "b" * 6000]
    assert _that_fit(["a" * 6000, "b" * 6001]) == ()


# -- forged ones


def run(program: str, receipt: str, service: Service, owner: str, user: str) -> subprocess.CompletedProcess[str]:
    """Run it: Python's in this process, as a program, because its imports take most of the time."""
    command = [str(EXAMPLES / program), service.url, owner, user]
    if not program.endswith(".py"):
        if (node := shutil.which("node")) is None:
            pytest.skip("no Node")
        return subprocess.run([node, *command], input=receipt, capture_output=True, text=True, timeout=60)
    with (
        mock.patch.object(sys, "argv", command),
        mock.patch.object(sys, "stdin", io.StringIO(receipt)),
        contextlib.redirect_stdout(io.StringIO()) as out,
    ):
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as e:
            return subprocess.CompletedProcess(command, 1, out.getvalue(), str(e.code))
    return subprocess.CompletedProcess(command, 0, out.getvalue(), "")


@pytest.fixture(scope="module")
def receipt(service: Service) -> str:
    return str(completed(service, token(service, user="ann"))["receipt"])


def _encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _altered(receipt: str, _: str) -> str:
    head, body, signature = receipt.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    return ".".join((head, _encoded({**claims, "size": 1}), signature))


def _unsigned(receipt: str, _: str) -> str:
    return jwt.encode(
        _claims(receipt), "", algorithm="none", headers={"kid": jwt.get_unverified_header(receipt)["kid"]}
    )


def _by_the_public_key(receipt: str, secret: str) -> str:
    """HS256 with the public key as the secret: who lets the header choose the algorithm is deceived by it."""
    head = _encoded({"alg": "HS256", "kid": key_id(secret)})
    signed = f"{head}.{receipt.split('.')[1]}"
    public = json.dumps(_receipt_key(secret)[1].model_dump()).encode()
    return f"{signed}.{base64.urlsafe_b64encode(hmac.digest(public, signed.encode(), 'sha256')).decode().rstrip('=')}"


def _signed(key: Any, kid: str, **claims: Any) -> Callable[[str, str], str]:
    def make(receipt: str, secret: str) -> str:
        private = _receipt_key(secret)[0] if key is None else key
        return jwt.encode(_claims(receipt) | claims, private, algorithm="ES256", headers={"kid": kid or key_id(secret)})

    return make


def _claims(receipt: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(receipt, options={"verify_signature": False})
    return claims


_STRANGER = ec.generate_private_key(ec.SECP256R1())
FORGED: dict[str, Callable[[str, str], str]] = {
    "altered": _altered,
    "unsigned": _unsigned,
    "by the public key": _by_the_public_key,
    "by another key under its id": _signed(_STRANGER, ""),
    "by another key under an unknown id": _signed(_STRANGER, "0" * 32),
    "by the key of another secret": lambda receipt, secret: _signed(_receipt_key("x" * 40)[0], "")(receipt, secret),
    "expired": _signed(None, "", exp=int(time.time()) - 1),
    "of another owner": _signed(None, "", aud="bank"),
    "of another user": _signed(None, "", user="bob"),
    "of no user": _signed(None, "", user=None),
    "cut off": lambda receipt, _: receipt[:-3],
    "no receipt": lambda *_: "a.b.c",
}


@pytest.mark.parametrize("program", ["verify_receipt.py", "verify_receipt.mjs"])
@pytest.mark.exhaustive
def test_the_examples_take_a_receipt_and_no_forged_one(service: Service, receipt: str, program: str) -> None:
    done = run(program, receipt, service, "local", "ann")
    assert json.loads(done.stdout) == _claims(receipt), done.stderr
    secret = (service.home / "secret").read_text().split()[-1]
    for what, forge in FORGED.items():
        refused = run(program, forge(receipt, secret), service, "local", "ann")
        assert (refused.returncode, refused.stdout) == (1, ""), what
        assert refused.stderr.startswith("not a receipt: "), (what, refused.stderr)
    sound = _signed(None, "")(receipt, secret)  # what the forged ones are made by makes good ones, too
    assert run(program, sound, service, "local", "ann").returncode == 0


def test_a_receipt_opens_nothing(service: Service, receipt: str) -> None:
    for method, path in (("GET", "/v1/me"), ("GET", "/v1/media"), ("POST", "/v1/media/presign")):
        assert refusal(service.call(method, path, key=receipt))[:2] == (401, "invalid_token")
    asked = {"params": {"upload": receipt}}
    assert refusal(service.call("GET", "/v1/media/multipart", **asked))[:2] == (400, "invalid_upload")


# -- another secret


def secret(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return service.command("keys", "secret", *arguments)


def test_the_secret_is_replaced_without_a_receipt_that_nobody_can_verify(weed: LocalStore, tmp_path: Path) -> None:
    """At each step one replica has restarted, and the other one has not."""
    options = ("--sweep-every", "0")
    with serving(weed, tmp_path, *options) as one:
        first = completed(one)["receipt"]
        [key] = published(one)
        added = secret(one, "add").stdout.strip()
        with serving(weed, tmp_path, *options) as two:
            assert [each["kid"] for each in published(two)] == [key["kid"], added]
            second = completed(two)["receipt"]
            assert read(one, second)["key"]  # the one that has not restarted knows it
            assert secret(one, "sign", added).returncode == 0
            with serving(weed, tmp_path, *options) as three:
                third = completed(three)["receipt"]
                assert jwt.get_unverified_header(third)["kid"] == added
                for each in (first, second, third):
                    assert read(two, each) == read(three, each)
    assert secret(one, "list").stdout.splitlines() == [f"{key['kid']}  accepted", f"{added}  signs"]
    listed = json.loads(secret(one, "list", "--jwks").stdout)["keys"]
    assert [each["kid"] for each in listed] == [added, key["kid"]]

    refused = secret(one, "remove", key["kid"])
    assert (refused.returncode, "less than 7 days ago" in refused.stderr) == (2, True), refused.stderr
    assert secret(one, "remove", added, "--force").returncode == 2  # it signs
    assert secret(one, "sign", "unknown").returncode == 2
    os.utime(tmp_path / "secret", (0, time.time() - 7 * 86_400 - 1))
    assert secret(one, "remove", key["kid"]).returncode == 0
    with serving(weed, tmp_path, *options) as four:
        assert read(four, third)["key"]
        with pytest.raises(KeyError):
            read(four, first)
