"""Objects as JSON and as YAML, laid out as kubectl lays them out: sorted keys, lists not indented, texts as blocks."""

import re
from typing import Any

import msgspec


def to_json(value: Any) -> str:
    """Four spaces, sorted keys, a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=4).decode() + "\n"


# What kubectl's YAML (a dialect of 1.1) reads as something else than text, and PyYAML would leave bare: `y`, `1e3`,
# `0o17`, `1_000`. What is printed by `get -o yaml` must be the same object when it is applied.
_NOT_TEXT = re.compile(
    r"(?:[yYnN]|[-+]?_*[0-9.][0-9_]*(?:\.[0-9_]*)?(?:_*[eE][-+_]*[0-9_]+)?|[-+]?_*0_*[xXoObB][0-9a-fA-F_]+)$"
)
TEXT = "tag:yaml.org,2002:str"


def to_yaml(value: Any) -> str:
    """Imports yaml (60 ms): not for a hot path."""
    import yaml

    dumper = _dumper()
    return yaml.dump(
        value, Dumper=dumper, default_flow_style=False, sort_keys=True, width=2**31 - 1, allow_unicode=True
    )


def _dumper() -> type[Any]:
    import yaml

    base: type[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc]
        def ignore_aliases(self, _data: object) -> bool:
            return True

    def text(dumper: Any, data: str) -> Any:
        style = None
        if "\n" in data:
            style = "|"
        elif dumper.resolve(yaml.ScalarNode, data, (True, False)) != TEXT:
            style = '"'  # as kubectl; PyYAML would take single ones
        return dumper.represent_scalar(TEXT, data, style=style)

    Dumper.add_representer(str, text)
    Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _NOT_TEXT, list("-+.0123456789yYnN"))
    return Dumper
