"""The events: all public, frozen, keyword-only, and without a place for anything secret."""

from __future__ import annotations

import dataclasses
import pickle
import typing
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import events
from bigupload.core.integrity import PartProof, Verified
from tests.tools.cases import each_case

KINDS: tuple[type[Any], ...] = typing.get_args(events.Event)
UPLOAD = events.UploadIdentity(source="/f", target="s3://b/k", id="0123", manifest=Path("m"))
VALUES: dict[Any, Any] = {
    events.UploadIdentity: UPLOAD,
    int: 1, bool: True, float: 0.5, str: "x", Path: Path("x"), int | None: None, Path | None: None,
    float | None: 1.5,
    PartProof: PartProof.ETAG, Verified: Verified.SIZE,
}  # fmt: skip


def make(kind: type[Any]) -> Any:
    hints = typing.get_type_hints(kind)
    return kind(**{f.name: VALUES[hints[f.name]] for f in dataclasses.fields(kind)})


@each_case("kind", KINDS)
def test_frozen_and_keyword_only(kind: type[Any]) -> None:
    event = make(kind)
    first = dataclasses.fields(kind)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(event, first, getattr(event, first))
    with pytest.raises(TypeError):
        kind(*dataclasses.astuple(event))
    assert event == make(kind)
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")  # a dataclass's own


@each_case("kind", KINDS)
def test_events_pass_between_processes(kind: type[Any]) -> None:
    assert pickle.loads(pickle.dumps(make(kind))) == make(kind)


def test_every_event_is_public() -> None:
    made_here = {
        name
        for name, value in vars(events).items()
        if isinstance(value, type) and value.__module__ == events.__name__ and not name.startswith("_")
    }
    assert made_here == {*(kind.__name__ for kind in KINDS), "UploadIdentity"}
    assert {*made_here, "Event"} <= set(bigupload.__all__)


@each_case("kind", KINDS)
def test_every_event_gets_its_upload(kind: type[Any]) -> None:
    told: list[Any] = []
    fields = {f.name: getattr(make(kind), f.name) for f in dataclasses.fields(kind) if f.name != "upload"}
    events.identified(UPLOAD, told.append)(kind(**fields))
    assert told == [make(kind)]
    assert {UPLOAD: "may be a key"}[told[0].upload]


def test_no_event_has_a_place_for_a_secret() -> None:
    names = {f.name for kind in KINDS for f in dataclasses.fields(kind)}
    assert not [name for name in names if any(word in name for word in ("secret", "key", "token", "signed", "header"))]
