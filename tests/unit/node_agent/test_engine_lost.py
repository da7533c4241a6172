"""Why an engine does not answer, in one sentence: it becomes the node's Ready message."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from shoal.errors import Unavailable
from shoal.node_agent.runtime import engine as engine_module
from shoal.node_agent.runtime.engine import Engine
from shoal.node_agent.runtime.ownership import Owner
from shoal.node_agent.runtime.port import EngineEvent, ImagesChanged, Listed, Lost


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


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b'{"Type":"ima', "it closed the stream of events"),
        (b'{"Type":"ima\n', "Input data was truncated"),
        (b'{"Type":"\xff"}\n', "'utf-8' codec can't decode"),
    ],
)
async def test_what_cannot_be_read_is_a_loss_and_not_the_end(
    monkeypatch: pytest.MonkeyPatch, said: bytes, why: str
) -> None:
    """An engine that is killed ends amid a line."""
    engine = Engine("unix:///none", Owner("c1", "n1"))
    monkeypatch.setattr(engine_module, "RECONNECT_S", 0)

    @asynccontextmanager
    async def opened(*_: Any) -> AsyncIterator[Any]:
        content = asyncio.StreamReader()
        content.feed_data(said)
        content.feed_eof()
        content.readany = lambda: content.read(100)  # type: ignore[attr-defined]
        yield SimpleNamespace(content=content)

    async def owned() -> tuple[()]:
        return ()

    monkeypatch.setattr(engine._calls, "open", opened)
    monkeypatch.setattr(engine, "owned", owned)
    heard: list[EngineEvent] = []
    async with aclosing(engine.events()) as events:  # type: ignore[type-var]
        async for event in events:
            heard.append(event)
            if len(heard) == 5:
                break
    await engine.close()
    lost = heard[2]
    assert isinstance(lost, Lost)
    assert lost.why.startswith(why)
    assert [type(e) for e in heard[3:]] == [ImagesChanged, Listed], "and it goes on"
