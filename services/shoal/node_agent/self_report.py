"""What this node says of itself, and since when: what did not change keeps its time, over a restart of the agent too."""

from pathlib import Path

import msgspec

from shoal.errors import ShoalError
from shoal.model.meta import Condition
from shoal.names import ObjectKey
from shoal.node_agent import host as hosts
from shoal.node_agent.files import replace
from shoal.node_agent.node import Node
from shoal.telemetry.logs import log


class SelfReport:
    """`uid`: the node's. `file`: where its last condition is kept."""

    def __init__(self, node: Node, host: hosts.Host, uid: str, *, sandbox: str, file: Path) -> None:
        self._node = node
        self._host = host
        self._uid = uid
        self._sandbox = sandbox
        self._file = file
        self._ready = _read(file)

    def tell(self, engine_error: str = "") -> None:
        """`engine_error` "": the engine answers."""
        status = hosts.node_status(
            self._host,
            self._node.engine,
            sandbox=self._sandbox,
            pods=self._node.addresses.pool.size,
            engine_error=engine_error,
            last=self._ready,
            now=self._node.now(),
        )
        (ready,) = status.conditions
        if ready != self._ready:
            self._ready = ready
            self._keep(ready)
        key = ObjectKey("nodes", "", self._node.name)
        self._node.reporter.pod(key, self._uid, status, gone=False, traceparent="")

    async def look(self) -> None:
        """The engine may be another version than before, and its machine have more or less. Then it is told."""
        try:
            engine = await self._node.runtime.info()
        except ShoalError as error:
            log.warning("engine.unknown", error=str(error))
            return
        self._node.engine = engine
        self._host = hosts.on_engine(self._host, engine)
        if self._node.engine_up.is_set():
            self.tell()

    def _keep(self, ready: Condition) -> None:
        try:
            replace(self._file, msgspec.json.encode(ready), sync=False)
        except OSError as error:
            log.warning("status.unkept", error=str(error))


def _read(file: Path) -> Condition | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Condition)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
