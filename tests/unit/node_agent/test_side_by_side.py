"""A sandbox and its containers are created side by side, so that either may be there first: nothing is done twice for it."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from tests.unit.node_agent.made import a_fact, a_pod, a_sandbox
from tests.unit.node_agent.test_pods import READY, look
from tests.unit.node_agent.test_worker import Case

from shoal.node_agent.actions import CreateContainer, CreateSandbox, Remove, StartContainer
from shoal.node_agent.runtime.port import CREATED

MAKING = msgspec.structs.replace(READY, working=frozenset({"sandbox 0"}))


def test_a_container_that_is_there_before_its_sandbox_waits_for_it() -> None:
    assert look(a_pod(), a_fact(state=CREATED), memory=MAKING).actions == ()
    there = look(a_pod(), a_sandbox(), a_fact(state=CREATED))
    assert there.actions == (StartContainer("web-0-0", "web"),)


def test_another_container_of_the_pod_joins_the_sandbox_that_is_being_created() -> None:
    pod = a_pod(containers=[{"name": n, "image": "i"} for n in ("web", "side")])
    memory = msgspec.structs.replace(MAKING, images={"web": "i", "side": "i"})
    assert look(pod, a_fact(state=CREATED), memory=memory).actions == (CreateContainer("side", 0, 0, 0),)


def test_a_container_whose_sandbox_vanished_goes_even_so() -> None:
    decision = look(a_pod(), a_fact(state=CREATED))
    assert decision.actions == (CreateSandbox(1), Remove("web-0-0"))


@pytest.mark.parametrize("slow", ["POD", "web"])
async def test_whichever_is_made_first_each_is_created_and_started_once(tmp_path: Path, slow: str) -> None:
    case = Case(tmp_path)
    made = asyncio.Event()
    create = case.runtime.create

    async def in_order(name: str, body: object) -> str:
        if name.startswith(f"shoal_{slow}_"):
            await made.wait()
            for _ in range(20):  # the worker looks at what there is
                await asyncio.sleep(0)
        try:
            return await create(name, body)  # type: ignore[arg-type]
        finally:
            made.set()

    case.runtime.create = in_order  # type: ignore[method-assign]
    try:
        await case.running()
    finally:
        await case.end()
    calls = [call.partition(" ")[0] for call in case.runtime.calls]
    assert (calls.count("create"), calls.count("start"), calls.count("remove")) == (2, 2, 0)
