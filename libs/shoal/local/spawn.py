"""Starts processes and learns how they end, without a thread or a watcher for each.

One SIGCHLD handler reaps whatever has ended, adopted grandchildren too: a supervisor is a "child subreaper", so that
what an engine leaves behind (shims) comes to us and not to an init that may not reap at all.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from shoal.local.processes import Identity, identify

PR_SET_CHILD_SUBREAPER = 36


class Child:
    """`ended` resolves to the exit code, or minus the signal."""

    def __init__(self, pid: int) -> None:
        self.process = identify(pid) or Identity(pid)
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def send(self, number: int) -> None:
        if not self.ended.done():  # not reaped: the pid is still its own
            os.kill(self.process.pid, number)


class Spawner:
    """All children of this process; there is one Spawner, and nothing else here starts or waits for processes."""

    def __init__(self) -> None:
        self._children: dict[int, Child] = {}

    def install(self) -> None:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        loop = asyncio.get_running_loop()
        # Past the loop's own `add_signal_handler`: uvloop keeps this one signal for itself. It wakes the loop all the same.
        signal.signal(signal.SIGCHLD, lambda *_: loop.call_soon_threadsafe(self._reap))

    def start(self, argv: Sequence[str], env: Mapping[str, str], log: Path) -> Child:
        """Raises: OSError if it cannot be started."""
        with log.open("ab") as out:
            popen = subprocess.Popen(
                argv, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", start_new_session=True
            )
        popen.returncode = 0  # ours to reap: Popen must never wait for it
        child = Child(popen.pid)
        self._children[popen.pid] = child
        return child

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            if child is not None and not child.ended.done():
                child.ended.set_result(os.waitstatus_to_exitcode(status))
