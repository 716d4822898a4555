"""What a service accepts and how long it keeps it: the options, the bucket's policy, and that they agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from bigupload import errors
from bigupload.cli import main
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service.access.keys import KeyFile
from bigupload.service.media.media_types import MAX_FILE_SIZE, MEDIA_TYPES
from bigupload.service.media.object_keys import KeyTemplate
from bigupload.service.media.policy import (
    ANY_TYPES,
    DAY,
    POLICY_KEY,
    PUBLISHED_POLICY,
    PUBLISHED_TYPES,
    Policy,
    agreed_policy,
    format_keep,
    read_policy,
    read_types,
)
from bigupload.service.uploads.bucket_rules import set_up
from bigupload.service.uploads.sweep import Sweep, SweepReport
from bigupload.stores.local_store import LocalStore
from bigupload.stores.s3.operations import document, fields_of
from tests.service.sweep.support import JPG, SECOND, Clock, keys, put
from tests.service.test_attacks import refusal
from tests.tools.buckets import Meddled, Next, fresh_name, options_for
from tests.tools.cases import each_case
from tests.tools.directories import session_directory
from tests.tools.service import Service, serving

MONTH = {"keep": 30 * DAY}
TYPES = "video/x-matroska mkv  # films\napplication/mxf mxf\nimage/jpeg\n"


def test_the_published_values_are_the_defaults() -> None:
    assert (
        Policy(
            max_file_size=5_000_000_000,
            types=PUBLISHED_TYPES,
            keep=7 * 24 * 3600,
            keys=KeyTemplate("media/{owner}/{random}.{extension}"),
        )
        == PUBLISHED_POLICY
    )
    assert PUBLISHED_POLICY.max_file_size == MAX_FILE_SIZE
    assert PUBLISHED_TYPES.types == MEDIA_TYPES


# -- values that can't be


@each_case(
    ("values", "says"),
    [
        ({"max_file_size": 0}, "largest size"),
        ({"max_file_size": 5 * 1024**4 + 1}, "largest object"),
        ({"keep": 0}, "valid for an hour"),
        ({"keep": 3599}, "valid for an hour"),
        ({"keep": -1}, "valid for an hour"),
    ],
)
def test_values_that_contradict(values: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.UsageError, match=says):
        Policy(**values)


# -- the bucket's policy

POLICIES = [
    Policy(
        keep=36 * 3600,
        max_file_size=20_000_000_000,
        types=read_types(TYPES, where="types"),
        keys=KeyTemplate("films/{owner}/{year}/{random}.{extension}"),
    ),
    PUBLISHED_POLICY,
    Policy(keep=None, types=ANY_TYPES),
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: format_keep(policy.keep))
@pytest.mark.exhaustive
async def test_a_bucket_keeps_its_policy(bucket: Meddled, policy: Policy) -> None:
    named = {field.name: getattr(policy, field.name) for field in dataclasses.fields(policy)}
    assert await set_up(bucket, named=named) == (
        []
        if policy.keys == PUBLISHED_POLICY.keys
        else ["files under media/ whose keys have another shape are not the service's any more"]
    )
    assert await read_policy(bucket) == policy
    assert await set_up(bucket) == []  # what is not named stays
    assert await agreed_policy(bucket, {}) == await agreed_policy(bucket, named) == policy
    await set_up(
        bucket, named={"keep": 7 * DAY, "types": PUBLISHED_TYPES, "max_file_size": MAX_FILE_SIZE, "keys": KeyTemplate()}
    )
    assert await read_policy(bucket) == PUBLISHED_POLICY
    assert POLICY_KEY not in await keys(bucket, "")


async def test_other_options_than_the_bucket_s_are_refused(bucket: Meddled) -> None:
    await set_up(bucket)
    with pytest.raises(errors.UsageError) as refused:
        await agreed_policy(bucket, {"keep": None, "max_file_size": 1})
    assert str(refused.value) == (
        f"the bucket {bucket.name} was set up with --max-size 5000000000 --keep 7d: run bigupload bucket setup "
        f"s3://{bucket.name} --max-size 1 --keep forever to change that, or leave the option out"
    )


@pytest.mark.parametrize("body", [b'{"version": 2}', b"", b"{}", b"[", b"[" * 100_000, b"\xff"])
@pytest.mark.exhaustive
async def test_a_policy_that_can_t_be_read_is_not_taken_for_the_published_one(bucket: Meddled, body: bytes) -> None:
    await bucket.call("", "PutObject", Key=POLICY_KEY, Body=body)
    with pytest.raises(errors.UsageError, match="policy"):
        await agreed_policy(bucket, {})


async def test_a_policy_that_the_store_does_not_give(bucket: Meddled) -> None:
    async def refuse(*_: object) -> None:
        raise Fault(FaultKind.FINAL, "denied", status=403, code="AccessDenied")

    bucket.meddle["GetObject"] = refuse
    with pytest.raises(Fault):
        await agreed_policy(bucket, {})


def lifecycle(rule: Mapping[str, Any]) -> bytes:
    return document("LifecycleConfiguration", {"Rule": rule})


async def test_a_lifecycle_rule_that_deletes_sooner(bucket: Meddled) -> None:
    await set_up(bucket, named=MONTH)
    theirs = {"ID": "cheap", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 9}}
    await bucket.call("", "PutBucketLifecycleConfiguration", Body=lifecycle(theirs))
    with pytest.raises(errors.UsageError, match=r"'cheap' .* deletes files after 9 days, and the policy is --keep 30d"):
        await agreed_policy(bucket, {})
    for harmless in (
        theirs | {"Status": "Disabled"},
        theirs | {"Filter": {"Prefix": "logs/"}},
        theirs | {"Filter": {"Prefix": "media/"}, "Expiration": {"Days": 30}},
    ):
        await bucket.call("", "PutBucketLifecycleConfiguration", Body=lifecycle(harmless))
        await agreed_policy(bucket, {})


@pytest.mark.parametrize(
    ("days", "says"),
    [("soon", "will delete"), ("-1", "will delete"), ("1e9", "will delete"), (" 3 ", "after 3 days"), ("", None)],
)
async def test_a_lifecycle_rule_that_makes_no_sense_is_no_crash(bucket: Meddled, days: str, says: str | None) -> None:
    """Whatever a store sends: a rule that deletes nobody knows when also deletes the policy."""
    rule = {"ID": "odd", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": days}}

    async def odd(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        return fields_of("GetBucketLifecycleConfiguration", 200, {}, lifecycle(rule), "to read")

    await set_up(bucket, named=MONTH)
    bucket.meddle["GetBucketLifecycleConfiguration"] = odd
    if says is None:
        assert (await agreed_policy(bucket, {})).keep == MONTH["keep"]
        return
    with pytest.raises(errors.UsageError, match=f"the lifecycle rule 'odd' .*{says}"):
        await agreed_policy(bucket, {})


async def test_a_lifecycle_rule_that_deletes_the_policy(bucket: Meddled) -> None:
    """Then the published policy would hold, and the sweep would delete what it does not allow."""
    theirs = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
    await bucket.call("", "PutBucketLifecycleConfiguration", Body=lifecycle(theirs))
    assert await set_up(bucket) == []
    await agreed_policy(bucket, {})  # without a policy there is none to lose
    assert await set_up(bucket, named=MONTH) == [
        "the lifecycle rule 'old' will delete bigupload-policy.json, so the service will not start: limit the rule to "
        "media/ or other folders"
    ]
    with pytest.raises(errors.UsageError, match=r"'old' .* will delete bigupload-policy.json"):
        await agreed_policy(bucket, {})


@pytest.mark.parametrize(("keep", "days"), [(None, None), (36 * 3600, 2), (7 * DAY, 7)])
@pytest.mark.exhaustive
async def test_the_bucket_s_rules_follow(bucket: Meddled, keep: int | None, days: int | None) -> None:
    done: list[str] = []
    named = {"keep": keep, "keys": KeyTemplate("films/{owner}/{random}.{extension}")}
    await set_up(bucket)
    await set_up(bucket, named=named, on_done=done.append)
    rules = (await bucket.call("", "GetBucketLifecycleConfiguration"))["Document"].findall("Rule")
    found = {rule.findtext("Filter/Prefix"): rule.findtext("Expiration/Days") for rule in rules}
    assert found == {"films/": None if days is None else str(days), "refused/": "7"}
    assert "anyone may read films/*" in done


# -- the sweep


async def test_the_sweep_keeps_what_the_policy_keeps(bucket: Meddled) -> None:
    clock = Clock()
    clock.at = await put(bucket, JPG) + timedelta(days=30) - SECOND
    mkv = JPG.replace(".jpg", ".mkv")
    await put(bucket, mkv, b"anything", "video/x-matroska")
    policy = Policy(keep=30 * DAY, types=ANY_TYPES)
    assert await Sweep(bucket, now=clock, policy=policy).run() == SweepReport(looked_at=2)
    assert await Sweep(bucket, now=clock, policy=Policy(keep=None, types=ANY_TYPES)).run() == SweepReport(looked_at=2)
    clock.at += SECOND * 60
    assert (await Sweep(bucket, now=clock, policy=policy).run()).expired == 2


@pytest.mark.slow
def test_the_sweep_command_acts_on_the_bucket_s_policy(weed: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started without any option, it must not delete what was accepted."""
    monkeypatch.setenv("BIGUPLOAD_LOCAL_STORE_DIR", str(weed.data_dir))
    name = fresh_name(weed)
    for arguments in (["setup", f"s3://{name}", "--local", "--types", "any"], ["sweep", f"s3://{name}", "--local"]):
        with pytest.raises(SystemExit) as ended:
            main(["bucket", *arguments])
        assert not ended.value.code
        if arguments[0] == "setup":
            key = f"media/me/{0:032x}.mkv"
            httpx_put(weed, name, key)
    assert httpx.get(f"{weed.endpoint_url}/{name}/{key}", trust_env=False).status_code == 200


def httpx_put(weed: LocalStore, name: str, key: str) -> None:
    import asyncio

    async def run() -> None:
        bucket = Meddled(name, options_for(weed))
        await put(bucket, key, b"anything", "video/x-matroska")
        await bucket.aclose()

    asyncio.run(run())


# -- the service


@pytest.fixture(scope="module")
def wide(weed: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of a bucket whose policy is not the published one, started without its options."""
    name = fresh_name(weed)
    with session_directory(tmp_path_factory, "wide") as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGUPLOAD_LOCAL_STORE_DIR", str(weed.data_dir))
        options = [
            "--types",
            "any",
            "--keep",
            "forever",
            "--max-size",
            "20GB",
            "--key-template",
            "f/{owner}/{year}/{random}.{extension}",
        ]
        with pytest.raises(SystemExit):
            main(["bucket", "setup", f"s3://{name}", "--local", *options])
        _, key = KeyFile(home / "keys.json").create("local")
        (home / "key").write_text(key)
        with serving(weed, home, "--bucket", f"s3://{name}", "--sweep-every", "0", local=False) as running:
            yield running


def test_a_service_of_another_policy(wide: Service) -> None:
    told = {"filename": "film.mkv", "contentType": "video/x-matroska"}
    made = wide.call("POST", "/v1/media/presign", json=told).json()
    assert made["key"].startswith(f"f/local/{datetime.now(UTC):%Y}/")
    assert made["key"].endswith(".mkv")
    sent = httpx.put(made["uploadUrl"], headers={"Content-Type": told["contentType"]}, content=b"any", trust_env=False)
    assert sent.status_code == 200
    assert httpx.get(made["publicUrl"], trust_env=False).content == b"any"
    assert wide.call("POST", "/v1/media/multipart", json=told | {"size": 20_000_000_000}).status_code == 200
    over = wide.call("POST", "/v1/media/multipart", json=told | {"size": 20_000_000_001})
    assert refusal(over) == (422, "file_too_large")
    one_put = wide.call("POST", "/v1/media/presign", json=told | {"size": 5 * 1024**3 + 1})
    assert (*refusal(one_put), one_put.json()["error"]["message"]) == (
        422,
        "file_too_large",
        "one PUT takes at most 5 GiB: create a multipart upload",
    )
    assert refusal(wide.call("POST", "/v1/media/presign", json={"filename": "a.html", "contentType": "text/html"})) == (
        422,
        "unsupported_media",
    )
    page = httpx.get(f"{wide.url}/page/policy.js", trust_env=False).text
    assert '"maxSize": 20000000000' in page
    assert '"other": "application/octet-stream"' in page


# -- the command


@each_case(
    ("options", "says"),
    [
        (["--keep", "7"], "--keep is a time or forever"),
        (["--keep", "1min"], "valid for an hour"),
        (["--max-size", "100TB"], "largest object"),
        (["--types", "no/such/file"], "can't read the types in no/such/file: No such file or directory (write any, "),
        (["--key-template", "x"], "not a key template"),
    ],
)
@each_case("command", [["serve", "--bucket", "s3://b"], ["bucket", "setup", "s3://b"]])
def test_options_that_make_no_sense(
    command: list[str], options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--endpoint-url", "http://127.0.0.1:1", *options])
    assert ended.value.code == errors.EXIT_USAGE
    assert says in capsys.readouterr().err


@pytest.mark.slow
def test_a_start_with_other_options_than_the_bucket_s(wide: Service, weed: LocalStore, tmp_path: Path) -> None:
    KeyFile(tmp_path / "keys.json").create("local")
    name = _bucket_of(wide)
    with (
        pytest.raises(AssertionError, match="was set up with --keep forever: run bigupload bucket setup"),
        serving(weed, tmp_path, "--bucket", f"s3://{name}", "--keep", "7d", local=False),
    ):
        pass


def _bucket_of(service: Service) -> str:
    url = service.call("POST", "/v1/media/presign", json={"filename": "a.jpg", "contentType": "image/jpeg"}).json()[
        "publicUrl"
    ]
    return str(url).split("/")[3]
