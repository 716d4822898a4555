"""`dataclass`, made in a twentieth of the time.

The standard library's compiles up to six functions for each class: 0.50 ms for one of four fields, and an upload loads
140 classes. This one takes 0.02 ms, and compiles `__init__` alone, when a class has had a few objects: a command makes
no object of most classes that it loads, and one to three of most others. `fields`, `replace`, `asdict`, patterns and
type checkers know no difference.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import operator
import reprlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, eq=True, kw_only=False, slots=False, weakref_slot=False):
        """Do the same as `dataclasses.dataclass`. There is no `order`, `unsafe_hash`, `init`, `repr` or `InitVar`."""
        if cls is None:
            return lambda cls: _made(cls, frozen, eq, kw_only, slots, weakref_slot)
        return _made(cls, frozen, eq, kw_only, slots, weakref_slot)


@dataclasses.dataclass(init=False, repr=False, eq=False)
class _StandardRecord:
    """A class by the standard library. Its functions know a dataclass by attributes, which `_made` copies from here."""

    field: int


_UNCOMPILED = 4
"""Objects of a class that are filled before its `__init__` is compiled, which takes as long as to fill five to ten of
them. An upload of a small file makes two to five objects of twenty classes, and more of two."""
_NOT_GIVEN = object()
_PARAMS = vars(_StandardRecord)["__dataclass_params__"]
_IS_FIELD = vars(_StandardRecord)["__dataclass_fields__"]["field"]._field_type
_FROM_313 = {name: value for name, value in vars(_StandardRecord).items() if name == "__replace__"}
"""The method that `copy.replace` of Python 3.13 calls."""


def _made(cls: Any, frozen: bool, eq: bool, kw_only: bool, slots: bool, weakref_slot: bool) -> Any:
    inherited: dict[str, dataclasses.Field[Any]] = {}
    for base in cls.__mro__[-1:0:-1]:
        if "__dataclass_params__" in vars(base):
            inherited |= base.__dataclass_fields__
            if base.__dataclass_params__.frozen != frozen:
                raise TypeError(f"{cls.__name__} must be frozen if what it inherits from is, and only then")
    fields = inherited | {field.name: field for field in _own_fields(cls, kw_only)}
    found = [field for field in fields.values() if field._field_type is _IS_FIELD]  # type: ignore[attr-defined]  # private
    init = _Init(found, frozen)
    methods: dict[str, Any] = {
        "__init__": init,
        "__repr__": __repr__,
        "__match_args__": tuple([field.name for field in found if field.init and not field.kw_only]),
        **_FROM_313,
    }
    if eq:
        values = _values_of([field.name for field in found if field.compare])
        methods |= {"__eq__": _eq_of(values), "__hash__": _hash_of(values) if frozen else None}
    if frozen:
        methods |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
        methods |= {"__getstate__": _state, "__setstate__": _set_state} if slots else {}
    own = vars(cls)
    for name in [name for name in methods if own.get(name) is not None]:  # `__hash__` is None beside an own `__eq__`
        del methods[name]
    methods |= {"__dataclass_fields__": fields, "__dataclass_params__": _params_of(eq, frozen)}
    if slots:
        cls = _with_slots(cls, methods, [field.name for field in found], weakref_slot)
    else:
        for name, method in methods.items():
            setattr(cls, name, method)
    init.of = cls
    return cls


@functools.cache
def _params_of(eq: bool, frozen: bool) -> Any:
    params = copy.copy(_PARAMS)
    params.init, params.repr, params.eq, params.frozen = True, True, eq, frozen
    return params


def _own_fields(cls: Any, kw_only: bool) -> Iterator[dataclasses.Field[Any]]:
    """Return the fields that the class itself declares, and leave their defaults in it."""
    for name, declared in list(cls.__annotations__.items()):
        text = declared if isinstance(declared, str) else str(declared)
        if text in ("KW_ONLY", "dataclasses.KW_ONLY") or declared is dataclasses.KW_ONLY:
            kw_only = True
            continue
        if text.startswith(("ClassVar", "typing.ClassVar")):
            continue
        value = vars(cls).get(name, dataclasses.MISSING)
        if isinstance(value, dataclasses.Field):
            field = value
            if field.default is dataclasses.MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, field.default)
        else:
            field = dataclasses.field(default=value)
        if field.default.__class__.__hash__ is None:
            raise ValueError(f"the default of {cls.__name__}.{name} is mutable: use default_factory")
        field.name, field.type, field._field_type = name, declared, _IS_FIELD  # type: ignore[attr-defined]  # as above
        if field.kw_only is dataclasses.MISSING:
            field.kw_only = kw_only
        yield field


def _with_slots(cls: Any, methods: dict[str, Any], names: Sequence[str], weakref_slot: bool) -> Any:
    """Return a copy of the class with slots. They can't be added to a class that exists."""
    taken = {slot for base in cls.__mro__[1:-1] for slot in vars(base).get("__slots__", ())}
    left_out = {"__dict__", "__weakref__", *names}
    namespace = {name: value for name, value in vars(cls).items() if name not in left_out} | methods
    wanted = [*names, "__weakref__"] if weakref_slot else names
    namespace["__slots__"] = tuple([name for name in wanted if name not in taken])
    namespace["__qualname__"] = cls.__qualname__
    return type(cls)(cls.__name__, cls.__bases__, namespace)


class _Init:
    """`__init__` of a class's first objects: then what is compiled takes its place."""

    of: Any
    """The class."""

    def __init__(self, fields: Sequence[dataclasses.Field[Any]], frozen: bool) -> None:
        self._fields, self._frozen = fields, frozen
        self._left = _UNCOMPILED

    def __get__(self, made: object, owner: type | None = None) -> Any:
        is_object = made is not None and not isinstance(made, type)  # `inspect` of Python 3.13 binds it to the class
        if is_object and self._left > 0:
            self._left -= 1
            return functools.partial(self._fill, made)
        init = _init_of(self.of, self._fields, self._frozen)
        type.__setattr__(self.of, "__init__", init)
        return init if made is None else init.__get__(made, owner)

    def _fill(self, made: Any, /, *values: Any, **named: Any) -> None:
        fields = [field for field in self._fields if field.init]
        places = [field.name for field in fields if not field.kw_only]
        given = dict(zip(places, values, strict=False)) | named
        needed = {field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING}
        names = {field.name for field in fields}
        if len(given) < len(values) + len(named) or not needed <= given.keys() <= names:
            self.__get__(made)(*values, **named)  # raises, as a compiled one does
            return
        put = object.__setattr__ if self._frozen else setattr
        for field in self._fields:
            if field.name in given:
                put(made, field.name, given[field.name])
            elif field.default_factory is not dataclasses.MISSING:
                put(made, field.name, field.default_factory())
            elif field.default is not dataclasses.MISSING:
                put(made, field.name, field.default)
        if hasattr(made, "__post_init__"):
            made.__post_init__()


def _init_of(cls: Any, fields: Sequence[dataclasses.Field[Any]], frozen: bool) -> Callable[..., None]:
    """Compile `__init__`."""
    names: dict[str, Any] = {"_NOT_GIVEN": _NOT_GIVEN, "_set": object.__setattr__}
    by_position, by_name, lines = ["self"], ["*"], []
    for field in fields:
        name = value = field.name
        default = ""
        if field.default_factory is not dataclasses.MISSING:
            names[f"_new_{name}"] = field.default_factory
            default = "=_NOT_GIVEN"
            value = f"{name} if {name} is not _NOT_GIVEN else _new_{name}()" if field.init else f"_new_{name}()"
        elif field.default is not dataclasses.MISSING:
            names[f"_default_{name}"] = field.default
            default = f"=_default_{name}"
            value = name if field.init else f"_default_{name}"
        elif not field.init:
            continue  # `__post_init__` sets it
        if field.init:
            (by_name if field.kw_only else by_position).append(name + default)
        lines.append(f" _set(self, {name!r}, {value})" if frozen else f" self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    parameters = ", ".join(by_position + (by_name if len(by_name) > 1 else []))
    exec("\n".join([f"def __init__({parameters}):", *lines, " return"]), names)  # noqa: S102 - of the names of fields
    init: Callable[..., None] = names["__init__"]
    init.__qualname__, init.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
    init.__annotations__ = {field.name: field.type for field in fields if field.init} | {"return": None}
    return init


def _values_of(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda each: tuple(getattr(each, name) for name in names)


@reprlib.recursive_repr()
def __repr__(self: Any) -> str:
    shown = [field.name for field in dataclasses.fields(self) if field.repr]
    return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def _eq_of(values: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any, Any], bool]:
    def __eq__(self: Any, other: Any) -> bool:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    return __eq__


def _hash_of(values: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:
        return hash(values(self))

    return __hash__


def _refuse_to_set(self: object, name: str, value: object) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
