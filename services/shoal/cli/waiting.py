"""Waiting until objects are as they should be: conditions over states, and one loop over all that is waited for."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shoal.cli.arguments import UsageError
from shoal.cli.context import Context
from shoal.cli.failure import Failed
from shoal.cli.output.progress import Progress
from shoal.cli.resources import Named
from shoal.cli.watching import states
from shoal.errors import NotFound

if TYPE_CHECKING:
    from shoal.client import Client

State = Any | None  # an object as decoded JSON, None while there is none
Condition = Callable[[State], bool]


def condition(text: str) -> tuple[Condition, str]:
    """From `--for`: the condition, and how it is called when it is met. Raises: UsageError.

    `delete`, `create`, `condition=Ready`, `condition=Ready=False`, `jsonpath={.status.phase}=Running`.
    """
    word, _, rest = text.partition("=")
    match word:
        case "delete":
            return is_gone, "deleted"
        case "create":
            return (lambda state: state is not None), "created"
        case "condition" if rest:
            name, equals, value = rest.partition("=")
            return _has_condition(name, value if equals else "True"), "condition met"
        case "jsonpath" if rest:
            return _has_value(rest), "condition met"
        case _:
            raise UsageError(
                f"cannot wait for {text!r}; write delete, create, condition=NAME[=VALUE] or jsonpath={{PATH}}[=VALUE]"
            )


def is_gone(state: State) -> bool:
    return state is None


def _has_condition(name: str, value: str) -> Condition:
    def met(state: State) -> bool:
        return state is not None and condition_status(state, name).lower() == value.lower()

    return met


def condition_status(state: Any, name: str) -> str:
    """`Unknown` for one that is not reported, or was reported of an older generation."""
    for found in state.get("status", {}).get("conditions", []):
        if found.get("type", "").lower() == name.lower():
            of = found.get("observedGeneration", 0)
            if of and of < state["metadata"].get("generation", 0):
                return "Unknown"
            return str(found.get("status", "Unknown"))
    return "Unknown"


def _has_value(text: str) -> Condition:
    from shoal.cli.output.paths import find, show

    path, _, value = text.partition("}=") if text.startswith("{") else text.partition("=")
    value = value.strip("'\"")
    path = path.strip("{}")

    def met(state: State) -> bool:
        found = [show(v) for v in find(state, path)] if state is not None else []
        return bool(found) and (not value or found == [value])

    find({}, path)  # a bad path is said now
    return met


def is_ready(state: State) -> bool:
    """All is done that a person waits for after `apply`: pods are ready or have succeeded, replicas are all ready."""
    if state is None or state["metadata"].get("deletionTimestamp"):
        return False
    status = state.get("status", {})
    match state["kind"]:
        case "Pod":
            return status.get("phase") == "Succeeded" or condition_status(state, "Ready") == "True"
        case "ReplicaSet":
            wanted = state.get("spec", {}).get("replicas", 1)
            seen = status.get("observedGeneration", 0) >= state["metadata"].get("generation", 0)
            return bool(seen and status.get("replicas", 0) == wanted == status.get("readyReplicas", 0))
        case "Namespace":
            return bool(status.get("phase", "Active") == "Active")
        case "Node":
            return condition_status(state, "Ready") == "True"
        case _:
            return True


async def wait_all(
    cluster: "Client",
    context: Context,
    objects: Sequence[Named],
    met: Condition,
    word: str,
    *,
    timeout: float,
    missing_is_error: bool = False,
) -> None:
    """Print `pod/web condition met` for each as it happens (`word` "": print nothing). `timeout` 0: look once.

    Raises: Failed, after one sentence for each object that is not there in time; NotFound.
    """
    left = set(objects)
    with Progress(context) as progress:

        async def one(obj: Named) -> None:
            async for state in states(cluster, obj.kind, obj.namespace, obj.name):
                if met(state):
                    left.discard(obj)
                    progress.clear()
                    if word:
                        context.write(f"{obj.shown} {word}\n")
                        context.flush()
                    break
                if state is None and missing_is_error:
                    raise NotFound(f'{obj.kind.qualified} "{obj.name}" not found')
                if timeout <= 0:
                    break
            progress.show(f"waiting for {len(left)} of {len(objects)}")

        with suppress(TimeoutError):
            async with asyncio.timeout(timeout if timeout > 0 else None), asyncio.TaskGroup() as tasks:
                progress.show(f"waiting for {len(left)} of {len(objects)}")
                for obj in objects:
                    tasks.create_task(one(obj), name=f"wait {obj.shown}")
    for obj in (o for o in objects if o in left):
        context.note(f"error: timed out waiting for the condition on {obj.kind.resource}/{obj.name}")
    if left:
        raise Failed
