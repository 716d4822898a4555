"""Our `dataclass` beside the standard library's: the same class, decorated by both."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import bigupload
from bigupload import records
from tests.tools.cases import each_case

OPTIONS: list[dict[str, Any]] = [
    {},
    {"frozen": True},
    {"slots": True},
    {"frozen": True, "slots": True},
    {"frozen": True, "slots": True, "kw_only": True},
    {"eq": False},
    {"slots": True, "eq": False, "weakref_slot": True},
]


@pytest.fixture(params=OPTIONS, ids=lambda options: " ".join(options) or "plain")
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


def pair(body: Callable[[], type], options: dict[str, Any]) -> tuple[Any, Any]:
    """A class twice: by the standard library, and by ours."""
    return dataclasses.dataclass(**options)(body()), records.dataclass(**options)(body())


def plain() -> type:
    class Plain:
        """A class."""

        name: str
        secret: str = dataclasses.field(repr=False, default="hidden")
        numbers: list[int] = dataclasses.field(default_factory=list)
        count: int = dataclasses.field(init=False, default=7)
        made: list[int] = dataclasses.field(init=False, default_factory=list)
        unset: int = dataclasses.field(init=False)
        aside: int = dataclasses.field(default=0, compare=False)
        last: int = dataclasses.field(default=1, kw_only=True)

        def __post_init__(self) -> None:
            object.__setattr__(self, "unset", len(self.name))

    return Plain


def test_it_is_made_from_the_same_arguments(options: dict[str, Any]) -> None:
    theirs, ours = pair(plain, options)
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
    for own, other in zip(*(inspect.signature(each).parameters.values() for each in (ours, theirs)), strict=True):
        assert (own.kind, own.annotation) == (other.kind, other.annotation)
        assert (own.default is inspect.Parameter.empty) == (other.default is inspect.Parameter.empty)
    for wrong in ({}, {"name": "a", "more": 1}, {"name": "a", "count": 1}):
        for each in (theirs, ours):
            with pytest.raises(TypeError):
                each(**wrong)
    assert ours.__match_args__ == theirs.__match_args__
    assert ours.__doc__ == theirs.__doc__


def test_its_values_are_the_same(options: dict[str, Any]) -> None:
    theirs, ours = (each(name="ab", numbers=[1], last=3) for each in pair(plain, options))
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert repr(ours) == repr(theirs)
    assert "hidden" not in repr(ours)
    assert (ours.count, ours.made, ours.unset) == (7, [], 2)
    assert dataclasses.asdict(dataclasses.replace(ours, name="abc")) == dataclasses.asdict(
        dataclasses.replace(theirs, name="abc")
    )
    assert type(ours)(name="a").numbers is not type(ours)(name="a").numbers


def test_what_is_equal(options: dict[str, Any]) -> None:
    theirs, ours = pair(plain, options)
    for each in (theirs, ours):
        same = each(name="a") == each(name="a", aside=5)
        assert same is options.get("eq", True)
        assert each(name="a") != each(name="b")
        assert each(name="a") != "a"
    assert ours(name="a") != theirs(name="a")


def test_what_has_a_hash(options: dict[str, Any]) -> None:
    def body() -> type:
        class Hashed:
            name: str
            aside: int = dataclasses.field(default=0, compare=False)

        return Hashed

    theirs, ours = pair(body, options)
    assert (ours.__hash__ is None) == (theirs.__hash__ is None)
    if options.get("frozen"):
        assert hash(ours(name="a")) == hash(ours(name="a", aside=1)) == hash(theirs(name="a"))


def test_what_can_be_changed(options: dict[str, Any]) -> None:
    for each in pair(plain, options):
        made = each(name="a")
        if options.get("frozen"):
            with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'name'"):
                made.name = "b"
            with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'name'"):
                del made.name
        else:
            made.name = "b"
            assert made.name == "b"
        assert (
            dataclasses.asdict(copy.copy(made)) == dataclasses.asdict(copy.deepcopy(made)) == dataclasses.asdict(made)
        )


@pytest.mark.parametrize("frozen", [False, True])
def test_a_class_keeps_its_own_methods(frozen: bool) -> None:
    def body() -> type:
        class Own:
            name: str

            def __repr__(self) -> str:
                return "own"

            def __eq__(self, other: object) -> bool:
                return True

        return Own

    theirs, ours = pair(body, {"frozen": frozen})
    assert repr(ours("a")) == repr(theirs("a")) == "own"
    assert ours("a") == ours("b")
    assert (ours.__hash__ is None) == (theirs.__hash__ is None)


@each_case("frozen", [False, True])
@each_case("slots", [False, True])
@each_case("base", [dataclasses.dataclass, records.dataclass])
@each_case("derived", [dataclasses.dataclass, records.dataclass])
def test_one_inherits_from_another(frozen: bool, slots: bool, base: Any, derived: Any) -> None:
    """Ours from ours, and a program's own from either."""

    class Base:
        first: int
        second: int = 2

    parent = base(frozen=frozen, slots=slots)(Base)

    class Derived(parent):  # type: ignore[misc, valid-type]  # a class that was just made
        third: int = 3

    child = derived(frozen=frozen, slots=slots)(Derived)
    made = child(1, third=4)
    assert dataclasses.astuple(made) == (1, 2, 4)
    assert made == child(1, 2, 4) != parent(1, 2)
    with pytest.raises(TypeError, match="frozen"):
        derived(frozen=not frozen)(type("Other", (parent,), {"__annotations__": {}}))


@records.dataclass(frozen=True, slots=True)
class Sent:
    """Of a module, as what is pickled must be."""

    name: str
    inner: Sent | None = None


def test_it_can_be_sent_to_another_process() -> None:
    made = Sent("a", Sent("b"))
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert repr(again) == "Sent(name='a', inner=Sent(name='b', inner=None))"
    match again:
        case Sent(name, inner=Sent()):
            assert name == "a"
        case _:
            raise AssertionError


def test_one_that_holds_itself_can_be_shown() -> None:
    @records.dataclass
    class Loop:
        inner: Any = None

    loop = Loop()
    loop.inner = loop
    assert repr(loop).endswith("Loop(inner=...)")


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    (("ab",), {}),
    ((), {"name": "ab", "numbers": [1], "last": 3}),
    (("ab", "s", [2], 4), {"last": 5}),
    ((), {}),
    (("ab",), {"name": "ab"}),
    (("ab",), {"more": 1}),
    (("ab",), {"count": 1}),
    (("ab", "s", [2], 4, 5), {}),
]


def test_the_first_objects_are_made_as_later_ones_are(options: dict[str, Any]) -> None:
    """The first ones without a compiled `__init__`."""
    outcomes = []
    for values, named in CALLS:
        theirs, ours = pair(plain, options)

        def made(of: Any, values: Any = values, named: Any = named) -> Any:
            try:
                return dataclasses.asdict(of(*values, **named))
            except TypeError as e:
                return str(e)

        first = made(ours)
        for _ in range(records._UNCOMPILED):
            assert made(ours) == first
        assert inspect.isfunction(vars(ours)["__init__"])
        assert made(theirs) == first or not isinstance(first, dict)
        outcomes.append(isinstance(first, dict))
    assert outcomes == [not options.get("kw_only"), True, not options.get("kw_only"), *[False] * 5]


def test_its_init_is_compiled_once_and_not_for_the_first_objects() -> None:
    @records.dataclass
    class Late:
        name: str

    class Derived(Late):
        """Not a dataclass of its own."""

    assert not inspect.isfunction(vars(Late)["__init__"])
    made = [Derived("a") for _ in range(records._UNCOMPILED)].pop()
    assert not inspect.isfunction(vars(Late)["__init__"])
    assert Derived("z").name == "z"
    compiled = vars(Late)["__init__"]
    assert inspect.isfunction(compiled)
    assert "__init__" not in vars(Derived)
    made.__init__("b")  # type: ignore[misc]  # as `super().__init__` reaches it
    assert (made.name, Late("c").name) == ("b", "c")
    assert vars(Late)["__init__"] is compiled


def test_what_is_no_field() -> None:
    def body() -> type:
        class Mixed:
            shared: ClassVar[int] = 1
            first: int
            _: dataclasses.KW_ONLY
            second: int = 2

        return Mixed

    theirs, ours = pair(body, {"slots": True})
    assert [each.name for each in dataclasses.fields(ours)] == [each.name for each in dataclasses.fields(theirs)]
    assert [each.kw_only for each in dataclasses.fields(ours)] == [False, True]
    assert ours.shared == 1
    with pytest.raises(TypeError):
        ours(1, 2)


def test_a_default_that_can_be_changed_is_refused() -> None:
    for decorate in (dataclasses.dataclass, records.dataclass):
        with pytest.raises(ValueError, match="use default_factory"):
            decorate(type("Wrong", (), {"__annotations__": {"names": "list[int]"}, "names": []}))


def test_it_can_be_replaced_as_the_standard_library_does() -> None:
    theirs, ours = pair(plain, {"frozen": True, "slots": True})
    assert hasattr(ours, "__replace__") == hasattr(theirs, "__replace__")


def test_an_empty_one() -> None:
    theirs, ours = pair(lambda: type("Empty", (), {}), {"frozen": True})
    assert ours() == ours()
    assert hash(ours()) == hash(theirs())
    assert repr(ours()) == "Empty()"


def test_no_module_makes_them_slowly() -> None:
    """All but those of `testing`, which share no code with the uploader."""
    root = Path(bigupload.__file__).parent
    modules = [path for path in root.rglob("*.py") if "testing" not in path.parts and path.name != "records.py"]
    assert len(modules) > 100
    slow = ("from dataclasses import dataclass", "@dataclasses.dataclass")
    assert [path.name for path in modules if any(each in path.read_text() for each in slow)] == []
