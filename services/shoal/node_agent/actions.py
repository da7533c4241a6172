"""What can be done for a pod: values that `pods.decide` returns and the performer carries out."""

from typing import assert_never

import msgspec


class Prepare(msgspec.Struct, frozen=True):
    """Address, files, volumes."""


class GetImage(msgspec.Struct, frozen=True):
    """Look for the container's image, pull it if its policy says so."""

    container: str


class CreateSandbox(msgspec.Struct, frozen=True):
    generation: int


class StartSandbox(msgspec.Struct, frozen=True):
    """Start it if it does not run, and connect its network."""

    id: str


class CreateContainer(msgspec.Struct, frozen=True):
    container: str
    attempt: int
    failures: int
    generation: int


class StartContainer(msgspec.Struct, frozen=True):
    id: str
    container: str


class Stop(msgspec.Struct, frozen=True):
    """Ask it to end, kill it after `grace_s`. `why`: Killing, SandboxChanged, ContainerChanged; "" needs no event."""

    id: str
    grace_s: int
    container: str
    why: str = ""


class Remove(msgspec.Struct, frozen=True):
    """Kill it if it runs, and remove it."""

    id: str


class Release(msgspec.Struct, frozen=True):
    """Volumes, files, address."""


Action = Prepare | GetImage | CreateSandbox | StartSandbox | CreateContainer | StartContainer | Stop | Remove | Release


def key_of(action: Action) -> str:
    """What an action works on: two with one key never run at once."""
    match action:
        case Prepare() | Release():
            return "ground"
        case GetImage(container=container):
            return f"image {container}"
        case CreateSandbox(generation=generation):
            return f"sandbox {generation}"
        case CreateContainer(container=container):
            return f"create {container}"
        case StartSandbox(id=i) | StartContainer(id=i):
            return f"start {i}"
        case Stop(id=i):
            return f"stop {i}"
        case Remove(id=i):
            return f"remove {i}"
        case _:
            assert_never(action)


def trial_of(action: Action) -> str:
    """What a failure counts for, and holds back: the action's key; but one sandbox is tried no sooner than another."""
    return "sandbox" if isinstance(action, CreateSandbox | StartSandbox) else key_of(action)


class Decision(msgspec.Struct, frozen=True):
    """`wake_at`: decide again then even if nothing happens (`View.now`'s clock); None: only when something does.

    `ended`: nothing is left, and nothing will come back.
    """

    actions: tuple[Action, ...] = ()
    wake_at: float | None = None
    ended: bool = False
