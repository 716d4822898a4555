"""A bucket of one's own in the local store: set up by one command, served by another."""

from __future__ import annotations

from pathlib import Path

from bigupload.stores.local_store import LocalStore
from tests.service.test_attacks import refusal
from tests.tools.buckets import fresh_name
from tests.tools.service import Service, serving


def test_a_local_bucket_that_was_set_up_is_served(weed: LocalStore, service: Service, tmp_path: Path) -> None:
    """With the policy that it was given, and with a first key."""
    bucket = fresh_name(weed)
    done = service.command("bucket", "setup", f"s3://{bucket}", "--local", "--types", "any")
    assert done.returncode == 0, done.stderr
    with serving(weed, tmp_path, "--bucket", f"s3://{bucket}", "--sweep-every", "0") as running:
        made = running.call("POST", "/v1/media/presign", json={"filename": "a.txt", "contentType": "text/plain"})
        assert made.status_code == 200
        assert f"/{bucket}/media/local/" in made.json()["uploadUrl"]
    text = {"filename": "a.txt", "contentType": "text/plain"}
    assert refusal(service.call("POST", "/v1/media/presign", json=text)) == (422, "unsupported_media")
