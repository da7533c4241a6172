r"""The part of kubectl's JSONPath that people write: `{.status.podIP}`, `{.items[*].metadata.name}`, `.spec.x[0]`,
`['a.b']`, text and `{"\n"}` between them. `range` and filters are refused by a sentence: `-o json` with jq has them.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from shoal.errors import BadRequest

_STEP = re.compile(r"""\.?\[\s*(?:'([^']*)'|"([^"]*)"|(-?\d+)|(\*))\s*\]|\.(\*)|\.((?:\\.|[^.\[\]{}\\\s])+)""")


def find(value: Any, path: str) -> list[Any]:
    """Every value that `path` leads to; none is no error. Raises: BadRequest for what is no path."""
    found = [value]
    at = 1 if path.startswith("$") else 0
    if at < len(path) and path[at] not in ".[":
        path = path[:at] + "." + path[at:]
    while at < len(path):
        if not (step := _STEP.match(path, at)):
            raise BadRequest(f"cannot read the path {path!r} at {path[at:]!r}: plain fields, [0] and [*] are known")
        found = [inner for outer in found for inner in _children(outer, step)]
        at = step.end()
    return found


def _children(value: Any, step: "re.Match[str]") -> Iterator[Any]:
    quoted, double, index, any_index, any_field, name = step.groups()
    if any_index or any_field:
        yield from value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    elif index is not None:
        if isinstance(value, list) and -len(value) <= int(index) < len(value):
            yield value[int(index)]
    else:
        key = next(k for k in (quoted, double, name) if k is not None).replace("\\.", ".")
        if isinstance(value, dict) and key in value:
            yield value[key]


def render(value: Any, template: str) -> str:
    """`{.a.b} and {.c}` → text; several values are joined by a space."""
    parts = re.split(r"\{([^{}]*)\}", template)
    if len(parts) == 1:
        return show_all(find(value, template))
    out = []
    for number, part in enumerate(parts):
        if number % 2 == 0:
            out.append(part)
        elif part[:1] in {'"', "'"}:
            out.append(part[1:-1].encode().decode("unicode_escape"))
        else:
            out.append(show_all(find(value, part.strip())))
    return "".join(out)


def show_all(values: list[Any]) -> str:
    return " ".join(map(show, values))


def show(value: Any) -> str:
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
