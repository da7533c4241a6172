import asyncio

import pytest

from shoal.node_agent.turns import Turns


async def test_never_more_than_the_limit_and_who_came_first_is_finished_first() -> None:
    turns, order, at_once = Turns(2), list[str](), 0
    gate = asyncio.Event()

    async def work(name: str, ticket: int, *, removal: bool = False) -> None:
        nonlocal at_once
        async with turns.turn(ticket, removal=removal):
            at_once += 1
            assert at_once <= 2
            order.append(name)
            await gate.wait()
            at_once -= 1

    asked = [("1a", 1), ("2a", 2), ("3a", 3), ("3b", 3), ("1b", 1), ("2b", 2)]
    tasks = [asyncio.create_task(work(name, ticket)) for name, ticket in asked]
    tasks.insert(2, asyncio.create_task(work("remove 0", 0, removal=True)))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*tasks)
    assert order == ["1a", "2a", "1b", "2b", "3a", "3b", "remove 0"]


def test_tickets_are_in_order() -> None:
    turns = Turns(1)
    assert turns.ticket() < turns.ticket()


@pytest.mark.parametrize("taken", [False, True])
async def test_who_gives_up_waiting_costs_nobody_a_turn(taken: bool) -> None:
    turns = Turns(1)
    holding = turns.turn(1)
    await holding.__aenter__()

    async def wait() -> None:
        async with turns.turn(1):
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
