"""Which kind of sandbox a node has: what is set, what can be, and first of all what its pods run in."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.node_agent.made import a_sandbox

from shoal.config import BusConfig
from shoal.errors import ShoalError
from shoal.node_agent import sandboxes
from shoal.node_agent.addresses import Addresses
from shoal.node_agent.config import AgentConfig
from shoal.node_agent.network import Marks
from shoal.node_agent.runtime.port import EXITED, EngineInfo

MARKS = Marks("shoal0", "t", "c", "n")


class Host:
    """An engine and a host's network, as far as they are asked."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state = tmp_path
        self.facts: tuple[Any, ...] = ()
        self.engine_network = False
        self.fast_network = False
        self.refuses: ShoalError | None = None
        self.nft = True
        monkeypatch.setattr("os.geteuid", lambda: 0)
        monkeypatch.setattr("shoal.net.nft.available", lambda: self.nft)
        monkeypatch.setattr(sandboxes, "open_network", self._open)
        monkeypatch.setattr(sandboxes, "remove_all", self._remove_all)

    async def _open(self, *_: Any) -> Any:
        if self.refuses is not None:
            raise self.refuses
        self.fast_network = True
        return object()

    async def _remove_all(self, _: Any) -> None:
        self.fast_network = False

    async def owned(self) -> tuple[Any, ...]:
        return self.facts

    async def has_network(self, _: str) -> bool:
        return self.engine_network

    async def ensure_network(self, *_: Any) -> None:
        self.engine_network = True

    async def remove_network(self, _: str) -> None:
        self.engine_network = False

    async def start(self, kind: str) -> tuple[str, str]:
        """An agent with that setting; the kind it has, and why not the one that was set."""
        config = AgentConfig(bus=BusConfig(), node="n1", state=self.state, sandbox=kind)
        addresses = Addresses("10.208.0.0/24")
        info = EngineInfo(architecture="x86_64")
        runtime: Any = self
        made = await sandboxes.open_sandboxes(config, runtime, info, MARKS, addresses, "10.208.0.0/12")
        return ("fast" if made.network is not None else made.engine_network and "engine"), made.kept


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


@pytest.mark.parametrize(("first", "then"), [("fast", "engine"), ("engine", "fast"), ("engine", "auto")])
async def test_pods_that_run_keep_their_kind_until_none_is_left(host: Host, first: str, then: str) -> None:
    assert await host.start(first) == (first, "")
    there = (host.fast_network, host.engine_network)
    host.facts = (a_sandbox(),)
    kind, kept = await host.start(then)
    assert kind == first
    assert kept.startswith(f"pods run in the {first} sandbox")
    assert (host.fast_network, host.engine_network) == there, "nothing is taken from what runs"
    host.facts = (a_sandbox(state=EXITED),)
    assert await host.start(then) == ("engine" if then == "engine" else "fast", "")
    assert (host.fast_network, host.engine_network) == there[::-1], "and nothing is left of the other"


@pytest.mark.parametrize("setting", ["auto", "fast", "engine"])
async def test_what_runs_is_never_left_without_its_network(host: Host, setting: str) -> None:
    """The agent does not start, and says why; the pods run on."""
    await host.start("fast")
    host.facts = (a_sandbox(),)
    host.nft = False
    with pytest.raises(ShoalError, match=r"pods of this node run in the fast sandbox.*nft is not installed"):
        await host.start(setting)
    host.nft, host.refuses = True, ShoalError("no bridge")
    with pytest.raises(ShoalError, match=r"pods of this node run in the fast sandbox.*no bridge"):
        await host.start(setting)
    assert host.fast_network
    assert not host.engine_network


async def test_without_pods_it_is_what_is_set_and_can_be(host: Host) -> None:
    assert await host.start("auto") == ("fast", "")
    host.nft = False
    assert await host.start("auto") == ("engine", "")
    with pytest.raises(ShoalError, match="cannot be used: nft is not installed"):
        await host.start("fast")
