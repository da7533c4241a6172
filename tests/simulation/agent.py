"""The node agent as it is, on an engine and a network of the simulation."""

from pathlib import Path

from tests.simulation.engine import Engine, Runtime, Wires

from shoal.bus.connecting import connect
from shoal.config import BusConfig
from shoal.node_agent import host as hosts
from shoal.node_agent.config import AgentConfig
from shoal.node_agent.joining import register
from shoal.node_agent.kept_addresses import KeptAddresses
from shoal.node_agent.runtime.ownership import Owner
from shoal.node_agent.service import Agent


async def serve(config: BusConfig, node: str, state: Path, engine: Engine, wires: Wires) -> None:
    (state / "pods").mkdir(parents=True, exist_ok=True)
    settings = AgentConfig(bus=config, node=node, state=state)
    async with connect(config, name=f"shoal-node-agent {node}") as bus:
        runtime = Runtime(engine)
        info = await runtime.info()
        host = hosts.read_host(node, f"192.0.2.{node[1:]}", info, state)
        registered = await register(bus, settings, host)
        runtime.owner = Owner(registered.cluster_uid, node)  # type: ignore[attr-defined]
        addresses = KeptAddresses(state / "addresses.json", registered.pod_cidr)
        agent = Agent(settings, bus, runtime, info, host, registered, addresses, wires, "")  # type: ignore[arg-type]
        await agent.run()
