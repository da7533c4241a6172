"""Why an engine does not answer, in one sentence: it becomes the node's Ready message."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from shoal.errors import Unavailable
from shoal.node_agent.runtime.engine import Engine
from shoal.node_agent.runtime.ownership import Owner
from shoal.node_agent.runtime.port import Lost


async def test_the_first_error_of_many_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers are looked at side by side: what breaks off breaks off for all of them."""
    engine = Engine("unix:///none", Owner("c1", "n1"))

    @asynccontextmanager
    async def opened(*_: Any) -> AsyncIterator[None]:
        yield

    async def owned() -> None:
        raise ExceptionGroup(
            "unhandled errors in a TaskGroup", [Unavailable("it broke off"), Unavailable("it broke off")]
        )

    monkeypatch.setattr(engine._calls, "open", opened)
    monkeypatch.setattr(engine, "owned", owned)
    async with aclosing(engine.events()) as events:  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, Lost):
                assert event.why == "it broke off"
                break
    await engine.close()
