"""The form of a kind, read once from its struct: what checks, defaults, patches and tables walk along."""

import functools
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec


class Scalar(msgspec.Struct, frozen=True):
    """`of`: str, int, float or bool."""

    of: type
    one_of: tuple[str, ...] = ()
    format: str = ""  # "quantity", "time"
    range: tuple[int, int | None] | None = None


class ListOf(msgspec.Struct, frozen=True):
    """`merge_key` None: a patch replaces the list; (): a set of plain values; else the fields that name an element.
    `retain_keys`: an element that is given replaces what it does not mention.
    """

    item: "Shape"
    merge_key: tuple[str, ...] | None = None
    retain_keys: bool = False


class MapOf(msgspec.Struct, frozen=True):
    value: "Shape"


class StructOf(msgspec.Struct, frozen=True):
    type: type[msgspec.Struct]
    presence: bool = False  # {} means something


class Anything(msgspec.Struct, frozen=True):
    pass


Shape = Scalar | ListOf | MapOf | StructOf | Anything


class Field(msgspec.Struct, frozen=True):
    name: str  # the struct's attribute
    wire: str
    shape: Shape
    required: bool


@functools.cache
def fields(of: type[msgspec.Struct]) -> Mapping[str, Field]:
    """By wire name, in the order of declaration."""
    hints = typing.get_type_hints(of, include_extras=True)
    needed = len(of.__struct_fields__) - len(of.__struct_defaults__)
    found = {}
    for index, (name, wire) in enumerate(zip(of.__struct_fields__, of.__struct_encode_fields__, strict=True)):
        shape, extra = _shape(hints[name])
        found[wire] = Field(name, wire, shape, index < needed or bool(extra.get("required")))
    return types.MappingProxyType(found)


def _shape(hint: Any) -> tuple[Shape, dict[str, Any]]:
    """The shape of an annotation and what its `Meta(extra=...)` says, outer annotations first."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        _, extra = _shape(args[0])
        for meta in args[1:]:
            extra = {**extra, **(meta.extra or {})}
        return _build(_strip(args[0]), extra), extra
    if origin in (Union, types.UnionType):
        (only,) = (a for a in args if a is not types.NoneType)
        return _shape(only)
    return _build(hint, {}), {}


def _strip(hint: Any) -> Any:
    return _strip(get_args(hint)[0]) if get_origin(hint) is Annotated else hint


def _build(hint: Any, extra: Mapping[str, Any]) -> Shape:
    origin, args = get_origin(hint), get_args(hint)
    if origin is tuple:
        return ListOf(_shape(args[0])[0], extra.get("merge_key"), bool(extra.get("retain_keys")))
    if origin is dict:
        return MapOf(_shape(args[1])[0])
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return StructOf(hint, bool(extra.get("presence")))
    if hint in (str, int, float, bool):
        return Scalar(hint, extra.get("one_of", ()), extra.get("format", ""), extra.get("range"))
    return Anything()


def walk(
    shape: Shape, path: str = "", *, without: tuple[str, ...] = ()
) -> Iterator[tuple[str, type[msgspec.Struct], Field]]:
    """Every field below, with its path (`spec.containers[].image`) and the struct that has it. Shapes do not recur."""
    match shape:
        case StructOf(type=of):
            for field in fields(of).values():
                below = f"{path}.{field.wire}" if path else field.wire
                if below not in without:
                    yield below, of, field
                    yield from walk(field.shape, below, without=without)
        case ListOf(item=item):
            yield from walk(item, path + "[]", without=without)
        case MapOf(value=value):
            yield from walk(value, path + "{}", without=without)
