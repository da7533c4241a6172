"""What the engine's answers hold, as far as the agent reads them, and a container's fact made of one. Pure."""

from datetime import datetime

import msgspec

from shoal.node_agent.runtime.ownership import read_labels
from shoal.node_agent.runtime.port import CREATED, EXITED, RUNNING, Fact


class ContainerState(msgspec.Struct):
    Status: str = ""
    Running: bool = False
    OOMKilled: bool = False
    Pid: int = 0
    ExitCode: int = 0
    Error: str = ""
    StartedAt: str = ""
    FinishedAt: str = ""


class ContainerConfig(msgspec.Struct):
    Labels: dict[str, str] | None = None
    Image: str = ""
    User: str = ""


class Inspected(msgspec.Struct):
    Id: str
    Created: str = ""
    Image: str = ""
    State: ContainerState = msgspec.field(default_factory=ContainerState)
    Config: ContainerConfig = msgspec.field(default_factory=ContainerConfig)


class FoundImage(msgspec.Struct):
    Id: str
    RepoDigests: list[str] | None = None
    Config: ContainerConfig | None = None


class EventActor(msgspec.Struct):
    ID: str = ""
    Attributes: dict[str, str] = {}


class Event(msgspec.Struct):
    Type: str = ""
    Action: str = ""
    Actor: EventActor = msgspec.field(default_factory=EventActor)
    timeNano: int = 0  # noqa: N815  (the engine's name)


class Progress(msgspec.Struct):
    error: str = ""


def fact_of(found: Inspected) -> Fact:
    state = found.State
    started = unix_time(state.StartedAt)
    if state.Running or state.Status in {"paused", "restarting"}:
        known = RUNNING
    else:
        # One that could not be started stays "created", and the engine keeps why.
        known = CREATED if not started and not state.Error else EXITED
    finished = unix_time(state.FinishedAt) if known == EXITED else 0.0
    if known == EXITED and not started:
        finished = finished or unix_time(found.Created)  # it never began: what waits, waits from its making
    return Fact(
        id=found.Id,
        labels=read_labels(found.Config.Labels or {}),
        state=known,
        exit_code=state.ExitCode,
        oom_killed=state.OOMKilled,
        error=state.Error if not started else "",
        created_at=unix_time(found.Created),
        started_at=min(started, finished)
        if known == EXITED
        else started,  # the engine's two clocks differ by a millisecond
        finished_at=finished,
        image=found.Config.Image,
        image_id=found.Image,
        pid=state.Pid,
    )


def unix_time(text: str) -> float:
    """Unix seconds of the engine's RFC 3339 with nanoseconds; 0 for its year 1."""
    if not text or text.startswith("0001"):
        return 0.0
    head, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{head}.{fraction[:6]:0<6}+00:00").timestamp()


def split_reference(reference: str) -> tuple[str, str]:
    """(repository, tag or digest) as the engine's pull wants them; a missing tag is `latest`, never every tag."""
    repository, at, digest = reference.partition("@")
    if at:
        return repository, digest
    head, _, last = reference.rpartition("/")
    name, colon, tag = last.partition(":")
    return f"{head}/{name}" if head else name, tag if colon else "latest"
