"""What a controller's log says: each unit with its key, revision and trace; what fails names the wish that it fails."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import structlog

from shoal.controller.actions import NOTHING, Decision, Replace, Trace, with_metadata
from shoal.model.replicaset import ReplicaSet
from shoal.names import ObjectKey, desired, desired_of
from shoal.store.store import Store
from shoal.store.view import View
from shoal.telemetry import logs

from .cluster import a_replicaset, put
from .conftest import Start

pytestmark = pytest.mark.integration
TRACE = "a" * 32
WISH = f"00-{TRACE}-{'b' * 16}-01"
WEB = ObjectKey("replicasets", "default", "web")


class Labels:
    """Sets a label, in the trace of the wish; raises at an object that is called `bad`."""

    name = "labels"
    reporter = "labels"
    filters = (desired_of("replicasets"),)

    def keys(self, touched: ObjectKey, view: View) -> Iterable[ObjectKey]:
        return [touched]

    def decide(self, key: ObjectKey, view: View, now: float) -> Decision:
        if key.name == "bad":
            raise ValueError("no")
        stored = view.get(key, ReplicaSet)
        if stored is None or stored.object.metadata.labels.get("seen"):
            return NOTHING
        changed = with_metadata(stored.object, labels={"seen": "yes"})
        return Decision((Replace(stored, changed),), trace=Trace(parent=stored.traceparent))


@pytest.fixture
def as_json() -> Iterator[None]:
    root = logging.getLogger()
    before, handlers, level = structlog.get_config(), root.handlers[:], root.level
    logs.configure("controller", {"SHOAL_LOG": "json"})
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def line(as_json: None, capfd: pytest.CaptureFixture[str]) -> Callable[[str], Any]:
    """`await line(event)`: the first of that name."""
    said: list[dict[str, Any]] = []

    async def find(event: str) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while True:
                said.extend(json.loads(text) for text in capfd.readouterr().err.splitlines())
                if found := [one for one in said if one["event"] == event]:
                    return found[0]
                await asyncio.sleep(0.02)

    return find


async def test_a_committed_unit_is_one_line_with_key_revision_and_trace(
    store: Store, start: Start, line: Callable[[str], Any]
) -> None:
    await start([Labels()], "labels")
    await put(store, a_replicaset("web", 1), traceparent=WISH)
    told = await line("controller.committed")
    entry = await store.get(desired(WEB))
    assert entry is not None
    assert (told["key"], told["revision"], told["trace_id"]) == (str(WEB), entry.revision, TRACE)
    assert (told["controller"], told["what"], told["count"], told["keys"]) == ("labels", "reconcile", 1, [desired(WEB)])


async def test_what_cannot_be_decided_names_the_wish(store: Store, start: Start, line: Callable[[str], Any]) -> None:
    await start([Labels()], "labels")
    await put(store, a_replicaset("bad", 1), traceparent=WISH)
    told = await line("controller.decide_failed")
    assert (told["key"], told["trace_id"]) == ("replicasets/default/bad", TRACE)
