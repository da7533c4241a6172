"""What a supervisor is told about one process, and what it tells about it. Data alone: both sides import this."""

from enum import StrEnum

import msgspec

from shoal.local.processes import Identity


class Program(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One process. `name` is unique under a supervisor (`api`, `h1/agent`).

    `ready` says when it counts as started:
      ""             as soon as it runs
      "notify"       READY=1 by NOTIFY_SOCKET
      "file:PATH"    the file exists (removed before each start)
      "tcp:HOST:PORT" something there accepts and greets (nats-server); "port:HOST:PORT": accepts
      "http:SOCKET"  GET /_ping on that unix socket answers (an engine)
    `needs`: started once these are ready; stopped before them. `cgroup`: the directory of a cgroup that it starts in.
    `prepare`: a command run to its end before each start; `kill_cgroup`: whatever is left in there is killed before.
    `env` is the whole environment.
    """

    name: str
    argv: list[str]
    env: dict[str, str]
    ready: str = "notify"
    ready_seconds: float = 60.0
    stop_seconds: float = 10.0
    needs: list[str] = []
    restart: bool = True
    cgroup: str = ""
    kill_cgroup: str = ""
    prepare: list[str] = []


class State(StrEnum):
    WAITING = "waiting"  # for what it needs
    STARTING = "starting"
    READY = "ready"
    BACKOFF = "backoff"  # ended by itself; started again soon
    STOPPED = "stopped"  # as asked, or it is not to be restarted


class Report(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`exit`: how it ended last, the exit code or minus the signal. `since`: Unix time of the last change of state."""

    name: str
    state: State
    process: Identity = Identity()
    restarts: int = 0
    exit: int | None = None
    since: float = 0.0
    log: str = ""


class Command(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A request on the control socket, one JSON line. `names` empty: all.

    `add` (or replace) programs and start them · `remove` · `start` · `stop` (and keep down) · `kill` (`hold`: keep down) ·
    `wait` until ready · `status` · `shutdown`. `seconds`: how long `wait` waits.
    """

    do: str
    names: list[str] = []
    programs: list[Program] = []
    hold: bool = False
    seconds: float = 60.0


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True):
    programs: list[Report] = []
    error: str = ""
