import asyncio

import pytest

from shoal.node_agent.turns import Stage, Turns


async def test_never_more_than_the_limit_and_the_nearly_done_first() -> None:
    turns, order, at_once = Turns(2), list[str](), 0
    gate = asyncio.Event()

    async def work(name: str, stage: Stage) -> None:
        nonlocal at_once
        async with turns.turn(stage):
            at_once += 1
            assert at_once <= 2
            order.append(name)
            await gate.wait()
            at_once -= 1

    stages = [("a", Stage.CREATE), ("b", Stage.CREATE), ("c", Stage.CREATE), ("d", Stage.START_SANDBOX)]
    tasks = [asyncio.create_task(work(n, s)) for n, s in [*stages, ("e", Stage.START_CONTAINER), ("f", Stage.CREATE)]]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "e", "d", "c", "f"]


@pytest.mark.parametrize("taken", [False, True])
async def test_who_gives_up_waiting_costs_nobody_a_turn(taken: bool) -> None:
    turns = Turns(1)
    holding = turns.turn(Stage.CREATE)
    await holding.__aenter__()

    async def wait() -> None:
        async with turns.turn(Stage.CREATE):
            pass

    first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    if taken:  # the turn was just passed on to it when it is cancelled
        await holding.__aexit__(None, None, None)
        first.cancel()
    else:
        first.cancel()
        await asyncio.sleep(0)
        await holding.__aexit__(None, None, None)
    await asyncio.wait_for(second, 5)
    await asyncio.wait_for(wait(), 5)
