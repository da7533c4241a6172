"""What happens in a run: wishes of people and faults, drawn from a seed as plain values, so that a run can be written
down, repeated, and made shorter.
"""

import random
from collections.abc import Sequence
from typing import Literal

import msgspec
from tests.simulation.nats.client import Weather

NODES = ("n1", "n2", "n3")
CONTROL = ("api-1", "api-2", "scheduler-1", "scheduler-2", "controller-1", "controller-2")
AGENTS = tuple(f"agent-{n}" for n in NODES)
PROXIES = tuple(f"proxy-{n}" for n in NODES)
PROCESSES = (*CONTROL, *AGENTS, *PROXIES)
USER = "user"
SETS = ("blue", "green", "red")
BARE = ("solo", "duo")


class Step(msgspec.Struct, frozen=True, tag_field="do", kw_only=True):
    """`after_s`: seconds since the step before."""

    after_s: float


class Scale(Step, frozen=True, tag="scale"):
    """A ReplicaSet with so many replicas is published; it need not be there yet."""

    name: str
    replicas: int


class Run(Step, frozen=True, tag="run"):
    """A bare pod is published."""

    name: str


class Delete(Step, frozen=True, tag="delete"):
    resource: str
    name: str


class Die(Step, frozen=True, tag="die"):
    """A container ends by itself: the `pick`-th of those that run."""

    pick: int
    exit_code: int


class Kill(Step, frozen=True, tag="kill"):
    """SIGKILL; started again after `down_s`."""

    process: str
    down_s: float


class Pause(Step, frozen=True, tag="pause"):
    """SIGSTOP for so long. Its connection is given up by the server's side only when it breaks."""

    process: str
    for_s: float


class Cut(Step, frozen=True, tag="cut"):
    """Nothing passes between the process and the server."""

    process: str
    for_s: float


class Break(Step, frozen=True, tag="break"):
    """The connection breaks: what is under way is lost, acknowledgements too."""

    process: str


class Storm(Step, frozen=True, tag="storm"):
    """Messages of the process get lost, doubled, late and out of order."""

    process: str
    weather: Weather
    for_s: float


class Restart(Step, frozen=True, tag="restart"):
    """The server is killed, and back after `down_s`: consumers in memory are gone."""

    down_s: float


class Jump(Step, frozen=True, tag="jump"):
    """The wall clock of a process jumps."""

    process: str
    by_s: float


class Refuse(Step, frozen=True, tag="refuse"):
    """The server refuses the next batches (too many in flight)."""

    batches: int


class Lose(Step, frozen=True, tag="lose"):
    """What was done is not told: the next acknowledgements are lost, those of messages, or those of writes."""

    count: int
    of: Literal["messages", "writes"]


class Forget(Step, frozen=True, tag="forget"):
    """The server loses its consumers, one of them or all."""

    pick: int | None


class Stall(Step, frozen=True, tag="stall"):
    """The engine of a node does not answer."""

    node: str
    for_s: float


AnyStep = (
    Scale | Run | Delete | Die | Kill | Pause | Cut | Break | Storm | Restart | Jump | Refuse | Lose | Forget | Stall
)


GROUPS = (
    PROCESSES,
    CONTROL,
    ("controller-1", "controller-2"),
    ("api-1", "api-2"),
    ("scheduler-1", "scheduler-2"),
    AGENTS,
)


def draw(seed: int, *, count: int = 24) -> list[AnyStep]:
    """A run's steps. About half are wishes; the first always is. The faults of a run meet one group of processes: those
    that stand in for each other are in trouble together.
    """
    chance = random.Random(seed)
    group = chance.choice(GROUPS)
    steps: list[AnyStep] = [Scale(after_s=0.5, name=chance.choice(SETS), replicas=chance.randint(1, 8))]
    while len(steps) < count:
        steps.append(_wish(chance) if chance.random() < 0.45 else _fault(chance, group))
    return steps


def _pause(chance: random.Random) -> float:
    """Mostly close together, where the trouble is; at times far apart."""
    return round(chance.choice((0.0, 0.01, 0.05, 0.3, 1.0, 3.0)) * chance.uniform(0.2, 1.5), 4)


def _span(chance: random.Random) -> float:
    return round(chance.choice((0.2, 1.0, 2.5, 8.0)) * chance.uniform(0.5, 1.5), 3)


def _wish(chance: random.Random) -> AnyStep:
    after = _pause(chance)
    match chance.choice(("scale", "scale", "scale", "scale", "run", "run", "delete", "delete", "die")):
        case "scale":
            return Scale(after_s=after, name=chance.choice(SETS), replicas=chance.choice((0, 1, 2, 3, 5, 8, 12)))
        case "run":
            return Run(after_s=after, name=chance.choice(BARE))
        case "delete":
            if chance.random() < 0.6:
                return Delete(after_s=after, resource="replicasets", name=chance.choice(SETS))
            return Delete(after_s=after, resource="pods", name=chance.choice(BARE))
        case _:
            return Die(after_s=after, pick=chance.randrange(1000), exit_code=chance.choice((0, 1, 137)))


FAULTS = (
    *("kill", "kill", "pause", "pause", "cut", "cut", "break", "break", "lose", "lose"),
    *("storm", "restart", "jump", "refuse", "forget", "stall"),
)


def _fault(chance: random.Random, group: Sequence[str]) -> AnyStep:
    after, process = _pause(chance), chance.choice(group)
    match chance.choice(FAULTS):
        case "kill":
            return Kill(after_s=after, process=process, down_s=_span(chance))
        case "pause":
            return Pause(after_s=after, process=process, for_s=_span(chance))
        case "cut":
            return Cut(after_s=after, process=process, for_s=_span(chance))
        case "break":
            return Break(after_s=after, process=process)
        case "storm":
            weather = Weather(lost=0.03, doubled=0.03, late=0.05, late_s=chance.choice((0.05, 0.5, 3.0)))
            return Storm(after_s=after, process=process, weather=weather, for_s=_span(chance))
        case "restart":
            return Restart(after_s=after, down_s=_span(chance))
        case "jump":
            return Jump(after_s=after, process=process, by_s=chance.choice((-3600.0, -5.0, 5.0, 3600.0)))
        case "refuse":
            return Refuse(after_s=after, batches=chance.randint(1, 5))
        case "lose":
            of: Literal["messages", "writes"] = "messages" if chance.random() < 0.5 else "writes"
            return Lose(after_s=after, count=chance.randint(1, 3), of=of)
        case "forget":
            return Forget(after_s=after, pick=chance.choice((None, chance.randrange(100))))
        case _:
            return Stall(after_s=after, node=chance.choice(NODES), for_s=_span(chance))
