"""`python -m shoal.node_agent`: the agent of this host (`config.py`). `… clean`: remove all that it made on this host."""

import sys

from shoal.config import BusConfig
from shoal.controller.process import exit_with


async def agent(bus: BusConfig) -> None:
    from shoal.node_agent.config import agent_config
    from shoal.node_agent.service import serve
    from shoal.telemetry.watchdog import watchdog

    async with watchdog():
        await serve(agent_config(bus))


async def clean(bus: BusConfig) -> None:
    from shoal.node_agent.clean import clean as remove
    from shoal.node_agent.config import agent_config

    await remove(agent_config(bus))


if __name__ == "__main__":
    exit_with("node-agent", clean if sys.argv[1:] == ["clean"] else agent)
