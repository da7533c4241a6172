"""Any kind that has no page of its own: its fields as they are, named for a person."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from shoal.cli.describe import page as blocks
from shoal.cli.describe.page import Page
from shoal.model.event import Event


def describe(obj: Mapping[str, Any], events: Sequence[Event], now: datetime) -> str:
    """`obj`: as it is on the wire."""
    page = Page()
    meta = obj.get("metadata", {})
    page.line(f"Name:\t{meta.get('name', '')}")
    page.line(f"Namespace:\t{meta.get('namespace', '')}")
    blocks.mapping(page, "Labels", meta.get("labels", {}))
    blocks.annotations(page, meta.get("annotations", {}))
    page.line(f"API Version:\t{obj.get('apiVersion', '')}")
    page.line(f"Kind:\t{obj.get('kind', '')}")
    rest = {key: value for key, value in obj.items() if key not in {"apiVersion", "kind", "metadata"}}
    _fields(page, rest, 0)
    blocks.events(page, events, now)
    return page.text()


def title(field: str) -> str:
    """`involvedObject` → `Involved Object`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", field)
    return words[:1].upper() + words[1:]


def _fields(page: Page, fields: Mapping[str, Any], level: int) -> None:
    for key, value in sorted(fields.items()):
        match value:
            case dict():
                page.line(f"{title(key)}:", level)
                _fields(page, value, level + 1)
            case [dict(), *_]:
                page.line(f"{title(key)}:", level)
                for item in value:
                    _fields(page, item, level + 1)
            case list():
                page.line(f"{title(key)}:", level)
                for item in value:
                    page.line(str(item), level + 1)
            case _:
                page.line(f"{title(key)}:\t{value}", level)
