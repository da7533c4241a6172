"""How far the proxy says it has come."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shoal.config import BusConfig
from shoal.service_proxy import service
from shoal.service_proxy.service import Proxy, ProxyConfig


@pytest_asyncio.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    bus: Any = None
    made = Proxy(ProxyConfig(bus=BusConfig(), node="n1", state=tmp_path), bus)
    yield made
    made.close()


async def test_what_the_kernel_refused_is_not_said_to_be_programmed(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = ["no such device", ""]
    seen: list[int] = []

    def apply() -> str:
        seen.append(proxy._programmed)
        return refusals.pop(0)

    monkeypatch.setattr(service, "RETRY_S", 0.01)
    monkeypatch.setattr(proxy, "_apply", apply)
    proxy._seen = 7
    proxy._dirty.set()
    task = asyncio.create_task(proxy.program())
    try:
        await asyncio.wait_for(proxy._advanced.wait(), 5)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert seen == [0, 0], "refused: not programmed"
    assert proxy._programmed == 7


async def test_a_burst_of_the_kernels_is_looked_at_once(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    later: list[object] = []
    loop = asyncio.get_running_loop()

    def call_later(_delay: float, work: object) -> object:
        later.append(work)
        return work

    monkeypatch.setattr(loop, "call_later", call_later)
    proxy._synced = True
    for _ in range(100):
        proxy._kernel_changed()
    assert later == [proxy._settled]
    proxy._settled()
    assert proxy._dirty.is_set()
    proxy._kernel_changed()
    assert len(later) == 2
