"""Who a process is, beyond its pid: pids are used again, and a pidfile must never kill a stranger.

A process is known by its pid together with the time it started (field 22 of /proc/<pid>/stat, in clock ticks since
boot). Signals go through a pidfd: opened first, compared second, so that nobody can slip in between.
"""

import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec


class Identity(msgspec.Struct, frozen=True):
    """`started`: clock ticks since boot. 0 is no process."""

    pid: int = 0
    started: int = 0


def identify(pid: int) -> Identity | None:
    """None if there is no such process, or it has ended and only waits to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()  # the name in parentheses may hold anything
    return None if fields[0] in "ZX" else Identity(pid, int(fields[19]))


def alive(process: Identity) -> bool:
    return process.pid > 0 and identify(process.pid) == process


def send(process: Identity, number: int) -> bool:
    """Signal that very process; False if it is gone."""
    if process.pid <= 0:
        return False
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if not alive(process):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def wait_gone(process: Identity, seconds: float) -> bool:
    """Wait (blocking) until it has ended; False if it has not within `seconds`."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return True
    try:
        if not alive(process):
            return True
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(handle)


def end(processes: Iterable[Identity], *, seconds: float) -> None:
    """SIGTERM to all, SIGKILL to those that are left after `seconds`. Blocking."""
    left = [p for p in processes if send(p, signal.SIGTERM)]
    deadline = time.monotonic() + seconds
    left = [p for p in left if not wait_gone(p, max(0.0, deadline - time.monotonic()))]
    for process in left:
        send(process, signal.SIGKILL)
    for process in left:
        wait_gone(process, 5.0)


class Networks:
    """Network namespaces of these processes, held: until the end of the block none of them gives its number to another.

    Never the machine's, nor one that we or `outside` are in: a process that has only just begun has none of its own yet.
    """

    def __init__(self, pids: Iterable[int], *, outside: Iterable[int] = ()) -> None:
        self._held: list[int] = []
        foreign: set[tuple[int, int]] = set()
        for pid in (1, os.getpid(), *outside):
            with suppress(OSError):  # it has ended, or may not be looked at
                foreign.add(_file(_network(pid).stat()))
        for pid in pids:
            with suppress(OSError):  # it has ended
                handle = os.open(_network(pid), os.O_RDONLY)
                if _file(os.fstat(handle)) in foreign:
                    os.close(handle)
                else:
                    self._held.append(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._held:
            os.close(handle)

    def inside(self) -> list[Identity]:
        """All processes in one of them but this one."""
        spaces = {_file(os.fstat(handle)) for handle in self._held}
        found: list[Identity] = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            process = identify(int(entry.name))
            with suppress(OSError):
                if process is not None and _file(_network(process.pid).stat()) in spaces:
                    found.append(process)
        return found

    def kill(self, seconds: float = 5.0) -> None:
        """SIGKILL whatever is inside, until nothing is. Blocking."""
        deadline = time.monotonic() + seconds
        while (found := self.inside()) and time.monotonic() < deadline:
            for process in found:
                send(process, signal.SIGKILL)
            for process in found:
                wait_gone(process, 0.5)


def _network(pid: int) -> Path:
    return Path(f"/proc/{pid}/ns/net")


def _file(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def write_pidfile(path: Path, pid: int) -> Identity:
    """Raises: ProcessLookupError if there is no such process."""
    found = identify(pid)
    if found is None:
        raise ProcessLookupError(pid)
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(msgspec.json.encode(found))
    fresh.replace(path)
    return found


def read_pidfile(path: Path) -> Identity | None:
    """The process that a pidfile names, if it is still that one."""
    with suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
        found = msgspec.json.decode(path.read_bytes(), type=Identity)
        return found if alive(found) else None
    return None
