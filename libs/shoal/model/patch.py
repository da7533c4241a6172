"""JSON merge patch (RFC 7396), and the three-way merge of `apply`.

Three-way: `last_applied` (what the author said the time before), `live` (what is there) and `new` (what the author says
now). What the author no longer says goes, what he says holds, what others added stays. Lists whose elements have a
merge key are merged element by element, sets of plain values as sets, every other list is replaced as a whole.

Pure: no argument is changed, and the result shares no container with any.
"""

import copy
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from shoal.model.registry import Kind
from shoal.model.shape import Anything, ListOf, MapOf, Scalar, Shape, StructOf, fields

Json = dict[str, Any]

_KEY_DEFAULTS: Mapping[str, Any] = {"protocol": "TCP"}  # a part of a key that Kubernetes fills in


def merge_patch(document: Any, patch: Any) -> Any:
    """RFC 7396: null removes, maps merge, everything else replaces."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    merged: Json = dict(document) if isinstance(document, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return copy.deepcopy(merged)


def three_way(
    last_applied: Mapping[str, Any] | None, live: Mapping[str, Any], new: Mapping[str, Any], kind: Kind
) -> Json:
    """The next desired document. `last_applied` None: the author never applied this object; then nothing goes."""
    return _map(last_applied or {}, live, new, StructOf(kind.type))


def _merge(last: Any, live: Any, new: Any, shape: Shape) -> Any:
    if isinstance(new, Mapping) and isinstance(live, Mapping):
        return _map(last if isinstance(last, Mapping) else {}, live, new, shape)
    if isinstance(new, list) and isinstance(live, list) and isinstance(shape, ListOf) and shape.merge_key is not None:
        return _list(last if isinstance(last, list) else [], live, new, shape)
    return copy.deepcopy(new)


def _map(last: Mapping[str, Any], live: Mapping[str, Any], new: Mapping[str, Any], shape: Shape) -> Json:
    """In the order of `live`, then of `new`. A null in `new` removes, as absence does."""
    merged = {}
    for key, value in live.items():
        if new.get(key) is not None:
            merged[key] = _merge(last.get(key), value, new[key], _inside(shape, key))
        elif key not in last and key not in new:
            merged[key] = copy.deepcopy(value)
        elif key not in new and (rest := _of_others(last[key], value, _inside(shape, key))):
            merged[key] = rest
    for key, value in new.items():
        if value is not None and key not in live:
            merged[key] = copy.deepcopy(value)
    return merged


def _of_others(last: Any, live: Any, shape: Shape) -> Any:
    """What stays where the author no longer says anything: elements that were never his, of labels and their like, of
    lists with keys and of sets. (kubectl takes those away as well.) A struct goes whole, with what was filled in.
    """
    match shape:
        case MapOf(value=Scalar(format="")) if isinstance(live, Mapping):
            return _map(last if isinstance(last, Mapping) else {}, live, {}, shape)
        case ListOf(merge_key=names) if names is not None and isinstance(live, list) and isinstance(last, list):
            before, there = _keyed(last, names), _keyed(live, names)
            if before is None or there is None:
                return []
            return [copy.deepcopy(element) for key, element in there.items() if key not in before]
        case _:
            return None


def _inside(shape: Shape, key: str) -> Shape:
    match shape:
        case StructOf(type=of) if key in fields(of):
            return fields(of)[key].shape
        case MapOf(value=value):
            return value
        case _:
            return Anything()


def _list(last: list[Any], live: list[Any], new: list[Any], shape: ListOf) -> list[Any]:
    names = shape.merge_key or ()
    before, there, wanted = (_keyed(elements, names) for elements in (last, live, new))
    if before is None or there is None or wanted is None:
        return copy.deepcopy(new)  # an element without its key, or a key twice: nothing to merge by
    made = {}
    for key, element in wanted.items():
        if key not in there or shape.retain_keys:
            made[key] = _retained(there.get(key, {}), element)
        else:
            made[key] = _merge(before.get(key), there[key], element, shape.item)
    kept = [key for key in there if key not in before and key not in wanted]
    made.update((key, copy.deepcopy(there[key])) for key in kept)
    return [made[key] for key in _order(list(there), list(wanted), kept)]


def _retained(live: Any, element: Any) -> Any:
    """An element that replaces what it does not mention; what it does mention keeps what was filled in below."""
    if not (isinstance(live, Mapping) and isinstance(element, Mapping)):
        return copy.deepcopy(element)
    return {
        key: {**copy.deepcopy(live[key]), **copy.deepcopy(value)}
        if isinstance(value, Mapping) and isinstance(live.get(key), Mapping)
        else copy.deepcopy(value)
        for key, value in element.items()
    }


def _keyed(elements: Sequence[Any], names: tuple[str, ...]) -> dict[Hashable, Any] | None:
    """Elements by key, None if they cannot be told apart by it."""
    found: dict[Hashable, Any] = {}
    for element in elements:
        key = _key(element, names)
        if key is None or key in found:
            return None
        found[key] = element
    return found


def _key(element: Any, names: tuple[str, ...]) -> tuple[Hashable, ...] | None:
    if not names:
        return (element,) if isinstance(element, str | int | float | bool) else None
    if not isinstance(element, Mapping):
        return None
    parts = tuple(element.get(name, _KEY_DEFAULTS.get(name)) for name in names)
    return parts if all(isinstance(part, str | int) for part in parts) else None


def _order(live: Iterable[Hashable], wanted: list[Hashable], kept: Iterable[Hashable]) -> list[Hashable]:
    """The author's order; what others added stays behind what it stood behind."""
    ordered, others, place = list(wanted), set(kept), 0
    for key in live:
        if key in others:
            ordered.insert(place, key)
            place += 1
        elif key in wanted:
            place = ordered.index(key) + 1
    return ordered
