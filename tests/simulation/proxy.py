"""The service proxy as it is, on a kernel of the simulation."""

from pathlib import Path

from shoal.config import BusConfig


async def serve(config: BusConfig, node: str, state: Path) -> None:
    import asyncio

    await asyncio.get_running_loop().create_future()
