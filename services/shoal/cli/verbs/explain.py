"""Say what the fields of a kind are, by its JSON schema (`shoal schema` prints that): name, type, which are required."""

import argparse
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from shoal.cli.arguments import Parser, UsageError
from shoal.cli.context import Context
from shoal.errors import Invalid
from shoal.model.registry import by_resource

USAGE = "KIND[.FIELD…] [flags]"
EXAMPLES = """
shoal explain pods
shoal explain pod.spec.containers
shoal explain rs --recursive
"""
Json = Mapping[str, Any]


def arguments(parser: Parser) -> None:
    parser.flag("--recursive", help="the fields of the fields as well")


def run(context: Context, args: argparse.Namespace) -> int:
    from shoal.model.schema import json_schema

    if len(args.names) != 1:
        raise UsageError("name one kind or one field, such as pod.spec.containers")
    resource, *path = args.names[0].split(".")
    kind = by_resource(resource)
    schema = json_schema(kind)
    field = _at(schema, path)
    group = f"GROUP:      {kind.group}\n" if kind.group else ""
    version = kind.api_version.rpartition("/")[2]
    context.write(f"{group}KIND:       {kind.kind}\nVERSION:    {version}\n\n")
    if path:
        context.write(f"FIELD: {path[-1]} <{type_of(field, schema)}>\n\n")
    target = _struct(field, schema)
    allowed = "".join(f"  {value}\n" for value in _plain(field, schema).get("enum", ()))
    context.write(f"ENUM:\n{allowed}\n" if allowed else "")
    if text := target.get("description", ""):
        context.write("DESCRIPTION:\n" + textwrap.indent(textwrap.fill(text, 90), "    ") + "\n\n")
    if lines := list(_lines(target, schema, recursive=args.recursive)):
        context.write("FIELDS:\n" + "".join(lines))
    return 0


def _at(schema: Json, path: list[str]) -> Json:
    found = schema
    for number, name in enumerate(path):
        fields = _fields(found, schema)
        if name not in fields:
            raise Invalid(f"field {'.'.join(path[: number + 1])!r} does not exist{_nearest(name, fields)}")
        found = fields[name]
    return found


def _lines(schema: Json, root: Json, *, recursive: bool, depth: int = 1, above: tuple[str, ...] = ()) -> Iterator[str]:
    """`above`: the structs that this one lies in, so that one that holds itself ends."""
    required = schema.get("required", ())
    for name, field in sorted(_fields(schema, root).items()):
        mark = " -required-" if name in required else ""
        yield f"{'  ' * depth}{name}\t<{type_of(field, root)}>{mark}\n"
        inner = _struct(field, root)
        title = inner.get("title", "")
        if recursive and inner.get("properties") and title not in above:
            yield from _lines(inner, root, recursive=True, depth=depth + 1, above=(*above, title))


def type_of(field: Json, root: Json) -> str:
    """`string`, `integer`, `[]Container`, `map[string]string`, `PodSpec`."""
    field = _plain(field, root, follow=False)
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    kinds = field.get("type", "Object")
    if isinstance(kinds, list):
        return "|".join(kinds)
    if kinds == "array":
        return f"[]{type_of(field.get('items', {}), root)}"
    if kinds == "object":
        values = field.get("additionalProperties")
        return f"map[string]{type_of(values, root)}" if isinstance(values, Mapping) else "Object"
    return str(kinds)


def _plain(field: Json, root: Json, *, follow: bool = True) -> Json:
    """Without *or null*, and (`follow`) with a reference replaced by what it names."""
    choices = [c for c in field.get("anyOf", ()) if c.get("type") != "null"]
    if len(choices) == 1:
        field = choices[0]
    if follow and "$ref" in field:
        found: Json = root["$defs"][str(field["$ref"]).rpartition("/")[2]]
        return found
    return field


def _struct(field: Json, root: Json) -> Json:
    """What has the fields: itself, or what its list holds."""
    field = _plain(field, root)
    return _struct(field["items"], root) if field.get("type") == "array" and "items" in field else field


def _fields(field: Json, root: Json) -> Mapping[str, Json]:
    found: Mapping[str, Json] = _struct(field, root).get("properties", {})
    return found


def _nearest(name: str, fields: Mapping[str, Json]) -> str:
    import difflib

    near = difflib.get_close_matches(name, fields, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
