"""S3Options: what is refused, what goes into a manifest and comes back, and what AWS's variables add."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import re
import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.errors import ManifestMismatch, UsageError
from bigupload.options import S3Options
from tests.core.samples import JSON
from tests.stores.s3.support import PARAMETERS
from tests.tools.cases import each_case, examples

SECRETS = {"access_key": "AK-hidden", "secret_key": "SK-hidden", "session_token": "ST-hidden"}
KEY = b"a customer key, which is hidden."

# -- what is refused


@each_case(
    "url",
    ["http://localhost", "https://s3.example.com:9000", "HTTPS://S3.example", "http://127.0.0.1:1", "http://[::1]:9000",
     "https://s3.example/prefix/"],
)  # fmt: skip
def test_endpoints(url: str) -> None:
    assert S3Options(endpoint_url=url).endpoint_url == url


@each_case(
    "url",
    ["", "s3.example", "s3.example:9000", "//s3.example", "ftp://s3.example", "s3://bucket", "https://", "https:///x",
     "https://:9000", "https://s3.example:port", "https://s3.example:70000", "https://s3.example:-1", "https://s3.example:0",
     "https://[::1"],
)  # fmt: skip
def test_what_is_no_endpoint(url: str) -> None:
    with pytest.raises(UsageError, match="not an endpoint") as caught:
        S3Options(endpoint_url=url)
    assert repr(url) in str(caught.value)


def test_an_endpoint_that_may_hold_a_password_is_not_shown() -> None:
    with pytest.raises(UsageError, match=r"not an endpoint \(write it like") as caught:
        S3Options(endpoint_url="ftp://user:hidden@s3.example")
    assert "hidden" not in str(caught.value)


@each_case("user", ["key:hidden@", "hidden@", ":hidden@", "@", ":@"])
def test_an_endpoint_holds_no_credentials(user: str) -> None:
    with pytest.raises(UsageError, match="holds no credentials") as caught:
        S3Options(endpoint_url=f"https://{user}s3.example")
    assert "hidden" not in str(caught.value)


def test_a_refused_endpoint_is_not_repeated() -> None:
    """It may hold a password all the same."""
    with pytest.raises(UsageError) as caught:
        S3Options(endpoint_url="ftp://key:hidden@s3.example")
    assert "hidden" not in str(caught.value)


def test_a_kms_key_goes_with_kms_only() -> None:
    assert S3Options(sse_kms_key_id="k").sse is None
    assert S3Options(sse_kms_key_id="k", sse="aws:kms").sse == "aws:kms"
    assert S3Options(sse="AES256").sse_kms_key_id is None
    with pytest.raises(UsageError, match="aws:kms"):
        S3Options(sse_kms_key_id="k", sse="AES256")


def test_a_ca_bundle_is_for_certificates_that_are_checked() -> None:
    with pytest.raises(UsageError, match="leave one out"):
        S3Options(ca_bundle=Path("ca.pem"), no_verify_ssl=True)


def test_no_secret_is_shown() -> None:
    assert "hidden" not in repr(S3Options(**SECRETS))


@each_case(
    ("options", "says"),
    [
        ({"metadata": {"take": 7}}, "metadata must be a mapping of texts to texts"),
        ({"metadata": [("a", "b")]}, "metadata must be"),
        ({"session": 7}, "session must be a boto3.Session, not builtins.int"),
        ({"session": botocore.session.Session()}, "session must be a boto3.Session, not botocore.session.Session"),
        ({"tags": {"e": 1}}, "tags must be a mapping of texts to texts"),
        ({"tags": {1: "e"}}, "tags must be"),
        ({"content_type": b"text/plain"}, "content_type must be a text"),
        ({"storage_class": 1}, "storage_class must be"),
        ({"local": "yes"}, "local must be True or False"),
        ({"if_none_match": 1}, "if_none_match must be"),
        ({"addressing": "sideways"}, "addressing must be auto or path or virtual"),
        ({"endpoint_url": 9000}, "endpoint_url must be a text"),
        ({"secret_key": 1234567}, "secret_key must be a text"),
        ({"metadata": {"a": "b\r\nX-Amz-Acl: public-read"}}, "metadata holds a control character"),
        ({"metadata": {"a\n": "b"}}, "metadata holds a control character"),
        ({"metadata": {"a b": "c"}}, "metadata has names that HTTP headers can't have"),
        ({"metadata": {"": "c"}}, "metadata has names that HTTP headers can't have"),
        ({"metadata": {"é": "c"}}, "metadata has names that HTTP headers can't have"),
        ({"metadata": {"A": "b", "a": "b"}}, "metadata has two names that differ only in case"),
        ({"metadata": {"Bigupload-Token": "b"}}, "metadata may have any name but bigupload-token"),
        ({"metadata": {"a": "é"}}, "metadata is sent as HTTP headers, which are ASCII"),
        ({"content_type": "text/plain\nSet-Cookie: a=b"}, "content_type holds a control character"),
        ({"tags": {"a": "\0"}}, "tags holds a control character"),
        ({"region": "eu\x7f"}, "region holds a control character"),
        ({"cache_control": "no-store\r\nX: y"}, "cache_control holds a control character"),
        ({"content_type": "vidéo"}, "content_type is sent as an HTTP header, which is ASCII"),
        ({"content_disposition": "attachment; filename=é"}, r"filename\*=UTF-8''caf%C3%A9.mov"),
        ({"expires": "2027-01-31"}, "expires is a time with its time zone: write it like 2027-01-31T00:00:00Z"),
        ({"expires": datetime(2027, 1, 31)}, "expires is a time with its time zone"),
        ({"expires": "0001-01-01T00:00:00+05:00"}, "expires is a time with its time zone"),
        ({"expires": 1234567}, "expires must be a time or a text"),
        ({"object_lock_retain_until": "tomorrow"}, "object_lock_retain_until is a time with its time zone"),
        ({"object_lock_retain_until": "2027-01-31T00:00:00Z"}, "a lock needs both object_lock_mode and"),
        ({"object_lock_mode": "COMPLIANCE"}, "a lock needs both object_lock_mode and object_lock_retain_until"),
        ({"object_lock_mode": "compliance"}, "object_lock_mode must be GOVERNANCE or COMPLIANCE"),
        ({"object_lock_legal_hold": "ON"}, "object_lock_legal_hold must be True or False"),
        ({"acl": "everyone"}, "acl must be private or public-read or"),
        ({"acl": "private", "grant_read": 'id="a"'}, "S3 takes an acl or grants, not both"),
        ({"website_redirect": "other"}, "website_redirect is a key of the same bucket with a slash before it, or"),
        ({"expected_bucket_owner": "1234567"}, "expected_bucket_owner is the 12 digits of an AWS account"),
        ({"expected_bucket_owner": ""}, "expected_bucket_owner is the 12 digits"),
        ({"request_payer": True, "no_sign_request": True}, "request_payer needs credentials"),
        ({"sse_customer_key": b"1234567"}, "sse_customer_key is a key of 32 bytes, or those in base64"),
        ({"sse_customer_key": "1234567" * 6}, "sse_customer_key is a key of 32 bytes"),
        ({"sse_customer_key": ""}, "sse_customer_key is a key of 32 bytes"),
        ({"sse_customer_key": 1234567}, "sse_customer_key must be bytes or a text"),
        ({"sse_customer_key": KEY, "sse": "AES256"}, "encrypted in one way: leave out sse_customer_key, or sse"),
        ({"sse_customer_key": KEY, "endpoint_url": "HTTP://s3.example"}, "would be sent unencrypted over http"),
        ({"sse_customer_key": KEY, "local": True}, "would be sent unencrypted over http"),
        ({"accelerate": True, "addressing": "path"}, "accelerate needs the bucket in the host name"),
        ({"accelerate": True, "fips": True}, "AWS has no address for accelerate with fips"),
        ({"accelerate": True, "endpoint_url": "https://s3.example"}, "accelerate chooses one of AWS's own addresses"),
        ({"dual_stack": True, "endpoint_url": "https://s3.example"}, "dual_stack chooses one of AWS's own addresses"),
        ({"fips": True, "local": True}, "fips chooses one of AWS's own addresses"),
    ],
)
def test_values_that_make_no_sense(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        S3Options(**options)
    assert re.search(says, str(caught.value).replace("`", ""))
    assert "1234567" not in str(caught.value)


@each_case(
    "beside", [{"profile": "p"}, {"access_key": "AK"}, {"secret_key": "SK"}, {"session_token": "ST"}, {"local": True},
               {"no_sign_request": True}],
)  # fmt: skip
def test_a_session_has_its_own_credentials(beside: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"session already names the credentials: leave {next(iter(beside))} out"):
        S3Options(session=boto3.Session(), **beside)


def test_a_session_is_recorded_nowhere() -> None:
    session = boto3.Session(aws_access_key_id="AK-hidden", aws_secret_access_key="SK-hidden", region_name="r")
    options = S3Options(session=session, storage_class="STANDARD_IA")
    assert options.to_json() == {"storage_class": "STANDARD_IA"}
    assert "ession" not in repr(options)
    assert S3Options.from_json({"profile": "then", "region": "r"}, options) == S3Options(session=session, region="r")
    assert options.completed_by({"AWS_PROFILE": "work"}) == options


# -- to a manifest and back

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
HEADER_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=12)
HEADER = st.none() | HEADER_TEXT
METADATA_NAME = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.~", min_size=1, max_size=12)
TIME = st.none() | st.datetimes(
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5))]), min_value=datetime(2000, 1, 1)
)

_CERTIFICATES = st.sampled_from(
    [(None, False), (Path("/ca.pem"), False), (Path("relative/ca.pem"), False), (None, True)]
)
"""What is trusted and whether nothing is checked, which exclude each other."""
_EXCLUSIVE = st.sampled_from(
    [
        {"acl": "private", "object_lock_mode": "GOVERNANCE", "object_lock_retain_until": "2999-01-31T00:00:00Z"},
        {"grant_full_control": "id=a", "grant_read": "id=a", "grant_read_acp": "id=a", "grant_write_acp": "id=a"},
    ]
)
"""An access control list or grants, and what needs one another."""
OPTIONS = st.builds(
    lambda certificates, more, **rest: S3Options(
        ca_bundle=certificates[0], no_verify_ssl=certificates[1], **more, **rest
    ),
    certificates=_CERTIFICATES,
    more=_EXCLUSIVE,
    no_sign_request=st.booleans(),
    endpoint_url=st.sampled_from([None, "https://s3.example", "http://[::1]:9000"]),
    region=st.none() | TEXT.filter(bool),
    profile=st.none() | TEXT.filter(bool),
    local=st.booleans(),
    addressing=st.sampled_from(["auto", "path", "virtual"]),
    content_type=HEADER,
    metadata=st.dictionaries(METADATA_NAME, HEADER_TEXT, max_size=2),
    tags=st.dictionaries(TEXT, TEXT, max_size=2),
    storage_class=HEADER,
    sse=st.sampled_from([None, "aws:kms"]),
    sse_kms_key_id=HEADER,
    if_none_match=st.booleans(),
    cache_control=HEADER,
    content_disposition=HEADER,
    content_encoding=HEADER,
    content_language=HEADER,
    expires=TIME,
    website_redirect=st.sampled_from([None, "/key", "https://s3.example/"]),
    object_lock_legal_hold=st.booleans(),
    expected_bucket_owner=st.sampled_from([None, "111122223333"]),
)


def test_each_option_is_recorded_but_the_secret_ones() -> None:
    lock = {"object_lock_mode": "COMPLIANCE", "object_lock_retain_until": "2027-01-31T00:00:00Z"}
    of_requests = {name: {name: value} for name, (value, _) in PARAMETERS.items() if name != "sse_customer_key"}
    others = {
        "endpoint_url": "https://e", "region": "r", "profile": "p", "local": True, "addressing": "path",
        "ca_bundle": Path("c"), "no_verify_ssl": True, "no_sign_request": True, "if_none_match": True,
        "accelerate": True, "dual_stack": True, "fips": True,
    }  # fmt: skip
    recorded: set[str] = set()
    for fields in (
        *(of_requests | dict.fromkeys(lock, lock)).values(),
        *({name: value} for name, value in others.items()),
    ):
        options = S3Options(**fields)
        recorded |= options.to_json().keys()
        assert S3Options.from_json(json.loads(json.dumps(options.to_json()))) == options, fields
    names = {f.name for f in dataclasses.fields(S3Options)} - {*SECRETS, "session", "credentials", "sse_customer_key"}
    assert recorded == names
    assert S3Options(**SECRETS).to_json() == S3Options().to_json() == {}


@settings(deadline=None, max_examples=examples(100))
@given(options=OPTIONS)
def test_round_trip(options: S3Options) -> None:
    secret = uuid.uuid4().hex  # Hypothesis tries the texts that stand in the tests
    hidden = dataclasses.replace(options, **{name: f"{text}-{secret}" for name, text in SECRETS.items()})
    written = json.dumps(hidden.to_json())
    assert secret not in written
    assert S3Options.from_json(json.loads(written)) == options
    assert S3Options.from_json(json.loads(written), hidden) == hidden


def test_of_the_secrets_options_nothing_else_is_taken() -> None:
    secrets = S3Options(**SECRETS, region="other", storage_class="other", if_none_match=True)
    assert S3Options.from_json({"region": "r"}, secrets) == S3Options(**SECRETS, region="r")


def test_secrets_in_a_manifest_are_not_believed() -> None:
    assert S3Options.from_json(SECRETS) == S3Options()
    own = S3Options(access_key="own", secret_key="own")
    assert S3Options.from_json(SECRETS, own) == own


@each_case("name", ["endpoint_url", "region", "profile", "ca_bundle", "content_type", "sse"])
def test_what_is_null_was_left_out(name: str) -> None:
    assert S3Options.from_json({name: None}) == S3Options()


def test_a_customer_key_is_not_recorded_and_its_need_is() -> None:
    for form in (KEY, base64.b64encode(KEY), base64.b64encode(KEY).decode()):
        options = S3Options(sse_customer_key=form)
        assert options == S3Options(sse_customer_key=KEY)
        assert "hidden" not in repr(options)
        recorded = options.to_json()
        assert recorded == {"needs_sse_customer_key": True}
        assert S3Options.from_json(recorded, options) == options
        assert S3Options.from_json(recorded) == S3Options()
        assert S3Options.from_json({}, options) == S3Options(), "the key is of other uploads"


def test_an_endpoint_of_the_environment_is_checked_too() -> None:
    with pytest.raises(UsageError, match="unencrypted over http"):
        S3Options(sse_customer_key=KEY).completed_by({"AWS_ENDPOINT_URL": "http://s3.example"})


@pytest.mark.parametrize("moment", ["2027-01-31T05:00:00.5+05:00", datetime(2027, 1, 31, tzinfo=UTC)])
def test_times_are_kept_in_utc(moment: str | datetime) -> None:
    assert S3Options(expires=moment).expires == "2027-01-31T00:00:00Z"


def test_unknown_names_are_ignored() -> None:
    assert S3Options.from_json({"from_the_future": [1], "region": "r"}) == S3Options(region="r")


@each_case(
    ("name", "value"),
    [
        ("endpoint_url", 1), ("endpoint_url", ["https://e"]), ("region", True), ("region", {}), ("profile", 1.5),
        ("local", 1), ("local", "true"), ("local", None), ("addressing", "sideways"), ("addressing", None),
        ("addressing", ["auto"]), ("ca_bundle", 1), ("ca_bundle", ["/ca.pem"]), ("content_type", b"x"),
        ("metadata", None), ("metadata", "a=b"), ("metadata", [["a", "b"]]), ("metadata", {"a": 1}),
        ("metadata", {"a": None}), ("tags", {"a": {}}), ("tags", []), ("storage_class", 0), ("sse", False),
        ("sse_kms_key_id", []), ("if_none_match", "*"), ("if_none_match", 0),
    ],
)  # fmt: skip
def test_values_of_another_type(name: str, value: Any) -> None:
    with pytest.raises(ManifestMismatch, match=name) as caught:
        S3Options.from_json({name: value})
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=examples(100))
@given(
    recorded=st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(S3Options)]), JSON, max_size=4),
)
def test_whatever_a_manifest_says_is_options_or_a_public_error(recorded: dict[str, Any]) -> None:
    with contextlib.suppress(ManifestMismatch, UsageError):
        assert isinstance(S3Options.from_json(recorded), S3Options)


# -- going on


def test_an_upload_goes_on_with_the_object_that_it_began_with() -> None:
    recorded = S3Options(
        region="then", content_type="video/mp4", metadata={"a": "b"}, sse="aws:kms", sse_kms_key_id="k",
    ).to_json()  # fmt: skip
    now = S3Options(**SECRETS, region="now", content_type="text/plain", sse="AES256", if_none_match=True)
    kept, differing = now.with_object_of(recorded)
    assert kept == S3Options(
        **SECRETS, region="now", content_type="video/mp4", metadata={"a": "b"}, sse="aws:kms", sse_kms_key_id="k"
    )
    assert differing == ["content_type", "metadata", "sse", "sse_kms_key_id", "if_none_match"]


def test_how_the_store_is_reached_is_no_difference() -> None:
    now = S3Options(endpoint_url="https://e", region="r", profile="p", addressing="path", storage_class="s", tags={})
    assert now.with_object_of({"storage_class": "s", "local": True}) == (now, [])


@settings(deadline=None, max_examples=examples(60))
@given(began=OPTIONS, now=OPTIONS)
def test_what_is_kept_differs_no_more(began: S3Options, now: S3Options) -> None:
    kept, _ = now.with_object_of(began.to_json())
    assert kept.with_object_of(began.to_json()) == (kept, [])
    assert (kept.endpoint_url, kept.region, kept.profile) == (now.endpoint_url, now.region, now.profile)


def test_going_on_with_a_manifest_that_makes_no_sense() -> None:
    with pytest.raises(ManifestMismatch, match="tags"):
        S3Options().with_object_of({"tags": 1})


# -- AWS's variables

ALL, OF_S3 = "https://all.example", "https://s3.example"


@each_case(
    ("environment", "endpoint"),
    [
        ({}, None),
        ({"AWS_ENDPOINT_URL": ALL}, ALL),
        ({"AWS_ENDPOINT_URL_S3": OF_S3}, OF_S3),
        ({"AWS_ENDPOINT_URL": ALL, "AWS_ENDPOINT_URL_S3": OF_S3}, OF_S3),
        ({"AWS_ENDPOINT_URL": ALL, "AWS_ENDPOINT_URL_S3": ""}, ALL),
        ({"AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": ""}, None),
        ({"AWS_ENDPOINT_URL": ALL, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, None),
        ({"AWS_ENDPOINT_URL_S3": OF_S3, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "TRUE"}, None),
        ({"AWS_ENDPOINT_URL": ALL, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false"}, ALL),
        ({"AWS_ENDPOINT_URL": ALL, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": ""}, ALL),
    ],
)
def test_the_endpoint_of_the_environment(environment: dict[str, str], endpoint: str | None) -> None:
    assert S3Options().completed_by(environment) == S3Options(endpoint_url=endpoint)
    own = S3Options(endpoint_url="https://own.example")
    assert own.completed_by(environment) == own


@pytest.mark.parametrize(
    ("given", "profile"),
    [
        (S3Options(), "work"),
        (S3Options(profile="own"), "own"),
        (S3Options(access_key="AK", secret_key="SK"), None),  # keys that were named go before a profile's
    ],
)
def test_the_profile_of_the_environment(given: S3Options, profile: str | None) -> None:
    completed = given.completed_by({"AWS_PROFILE": "work"})
    assert completed == dataclasses.replace(given, profile=profile)
    assert given.completed_by({"AWS_PROFILE": ""}) == given


def test_the_environments_endpoint_is_checked_too() -> None:
    with pytest.raises(UsageError, match="holds no credentials") as caught:
        S3Options().completed_by({"AWS_ENDPOINT_URL": "https://key:hidden@s3.example"})
    assert "hidden" not in str(caught.value)


def test_what_the_environment_added_is_in_the_manifest() -> None:
    completed = S3Options(**SECRETS).completed_by({"AWS_ENDPOINT_URL": ALL, "AWS_SESSION_TOKEN": "x"})
    assert completed.to_json() == {"endpoint_url": ALL}
