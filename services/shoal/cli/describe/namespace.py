"""Namespaces, in full."""

from collections.abc import Sequence
from datetime import datetime

from shoal.cli.describe import page as blocks
from shoal.cli.describe.page import Page
from shoal.model.event import Event
from shoal.model.namespace import Namespace


def describe(namespace: Namespace, events: Sequence[Event], now: datetime) -> str:
    page = Page()
    page.line(f"Name:\t{namespace.metadata.name}")
    blocks.mapping(page, "Labels", namespace.metadata.labels)
    blocks.annotations(page, namespace.metadata.annotations)
    phase = namespace.status.phase or ("Terminating" if namespace.metadata.deletion_timestamp else "Active")
    page.line(f"Status:\t{phase}")
    if namespace.status.conditions:
        page.line("Conditions:")
        page.line("Type\tStatus\tLastTransitionTime\tReason\tMessage", 1)
        page.line("----\t------\t------------------\t------\t-------", 1)
        for c in namespace.status.conditions:
            moved = blocks.when(c.last_transition_time)
            page.line(f"{c.type}\t{c.status}\t{moved}\t{c.reason}\t{c.message}", 1)
    if events:
        blocks.events(page, events, now)
    return page.text()
