"""YAML (and JSON) text to JSON values, each with the line it stands on. kubectl's dialect of YAML 1.1.

y, yes, on, true and their opposites are booleans in three cases; `0644`, `0o17`, `0x1F`, `0b11` and `1_000` are whole
numbers, `1e3` and `1.` numbers; dates and `12:30:45` stay text; `<<` merges; keys that are not text become text. (Tried
against kubectl; PyYAML's own rules differ in six of these.) A key twice in one map is refused.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import yaml

from shoal.model.problem import ROOT, Path, Problem, clipped

DEPTH_MAX = 100
VALUES_MAX = 250_000  # about 5 MB of YAML; aliases of aliases grow without bound


class YamlDocument(msgspec.Struct, frozen=True):
    """`number` is 1-based and counts empty documents too. `lines` is by path; `line` finds the nearest."""

    number: int
    value: Any
    lines: Mapping[str, int]

    def line(self, path: str) -> int:
        """Of the value at `path`, or of what is nearest around it (a missing field has no line of its own)."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path, 1)


class Unreadable(Exception):
    """The text ends here: what follows a broken place cannot be trusted. Carries the documents read before it."""

    def __init__(self, problem: Problem, before: list[YamlDocument]) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.before = before


_PLAIN = "!plain"


class _Loader(yaml.CSafeLoader):
    """Marks every plain scalar, so that `_plain` decides what it is; an explicit tag stays what it says."""

    yaml_implicit_resolvers = {None: [(_PLAIN, re.compile(""))], "": [(_PLAIN, re.compile(""))]}


def read(text: str) -> list[YamlDocument]:
    """Raises: Unreadable."""
    as_json = text.lstrip()[:1] in ("{", "[")
    documents: list[YamlDocument] = []
    try:
        # YAML knows no tab between tokens, JSON has tabs nowhere else
        for number, node in enumerate(_compose(text.replace("\t", " ") if as_json else text), start=1):
            documents.append(_document(number, node))
    except yaml.YAMLError as error:
        if as_json and (found := _json_stream(text)) is not None:
            return found
        raise Unreadable(_syntax_problem(error, len(documents) + 1), documents) from error
    except _Refused as refused:
        raise Unreadable(refused.problem(len(documents) + 1), documents) from refused
    return documents


def _compose(text: str) -> Iterator[yaml.Node | None]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            yield loader.get_node()
    finally:
        loader.dispose()


def _syntax_problem(error: yaml.YAMLError, number: int) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = mark.line + 1 if mark else 1
    what = getattr(error, "problem", None) or str(error).splitlines()[0]
    hint = ""
    if "tab" in what or "cannot start any token" in what:
        hint = "indent with spaces, not tabs; text that begins with @, ` or % needs quotes"
    elif "mapping values" in what:
        hint = "text that contains ': ' needs quotes, and the keys of one map the same indentation"
    return Problem("", f"cannot be read as YAML: {what}", hint, number, line)


def _json_stream(text: str) -> list[YamlDocument] | None:
    """JSON that YAML cannot read (surrogate pairs in escapes), without lines; None if it is no JSON either."""
    documents: list[YamlDocument] = []
    decoder, position = json.JSONDecoder(), 0
    while text[position:].strip():
        position += len(text[position:]) - len(text[position:].lstrip())
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return None
        documents.append(YamlDocument(len(documents) + 1, value, {}))
    return documents


# --- nodes to values --------------------------------------------------------------------------------------------------


class _Refused(Exception):
    def __init__(self, path: Path, message: str, node: yaml.Node) -> None:
        super().__init__(message)
        self.path, self.message, self.line = path, message, node.start_mark.line + 1

    def problem(self, number: int) -> Problem:
        return Problem(self.path, self.message, "", number, self.line)


def _document(number: int, node: yaml.Node | None) -> YamlDocument:
    builder = _Builder()
    return YamlDocument(number, builder.value(node, ROOT, 0) if node is not None else None, builder.lines)


class _Builder:
    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self._count = 0

    def value(self, node: yaml.Node, path: Path, depth: int) -> Any:
        self._count += 1
        if depth > DEPTH_MAX:
            raise _Refused(path, f"nested more than {DEPTH_MAX} deep", node)
        if self._count > VALUES_MAX:
            raise _Refused(path, f"more than {VALUES_MAX} values (aliases counted)", node)
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._map(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(element, path / index, depth + 1) for index, element in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node, path)
        raise _Refused(path, "a node of no known kind", node)

    def _map(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        first: dict[str, int] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _PLAIN and key_node.value == "<<":
                self._merge(merged, value_node, path, depth)
                continue
            key = _key(key_node, path)
            line = key_node.start_mark.line + 1
            if key in first:
                raise _Refused(
                    path / key, f"the key {clipped(key)} is there twice, first on line {first[key]}", key_node
                )
            first[key] = line
            self.lines[path / key] = line
            own[key] = self.value(value_node, path / key, depth + 1)
        return {**merged, **own} if merged else own

    def _merge(self, merged: dict[str, Any], node: yaml.Node, path: Path, depth: int) -> None:
        """`<<: *a` or `<<: [*a, *b]`: earlier ones win, and what the map itself says wins over all."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                raise _Refused(path, "'<<' merges maps, and found something else", source)
            for key, value in self._map(source, path, depth + 1).items():
                merged.setdefault(key, value)


def _key(node: yaml.Node, path: Path) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _Refused(path, "a map or a list as a key, expected text", node)
    key = _scalar(node, path)
    if isinstance(key, str):
        return key
    return "null" if key is None else json.dumps(key)


_NULL = {"", "~", "null", "Null", "NULL"}
_TRUE = {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"}
_FALSE = {"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"}
_INT = re.compile(r"[-+]?(?:0[bB][01]+|0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_TAG = "tag:yaml.org,2002:"


def _scalar(node: yaml.ScalarNode, path: Path) -> Any:
    text = node.value
    if node.tag == _PLAIN:
        return _plain(text)
    match node.tag.removeprefix(_TAG):
        case "str":
            return text
        case "int" | "float" | "bool" | "null":
            return _plain(text)
        case tag:
            raise _Refused(path, f"the YAML tag {clipped(tag)} is not supported", node)


def _plain(text: str) -> Any:
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text[0] in "+-.0123456789":
        return _number(text)
    return text


def _number(text: str) -> Any:
    digits = text.replace("_", "") if text[0] != "_" else text
    if _INT.fullmatch(digits) and len(digits) < 80:
        return _whole(digits)
    if _FLOAT.fullmatch(digits):
        value = float(digits)
        return value if abs(value) != float("inf") else text
    return text


def _whole(digits: str) -> int:
    sign = -1 if digits[0] == "-" else 1
    body = digits.lstrip("+-")
    if len(body) > 1 and body[0] == "0" and body[1].isdigit():
        return sign * int(body, 8)
    return sign * int(body, 0)
