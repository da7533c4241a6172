"""Decisions carried out upon a view instead of the store: what would be, without doing it. Pure.

Tests prove with it that a core settles; a plan can be shown by it.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from shoal.controller.actions import Absent, Action, Confirm, Decision, NoEntry, changes
from shoal.controller.controller import Controller
from shoal.errors import Conflict
from shoal.names import ObjectKey, desired
from shoal.store.records import Delete, Entry
from shoal.store.view import View


def carry_out(actions: Iterable[Action], view: View) -> list[ObjectKey]:
    """One unit, as the store does it: whole or not at all. What it touched. Raises: Conflict."""
    unit = changes(actions, view)
    for change in unit:
        entry = view.entry(change.key)
        if (entry.revision if entry is not None else 0) != change.expected:
            raise Conflict(f"{change.key} changed since it was read", key=change.key)
    touched: list[ObjectKey] = []
    for change in unit:
        value = None if isinstance(change, Delete) else change.value
        touched += view.apply(Entry(change.key, value, view.revision + 1, change.traceparent))
    return touched


def holds(question: Confirm, view: View) -> bool:
    match question:
        case Absent(key=key, uid=uid):
            stored = view.get(key)
            return view.entry(desired(key)) is None or (stored is not None and uid not in ("", stored.uid))
        case NoEntry(entry=name):
            return view.entry(name) is None
        case _:
            namespace = question.filter.split(".")[2]
            return not view.keys_in(namespace)


def all_keys(controller: Controller, view: View) -> list[Hashable]:
    """Everything that a resync would look at, each once."""
    found: dict[Hashable, None] = {}
    for touched in sorted(view.known()):
        found.update(dict.fromkeys(controller.keys(touched, view)))
    return list(found)


def settle(
    controllers: Sequence[Controller], view: View, now: float, *, looks_max: int = 1000
) -> list[tuple[str, Any, Decision]]:
    """Look at everything, and again, until nobody decides anything. What was done, in order.

    Raises: RuntimeError if that takes more than `looks_max` units: two controllers undo each other's work.
    """
    done: list[tuple[str, Any, Decision]] = []
    busy = True
    while busy:
        busy = False
        for controller in controllers:
            for key in all_keys(controller, view):
                decision = controller.decide(key, view, now)
                if not all(holds(q, view) for q in decision.confirm) or not changes(decision.actions, view):
                    continue
                if len(done) >= looks_max:
                    raise RuntimeError(f"does not settle: {[(n, str(k)) for n, k, _ in done[-6:]]}")
                carry_out(decision.actions, view)
                done.append((controller.name, key, decision))
                busy = True
    return done
