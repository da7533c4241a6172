"""Ends what an exec began: the engine cannot.

Each exec'd process carries a mark in its environment, which all that it starts inherits: what left its session, or its
parent, is found by it. What threw its environment away is found as long as its parent lives and did not. A mark is random, so
that no process of anybody else has it, whatever pids mean where the engine runs.

An agent without root, or with its engine elsewhere, does not see them in its own /proc. The container does: a second exec
looks there, as the same user, if its image has a shell. It finds what carries the mark, and nothing that threw it away.
"""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from shoal.errors import ShoalError, first_sentence
from shoal.node_agent.runtime.port import EngineError, Runtime
from shoal.telemetry.logs import log

MARK = "SHOAL_SESSION"
LOOKS = 20  # each look kills all it finds; what was forked meanwhile is found by the next
QUIET_LOOKS = 2  # one that is just beginning another program shows no environment
PAUSE_S = 0.02
INSIDE_S = 10.0  # for the same in the container
_SAID_MAX = 200

# Not grep alone: busybox's ends a line where a variable ends.
INSIDE = rf"""
command -v tr >/dev/null && command -v grep >/dev/null || {{ echo the image has no tr or no grep; exit 1; }}
looks=0 quiet=0
while [ $looks -lt {LOOKS} ] && [ $quiet -lt {QUIET_LOOKS} ]; do
  looks=$((looks + 1)) quiet=$((quiet + 1))
  for file in /proc/[0-9]*/environ; do
    {{ tr '\0' '\n' <"$file" | grep -qxF -e "$1"; }} 2>/dev/null || continue
    pid=${{file#/proc/}}
    kill -9 "${{pid%/environ}}" 2>/dev/null && quiet=0
  done
done
echo done
"""


def new_mark() -> str:
    return secrets.token_hex(16)


async def end(runtime: Runtime, container: str, mark: str) -> None:
    """Kill all that an exec with this mark began in the container; what cannot be killed is said in one sentence."""
    ended = await asyncio.get_running_loop().run_in_executor(None, end_marked, mark)
    if ended and os.geteuid() == 0:
        return
    if why := await _end_inside(runtime, container, mark):
        log.warning("session.left", container=container[:12], why=f"what an exec began may go on: {why}")


async def _end_inside(runtime: Runtime, container: str, mark: str) -> str:
    """Why that could not be done; "" if it was."""
    said = b""
    try:
        async with asyncio.timeout(INSIDE_S):
            looking = await runtime.exec(
                container, ["sh", "-c", INSIDE, "sh", f"{MARK}={mark}"], stdin=False, tty=False, env={}
            )
            try:
                while (piece := await looking.read()) is not None:
                    said = (said + piece[1])[-_SAID_MAX:]
            finally:
                await looking.close()
    except TimeoutError:
        return f"looking for it in the container took longer than {INSIDE_S:.0f} s"
    except ShoalError as error:
        ended = isinstance(error, EngineError) and (error.status == 409 or "No such container" in error.message)
        return "" if ended else first_sentence(error)
    text = said.decode(errors="replace").strip()
    return "" if text == "done" else text or "the container has no shell that could look for it"


def end_marked(mark: str) -> int:
    """Kill every process with this mark, and all below them; how many. Those that this user may not kill stay. Reads all
    of /proc: call it in a thread.
    """
    seen = set[int]()
    ended = 0
    quiet = 0
    for _ in range(LOOKS):
        found = _marked(mark) - seen
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                ended += 1
        seen |= found
        quiet = 0 if found else quiet + 1
        if quiet == QUIET_LOOKS:
            break
        time.sleep(PAUSE_S)
    return ended


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
