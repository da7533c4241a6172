"""Which units go into the next batch, and which revision each entry gets."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.errors import BadRequest, TooLarge
from shoal.store.batch import BATCH_BYTES_MAX, Sending, Unit, check, gather
from shoal.store.records import BATCH_MAX, Delete, Fence, Put

FENCES = (None, Fence("a", 1), Fence("a", 2), Fence("b", 1))


@pytest.fixture(autouse=True)
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def a_unit(*keys: str, fence: Fence | None = None, size: int = 0) -> Unit:
    loop = asyncio.new_event_loop()
    try:
        return Unit([Put(k, b"x" * size, 0) for k in keys], fence, loop.create_future())
    finally:
        loop.close()


def test_units_with_the_same_fence_go_together_past_others() -> None:
    fence = Fence("g", 1)
    one, two, three = a_unit("a", fence=fence), a_unit("b"), a_unit("c", fence=fence)
    assert gather([one, two, three]) == [one, three]


def test_a_key_is_in_a_batch_once_and_nothing_overtakes_on_it() -> None:
    one, two, three, four = a_unit("a"), a_unit("a", "b"), a_unit("b"), a_unit("c")
    assert gather([one, two, three, four]) == [one, four]


def test_a_full_batch_leaves_the_rest() -> None:
    big = a_unit(*(f"a.{i}" for i in range(BATCH_MAX - 1)))
    assert gather([big, a_unit("b", "c"), d := a_unit("d"), a_unit("e")]) == [big, d]


def test_bytes_are_bounded_but_one_unit_always_goes() -> None:
    huge = a_unit("a", size=BATCH_BYTES_MAX + 1)
    assert gather([huge, a_unit("b", size=1)]) == [huge]
    small = a_unit("c", size=1)
    assert gather([small, a_unit("d", size=BATCH_BYTES_MAX), e := a_unit("e")]) == [small, e]


a_waiting_unit = st.builds(
    lambda keys, fence: a_unit(*keys, fence=fence),
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=3, unique=True),
    st.sampled_from(FENCES),
)


@given(st.lists(a_waiting_unit, min_size=1, max_size=12))
def test_all_go_in_the_end_in_order_on_each_key_and_fence(waiting: list[Unit]) -> None:
    left, order = list(waiting), []
    while left:
        chosen = gather(left)
        assert chosen
        assert chosen[0] is left[0]
        assert len({u.fence for u in chosen}) == 1
        assert sum(len(u.changes) for u in chosen) == len({k for u in chosen for k in u.keys})
        left = [u for u in left if u not in chosen]
        order += chosen
    assert len(order) == len(waiting)
    for key in "abcdefgh":
        assert [u for u in order if key in u.keys] == [u for u in waiting if key in u.keys]


@pytest.mark.parametrize("fence", [None, Fence("g", 9)])
def test_the_last_sequence_gives_every_revision(fence: Fence | None) -> None:
    loop = asyncio.new_event_loop()
    units = [
        Unit([Put("a", b"", 0), Delete("b", 3)], fence, loop.create_future()),
        Unit([Put("c", b"", 0)], fence, loop.create_future()),
    ]
    sending = Sending("id", units, fence)
    sending.succeed(100)
    assert sending.size == (4 if fence else 3)
    assert [u.result.result() for u in units] == [(98, 99), (100,)]
    loop.close()


def test_only_a_lone_change_without_a_fence_is_a_put() -> None:
    assert Sending("i", [a_unit("a")], None).is_put
    assert not Sending("i", [a_unit("a", "b")], None).is_put
    assert not Sending("i", [a_unit("a"), a_unit("b")], None).is_put
    assert not Sending("i", [a_unit("a", fence=Fence("g", 1))], Fence("g", 1)).is_put


def test_what_is_refused_before_it_is_sent() -> None:
    check([Put(f"a.{i}", b"", 0) for i in range(BATCH_MAX)], None)
    with pytest.raises(TooLarge):
        check([Put(f"a.{i}", b"", 0) for i in range(BATCH_MAX)], Fence("g", 1))
    check([Put("observed.n=2E1.pods.a_b-c.d/e=3A80", b"", 0)], None)
    for key in ("a.>", "a b", "", "a.", ".a", "a..b", "a*"):
        with pytest.raises(BadRequest):
            check([Delete(key, 1)], None)
