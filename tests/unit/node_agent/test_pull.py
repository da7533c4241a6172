"""A pull takes as long as it moves: an engine that says nothing more has stalled."""

import asyncio
from pathlib import Path

import pytest

from shoal.node_agent.runtime import engine
from shoal.node_agent.runtime.engine import Engine
from shoal.node_agent.runtime.ownership import Owner
from shoal.node_agent.runtime.port import EngineError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
LINE = b'{"status":"Downloading"}\n'
CHUNK = b"%x\r\n%s\r\n" % (len(LINE), LINE)


@pytest.mark.parametrize("ends", [True, False])
async def test_a_pull_ends_when_it_stalls_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    monkeypatch.setattr(engine, "PULL_STALL_S", 0.3)
    closed = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        for _ in range(6):
            writer.write(CHUNK)
            await asyncio.sleep(0.1)
        if ends:
            writer.write(b"0\r\n\r\n")
        await reader.read()
        writer.close()
        closed.set()

    server = await asyncio.start_unix_server(answer, tmp_path / "engine")
    runtime = Engine(f"unix://{tmp_path / 'engine'}", Owner("c1", "n1"))
    try:
        if ends:
            await runtime.pull("shoal/web", None)
        else:
            with pytest.raises(EngineError, match="no progress for"):
                await runtime.pull("shoal/web", None)
    finally:
        await runtime.close()
        await asyncio.wait_for(closed.wait(), 5)
        server.close()
