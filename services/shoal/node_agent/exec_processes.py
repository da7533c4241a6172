"""Ends what an exec began: the engine cannot.

Each exec'd process carries a mark in its environment, which all that it starts inherits: what left its session, or its
parent, is found by it. What threw its environment away is found as long as its parent lives and did not. A mark is random, so
that no process of anybody else has it, whatever pids mean where the engine runs.
"""

import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "SHOAL_SESSION"
LOOKS = 20  # each look kills all it finds; what was forked meanwhile is found by the next
QUIET_LOOKS = 2  # one that is just beginning another program shows no environment
PAUSE_S = 0.02


def new_mark() -> str:
    return secrets.token_hex(16)


def end_marked(mark: str) -> int:
    """Kill every process with this mark, and all below them; how many. Reads all of /proc: call it in a thread."""
    ended = set[int]()
    quiet = 0
    for _ in range(LOOKS):
        found = _marked(mark) - ended
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended |= found
        quiet = 0 if found else quiet + 1
        if quiet == QUIET_LOOKS:
            break
        time.sleep(PAUSE_S)
    return len(ended)


def _marked(mark: str) -> set[int]:
    wanted = f"{MARK}={mark}".encode()
    parents = dict(_parents())
    found = {pid for pid in parents if wanted in _read(pid, "environ").split(b"\0")}
    while below := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= below
    return found


def _parents() -> Iterator[tuple[int, int]]:
    """(pid, parent) of all: field 4 of stat(5); the name before it may hold anything, a bracket ends it."""
    for entry in os.listdir("/proc"):  # noqa: PTH208  (names alone)
        if entry.isdigit() and len(fields := _read(int(entry), "stat").rpartition(b")")[2].split()) > 1:
            yield int(entry), int(fields[1])


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
