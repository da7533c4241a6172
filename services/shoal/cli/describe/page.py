"""The page that a describer writes: lines with tabs, in sections that are aligned each on its own; and the blocks that
more than one kind has.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from shoal.cli.output.tabwriter import align
from shoal.model.age import age
from shoal.model.event import Event
from shoal.model.meta import ObjectMeta
from shoal.model.pod import Toleration
from shoal.names import LAST_APPLIED

NONE = "<none>"
ANNOTATION_WIDTH = 140
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Page:
    def __init__(self) -> None:
        self._done: list[str] = []
        self._lines: list[str] = []

    def line(self, text: str, level: int = 0) -> None:
        """One line at an indentation of two spaces a level; tabs are tab stops."""
        self._lines.append("  " * level + text)

    def section(self) -> None:
        """What follows is not aligned with what stands above."""
        self._done.append(align(self._lines))
        self._lines = []

    def text(self) -> str:
        self.section()
        return "".join(self._done)


def when(timestamp: str | None) -> str:
    """`2026-11-24T14:00:00Z` → `Tue, 24 Nov 2026 14:00:00 +0000`, whatever the locale (RFC 1123)."""
    if not timestamp:
        return NONE
    t = datetime.fromisoformat(timestamp).astimezone(UTC)
    return f"{WEEKDAYS[t.weekday()]}, {t.day:02} {MONTHS[t.month - 1]} {t.year} {t:%H:%M:%S} +0000"


def mapping(page: Page, title: str, pairs: Mapping[str, str], *, indent: str = "", gap: str = "\t") -> None:
    """Labels and their like: `Labels:  a=1`, one more line for each further pair."""
    lines = [f"{key}={value}" for key, value in sorted(pairs.items())] or [NONE]
    page.line(f"{indent}{title}:{gap}{lines[0]}")
    for text in lines[1:]:
        page.line(f"{indent}{gap}{text}")


def annotations(page: Page, pairs: Mapping[str, str], *, indent: str = "", gap: str = "\t") -> None:
    """Long values stand below their key, cut at `ANNOTATION_WIDTH`; kubectl's last-applied is left out."""
    lines: list[str] = []
    for key, value in sorted(pairs.items()):
        text = value.removesuffix("\n")
        if key == LAST_APPLIED:
            continue
        if len(key) + len(text) + 2 <= ANNOTATION_WIDTH and "\n" not in text:
            lines.append(f"{key}: {text}")
        else:
            width = ANNOTATION_WIDTH - 2
            lines.append(f"{key}:")
            lines += [f"  {part[:width]}{'...' if len(part) > width else ''}" for part in text.split("\n")]
    first, *rest = lines or [NONE]
    page.line(f"{indent}Annotations:{gap}{first}")
    for text in rest:
        page.line(f"{indent}{gap}{text}")


def controlled_by(page: Page, meta: ObjectMeta) -> None:
    for owner in meta.owner_references:
        if owner.controller:
            page.line(f"Controlled By:\t{owner.kind}/{owner.name}")


def quantities(page: Page, title: str, amounts: Mapping[str, str], level: int) -> None:
    if amounts:
        page.line(f"{title}:", level)
    for name, amount in sorted(amounts.items()):
        page.line(f"{name}:\t{amount}", level + 1)


def tolerations(page: Page, items: Sequence[Toleration], *, indent: str = "") -> None:
    lines = [_toleration(t) for t in sorted(items, key=lambda t: t.key)] or [NONE]
    page.line(f"{indent}Tolerations:\t{lines[0]}")
    for text in lines[1:]:
        page.line(f"{indent}\t{text}")


def _toleration(t: Toleration) -> str:
    text = t.key + (f"={t.value}" if t.value else "") + (f":{t.effect}" if t.effect else "")
    if t.operator == "Exists" and not t.value:
        text += " op=Exists" if text else "op=Exists"
    return text + (f" for {t.toleration_seconds}s" if t.toleration_seconds is not None else "")


def events(page: Page, items: Sequence[Event], now: datetime) -> None:
    """Oldest first, as they were last seen."""
    if not items:
        page.line(f"Events:\t{NONE}")
        return
    page.section()
    page.line("Events:")
    page.line("Type\tReason\tAge\tFrom\tMessage", 1)
    page.line("----\t------\t----\t----\t-------", 1)
    for event in sorted(items, key=last_seen):
        source = event.source.component or event.reporting_component
        page.line(f"{event.type}\t{event.reason}\t{seen(event, now)}\t{source}\t{event.message.strip()}", 1)


def last_seen(event: Event) -> str:
    series = event.series.last_observed_time if event.series else None
    return series or event.last_timestamp or event.event_time or event.first_timestamp or ""


def seen(event: Event, now: datetime) -> str:
    """`5s`, or `5s (x3 over 2m)` for what happened more than once."""
    first = event.first_timestamp or event.event_time
    count = event.series.count if event.series else event.count
    if count <= 1:
        return age(first or event.last_timestamp, now)
    return f"{age(last_seen(event), now)} (x{count} over {age(first, now)})"
