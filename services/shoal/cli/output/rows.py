"""An object's row in a table: the cells that its kind has (`model.table`), and what flags put around them."""

import argparse
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from shoal.cli.output.table import Table
from shoal.cli.resources import shown
from shoal.model.meta import Object
from shoal.model.registry import Kind
from shoal.model.table import columns, row

NONE = "<none>"


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asked to see. `kinds`: write `pod/web` for `web`, where several kinds stand together."""

    wide: bool = False
    namespaces: bool = False
    kinds: bool = False
    headers: bool = True
    all_labels: bool = False
    label_columns: tuple[str, ...] = ()
    events: bool = False  # of a watch: ADDED, MODIFIED, DELETED


def look(args: argparse.Namespace, *, kinds: bool = False, events: bool = False) -> Look:
    return Look(
        wide=args.output == "wide", namespaces=args.all_namespaces, kinds=kinds or args.show_kind,
        headers=not args.no_headers, all_labels=args.show_labels, events=events,
        label_columns=tuple(label for text in args.label_columns for label in text.split(",") if label),
    )  # fmt: skip


def table(kind: Kind, seen: Look) -> Table:
    first = ["EVENT"] if seen.events else []
    if seen.namespaces and kind.namespaced:
        first.append("NAMESPACE")
    last = [label.rpartition("/")[2].upper() for label in seen.label_columns]
    if seen.all_labels:
        last.append("LABELS")
    heads = [column.name for column in columns(kind, wide=seen.wide)]
    return Table([*first, *heads, *last], show_headers=seen.headers)


def cells(kind: Kind, obj: Object, seen: Look, now: datetime, *, event: str = "") -> Sequence[str]:
    own = list(row(obj, wide=seen.wide, now=now))
    if seen.kinds:
        own = [
            shown(kind, cell) if column.format == "name" else cell
            for column, cell in zip(columns(kind, wide=seen.wide), own, strict=True)
        ]
    first = [event] if seen.events else []
    if seen.namespaces and kind.namespaced:
        first.append(obj.metadata.namespace)
    labels = obj.metadata.labels
    last = [labels.get(label) or NONE for label in seen.label_columns]
    if seen.all_labels:
        last.append(joined(labels))
    return [*first, *own, *last]


def joined(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or NONE
