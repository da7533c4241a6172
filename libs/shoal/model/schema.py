"""JSON Schema of the kinds, from their structs. What a schema cannot say (names that must match, duplicates) the rules say."""

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from shoal.model.meta import wire_name
from shoal.model.registry import KINDS, Kind
from shoal.model.shape import StructOf, fields, walk

Json = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(kind: Kind) -> Json:
    """A schema that stands by itself: what it refers to is in its `$defs`."""
    components = schema_components([kind], ref_template="#/$defs/{name}")
    own = components.pop(kind.kind)
    return {"$schema": DIALECT, "$id": f"{kind.api_version}/{kind.kind}", **own, "$defs": components}


def schema_components(kinds: Iterable[Kind] = KINDS, *, ref_template: str = "#/components/schemas/{name}") -> Json:
    """Every struct of these kinds by name, as OpenAPI's `components.schemas` wants them."""
    listed = tuple(kinds)
    _, components = msgspec.json.schema_components([k.type for k in listed], ref_template=ref_template)
    structs = {of.__name__: of for kind in listed for of in _structs(kind)}
    for name, schema in components.items():
        if name in structs:
            _finish(schema, structs[name])
    for kind in listed:
        _name_kind(components[kind.kind], kind)
    return components


def _structs(kind: Kind) -> set[type[msgspec.Struct]]:
    return {kind.type, *(of for _, of, _ in walk(StructOf(kind.type)))}


def _finish(schema: Json, of: type[msgspec.Struct]) -> None:
    """Required fields are ours to say, defaults are filled in by the server, unknown fields are refused."""
    schema["additionalProperties"] = False
    required = [wire for wire, field in fields(of).items() if field.required]
    if required:
        schema["required"] = required
    else:
        schema.pop("required", None)
    if "description" in schema:
        schema["description"] = _PYTHON_NAME.sub(
            lambda name: wire_name(name[0]), inspect.cleandoc(schema["description"])
        )
    for property_schema in schema.get("properties", {}).values():
        property_schema.pop("default", None)
        for part in (property_schema, property_schema.get("additionalProperties")):
            if isinstance(part, dict) and part.get("format") == "quantity":
                part["type"] = ["string", "number"]  # both are taken, text is kept


_PYTHON_NAME = re.compile(r"(?<=`)[a-z]+(?:_[a-z]+)+(?=`)")


def _name_kind(schema: Json, kind: Kind) -> None:
    properties: Mapping[str, Json] = schema["properties"]
    properties["apiVersion"]["const"] = kind.api_version
    properties["kind"]["const"] = kind.kind
    schema["required"] = ["apiVersion", "kind", "metadata"]
    version = kind.api_version.rpartition("/")[2]
    schema["x-kubernetes-group-version-kind"] = [{"group": kind.group, "version": version, "kind": kind.kind}]
