"""What was last reported of each pod, one small file a pod: an agent that restarts, with NATS or without, goes on from it.

Written beside the loop, and not fsynced: after a crash of the host the containers themselves tell most of it.
"""

import asyncio
import threading
from pathlib import Path

import msgspec

from shoal.model.pod import PodStatus
from shoal.node_agent.files import replace
from shoal.telemetry.logs import log


class Kept:
    """`run` writes until it is cancelled; `keep` and `forget` only remember."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._before: dict[str, PodStatus] = {}
        self._waiting: dict[str, PodStatus | None] = {}  # None: its file goes
        self._wake = asyncio.Event()
        self._writing = threading.Lock()  # a thread may write still when `run` is cancelled
        directory.mkdir(parents=True, exist_ok=True)
        for file in directory.glob("*.json"):
            try:
                self._before[file.stem] = msgspec.json.decode(file.read_bytes(), type=PodStatus)
            except (OSError, msgspec.MsgspecError) as error:
                log.warning("status.unreadable", uid=file.stem, error=str(error))

    def before(self, uid: str) -> PodStatus | None:
        """What the agent before this one reported last."""
        return self._before.get(uid)

    def keep(self, uid: str, status: PodStatus) -> None:
        self._waiting[uid] = status
        self._wake.set()

    def forget(self, uid: str) -> None:
        self._before.pop(uid, None)
        self._waiting[uid] = None
        self._wake.set()

    def uids(self) -> set[str]:
        """Of the pods that an agent before this one knew."""
        return set(self._before)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    uid, status = next(iter(self._waiting.items()))
                    await loop.run_in_executor(None, self._write, uid, status)
                    if self._waiting.get(uid, ...) is status:
                        del self._waiting[uid]
        finally:
            for uid, status in self._waiting.items():
                self._write(uid, status)

    def _write(self, uid: str, status: PodStatus | None) -> None:
        file = self._directory / f"{uid}.json"
        with self._writing:
            try:
                if status is None:
                    file.unlink(missing_ok=True)
                else:
                    replace(file, msgspec.json.encode(status), sync=False)
            except OSError as error:
                log.warning("status.unkept", uid=uid, error=str(error))
