"""nats-py's client, imported cheaply (`bus.nats_import`) and mended where it would give up.

The mends, all against 2.16.0:

- any `-ERR` but a permission violation closes the client for good: here it reconnects, for ever;
- an exception that the reconnect loop or the read loop does not expect ends that loop silently: here it goes on;
- a connection that is cut off (packets vanish) is waited for until its buffer is flushed: here it is aborted;
- what was published but not sent when the connection broke would be sent after the reconnect, long after its sender
  gave up: here it is dropped (a writer then looks at what is stored, and decides anew);
- a flush sends its ping ahead of what it should flush: here it is behind;
- a task that is cancelled while it waits for room in the buffer goes on as if it had not been: here it ends.
"""

import asyncio
import random
from typing import Any

from shoal.bus.nats_import import small_nats

with small_nats():
    from nats import errors as nats_errors
    from nats.aio.client import Client, Server, Srv
    from nats.aio.msg import Msg

__all__ = ["Msg", "NatsClient", "nats_errors", "pick_server"]

RECONNECT_MAX_S = 2.0


class NatsClient(Client):
    async def _process_err(self, err_msg: str) -> None:
        if "permissions violation" in err_msg:  # nats-py's own test (PERMISSIONS_ERR): the connection stays
            await super()._process_err(err_msg)
        else:
            await self._process_op_err(nats_errors.Error(err_msg))

    async def _read_loop(self) -> None:
        await super()._read_loop()
        if self.is_connected and self._reading_task is asyncio.current_task():
            await self._process_op_err(nats_errors.Error("the read loop ended"))

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        done = await super()._flush_pending(force_flush)
        if task and task.cancelling() > before:
            raise asyncio.CancelledError
        return done

    async def flush(self, timeout: int = 10) -> None:
        await self._flush_pending(force_flush=True)
        await super().flush(timeout)

    async def _attempt_reconnect(self) -> None:
        self._drop_pending()
        self._abort()
        while not self.is_closed:
            try:
                await super()._attempt_reconnect()
                return
            except Exception as error:  # noqa: BLE001  (whatever it is, the loop must go on)
                await self._error_cb(error)
                await asyncio.sleep(random.uniform(0.1, 0.5))

    async def _connect_to_server(self, s: Srv) -> None:
        self._abort()  # of an attempt that came no further than this: nobody else closes its socket
        await super()._connect_to_server(s)

    def _drop_pending(self) -> None:
        self._pending = []
        self._pending_data_size = 0
        while self._flush_queue is not None and not self._flush_queue.empty():
            waiting = self._flush_queue.get_nowait()
            if not waiting.done():
                waiting.set_result(None)

    def _abort(self) -> None:
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()


def pick_server(servers: list[Server], _info: dict[str, Any]) -> tuple[Server, float]:
    """The next server to try and the pause before (s): the least tried one, with full jitter from 0.1 s to 2 s."""
    tries = min(s.reconnects for s in servers)
    choice = random.choice([s for s in servers if s.reconnects == tries])
    return choice, random.uniform(0, min(RECONNECT_MAX_S, 0.1 * 2.0 ** min(tries, 10)))
