"""How objects are named on a command line: `pods`, `pods,rs`, `pod web db`, `pod/web rs/db`, `all`."""

from collections.abc import Sequence

import msgspec

from shoal.cli.arguments import UsageError
from shoal.model.registry import KINDS, Kind, by_resource


class Target(msgspec.Struct, frozen=True):
    """One kind, and names of it; no names: all of the kind."""

    kind: Kind
    names: tuple[str, ...] = ()


def targets(words: Sequence[str]) -> tuple[Target, ...]:
    """In the order of the words; one target a kind for `TYPE NAME…`, one a word for `TYPE/NAME`.

    Raises: UsageError; Invalid for an unknown kind, with the nearest known name.
    """
    if not words:
        raise UsageError("name a kind of object, such as pods; 'shoal api-resources' lists them")
    if any("/" in word for word in words):
        return tuple(_slashed(word) for word in words)
    kinds = [kind for word in words[0].split(",") if word for kind in _kinds(word)]
    if not kinds:
        raise UsageError(f"{words[0]!r} names no kind of object")
    return tuple(Target(kind, tuple(words[1:])) for kind in dict.fromkeys(kinds))


def _slashed(word: str) -> Target:
    resource, slash, name = word.partition("/")
    if not slash:
        raise UsageError(f"{word!r}: beside TYPE/NAME each word must be one; there is no need of a separate TYPE")
    if not resource or not name or "/" in name:
        raise UsageError(f"{word!r} is not of the form TYPE/NAME")
    return Target(by_resource(resource), (name,))


def _kinds(word: str) -> tuple[Kind, ...]:
    if word == "all":
        return tuple(kind for kind in KINDS if "all" in kind.categories)
    return (by_resource(word),)


def one(words: Sequence[str], *, default: str = "") -> tuple[Kind, str]:
    """Exactly one object: `pod/web`, `pod web`, or (with a default kind) `web`. Raises: UsageError."""
    match list(words):
        case [word] if "/" in word:
            target = _slashed(word)
        case [word] if default:
            target = Target(by_resource(default), (word,))
        case [kind, name] if "/" not in kind and "/" not in name:
            target = Target(by_resource(kind), (name,))
        case []:
            raise UsageError(f"name {'a ' + default if default else 'an object'}, such as {default or 'pod'}/web")
        case _:
            raise UsageError(f"name one {default or 'object'} only")
    return target.kind, target.names[0]


def shown(kind: Kind, name: str) -> str:
    """`pod/web`, `replicaset.apps/web`: how kubectl calls an object."""
    return f"{kind.singular}.{kind.group}/{name}" if kind.group else f"{kind.singular}/{name}"


class Named(msgspec.Struct, frozen=True):
    """One object. `namespace` "": it lives in none."""

    kind: Kind
    namespace: str
    name: str

    @property
    def shown(self) -> str:
        return shown(self.kind, self.name)
