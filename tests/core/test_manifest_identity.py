"""Which upload a manifest is of."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.core.manifest import Fingerprint, SourceIdentity, SourceKind, Target, belongs_to, manifest_id
from tests.core.samples import PATHS, QUICK, header
from tests.tools.cases import each_case, examples


def test_how_targets_are_shown() -> None:
    assert str(Target(bucket="b", key="k/l", endpoint="https://e")) == "s3://b/k/l"
    assert str(Target(key="k", service="https://media.example")) == "https://media.example#k"


@QUICK
@given(fingerprint=st.builds(Fingerprint, st.integers(), st.integers(), st.integers(), st.integers()))
def test_an_identity_is_a_path_and_a_fingerprint(fingerprint: Fingerprint) -> None:
    identity = SourceIdentity.of("/p", fingerprint, SourceKind.FILE)
    assert identity.path == "/p"
    assert identity.fingerprint == fingerprint
    assert identity.kind is None
    assert SourceIdentity.of("p", fingerprint, SourceKind.OBJECT).kind is SourceKind.OBJECT


TARGETS = st.builds(
    Target,
    key=st.text(max_size=6),
    bucket=st.none() | st.text(max_size=6),
    endpoint=st.none() | st.text(max_size=6),
    region=st.none() | st.text(max_size=6),
    service=st.none() | st.text(max_size=6),
)


@settings(deadline=None, max_examples=examples(80))
@given(path=PATHS, target=TARGETS)
def test_the_id_is_a_file_name(path: str, target: Target) -> None:
    found = manifest_id(path, target)
    assert len(found) == 32
    assert set(found) <= set("0123456789abcdef")
    assert manifest_id(path, target) == found
    assert manifest_id(path, dataclasses.replace(target, region="another")) == found


def test_the_id_does_not_change_between_versions() -> None:
    """Else an upload that is under way would begin again after an update."""
    target = Target(bucket="b", key="k", endpoint="https://e")
    assert manifest_id("/p", target) == hashlib.sha256(b"/p\0b\0k\0https://e\0").hexdigest()[:32]


OTHER: list[dict[str, Any]] = [{"bucket": "b2"}, {"key": "k2"}, {"endpoint": "https://e2"}, {"service": "https://s"}]


@each_case("change", OTHER)
def test_another_target_is_another_upload(change: dict[str, Any]) -> None:
    target = Target(bucket="b", key="k", endpoint="https://e")
    other = dataclasses.replace(target, **change)
    assert manifest_id("/p", target) != manifest_id("/p", other)
    known = dataclasses.replace(header(), source=SourceIdentity("/p", 25, 1, 1, 1), target=target)
    assert belongs_to(known, "/p", target)
    assert belongs_to(known, "/p", dataclasses.replace(target, region="elsewhere"))
    assert not belongs_to(known, "/p", other)


def test_the_key_that_a_service_chooses_makes_no_other_upload() -> None:
    """It is not known before create, and another one after a restart."""
    before = Target(service="https://media.example", key="")
    after = Target(service="https://media.example", key="media/o/k.mp4")
    assert manifest_id("/p", before) == manifest_id("/p", after)
    assert manifest_id("/p", before) != manifest_id("/p", Target(service="https://other.example", key=""))
    known = dataclasses.replace(header(), source=SourceIdentity("/p", 25, 1, 1, 1), target=after)
    assert belongs_to(known, "/p", before)
    assert not belongs_to(known, "/p", Target(service="https://other.example", key=after.key))
    assert str(before) == "https://media.example"


def test_another_file_is_another_upload() -> None:
    target = header().target
    assert manifest_id("/p", target) != manifest_id("/q", target)
    assert belongs_to(header(), header().source.path, target)
    assert not belongs_to(header(), "/other", target)
