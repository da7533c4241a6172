"""Manifests from files, folders and stdin (`-f`)."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from shoal.cli.arguments import UsageError
from shoal.cli.context import Context
from shoal.cli.resources import Named
from shoal.errors import BadRequest
from shoal.model.registry import Kind, kind_of

SUFFIXES = (".yaml", ".yml", ".json")


class ManifestFile(msgspec.Struct, frozen=True):
    """`source`: the file's name, for messages."""

    source: str
    text: str


def read(paths: Sequence[str], *, recursive: bool = False) -> Iterator[ManifestFile]:
    """In the order given, a folder's files by name. Raises: UsageError, BadRequest, OSError, UnicodeDecodeError."""
    if not paths:
        raise UsageError("name the manifests by -f FILE, -f FOLDER, or -f - for stdin")
    for path in paths:
        if path == "-":
            yield ManifestFile("stdin", sys.stdin.buffer.read().decode())
        elif path.startswith(("http://", "https://")):
            raise UsageError(f"{path}: addresses are not read; curl -fsS {path} | shoal … -f -")
        elif Path(path).is_dir():
            yield from _folder(Path(path), recursive=recursive)
        else:
            yield ManifestFile(path, Path(path).read_bytes().decode())


def _folder(folder: Path, *, recursive: bool) -> Iterator[ManifestFile]:
    found = sorted(
        file
        for file in (folder.rglob("*") if recursive else folder.iterdir())
        if file.suffix in SUFFIXES and file.is_file()
    )
    if not found:
        more = "" if recursive else "; -R looks into the folders in it"
        raise BadRequest(f"{folder}: no {', '.join(SUFFIXES)} file there{more}")
    for file in found:
        yield ManifestFile(str(file), file.read_bytes().decode())


class Header(msgspec.Struct, frozen=True):
    """Which object a document is about."""

    kind: Kind
    namespace: str
    name: str


def named_in(context: Context, args: argparse.Namespace) -> list[Named]:
    """The objects that the manifests of `-f` name, in their order. Raises: as `read`, `headers`; UsageError beside words."""
    if args.names or any(
        getattr(args, other, False) for other in ("selector", "field_selector", "all_namespaces", "all")
    ):
        raise UsageError("-f names the objects: neither words, nor a selector, nor -A go with it")
    found = [header for file in read(args.filename, recursive=args.recursive) for header in headers(file)]
    return [Named(h.kind, (h.namespace or context.namespace(args)) if h.kind.namespaced else "", h.name) for h in found]


def headers(file: ManifestFile) -> list[Header]:
    """Only what names the objects: the rest of a manifest may be wrong (delete must still work).

    Raises: ManifestErrors; Invalid for an unknown kind.
    """
    from shoal.model.problem import ManifestErrors
    from shoal.model.yamltext import Unreadable
    from shoal.model.yamltext import read as read_yaml

    try:
        documents = read_yaml(file.text)
    except Unreadable as e:
        raise ManifestErrors([msgspec.structs.replace(e.problem, source=file.source)]) from e
    return [_header(value, file.source) for document in documents for value in _objects(document.value)]


def _objects(value: Any) -> Iterator[Any]:
    if isinstance(value, dict) and isinstance(items := value.get("items"), list):
        for item in items:
            yield from _objects(item)
    elif value is not None:
        yield value


def _header(value: Any, source: str) -> Header:
    match value:
        case {"apiVersion": str(version), "kind": str(word), "metadata": {"name": str(name), **more}} if name:
            namespace = more.get("namespace")
            return Header(kind_of(version, word), namespace if isinstance(namespace, str) else "", name)
        case _:
            raise BadRequest(f"{source}: a document names no object (apiVersion, kind, metadata.name)")
