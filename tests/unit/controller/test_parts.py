"""Backoff, filters, actions and their translation, waiting for the view."""

import asyncio
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.controller.actions import (
    Create,
    Emit,
    EraseEntry,
    Remove,
    Replace,
    SetStatus,
    WriteEntry,
    changes,
    mark_deleted,
    rfc3339,
    unix_seconds,
    with_metadata,
)
from shoal.controller.backoff import Backoff, ceiling_s
from shoal.controller.waits import Waits
from shoal.model.meta import ObjectMeta
from shoal.model.pod import Pod, PodStatus
from shoal.model.registry import encode
from shoal.names import ObjectKey, observed
from shoal.store.records import Delete, Entry, Put, Synced
from shoal.store.stored import Observed, Stored, decode_observed
from shoal.store.view import View
from shoal.wildcards import covers

KEY = ObjectKey("pods", "default", "web")
POD = Pod(metadata=ObjectMeta(name="web", namespace="default", uid="u1"))


# --- backoff ----------------------------------------------------------------------------------------------------------------


def test_the_bound_of_a_wait_doubles_until_the_limit() -> None:
    assert [ceiling_s(n, base_s=1, bound_s=10) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]
    assert ceiling_s(10_000, base_s=1, bound_s=10) == 10
    with pytest.raises(ValueError, match="counts from 1"):
        ceiling_s(0, base_s=1, bound_s=10)


@given(st.lists(st.sampled_from(["failed", "succeeded"]), max_size=50), st.integers())
def test_a_wait_is_of_the_whole_range_and_starts_anew_after_a_success(steps: list[str], seed: int) -> None:
    backoff, failures = Backoff(random.Random(seed).random, base_s=1, bound_s=30), 0
    for step in steps:
        if step == "succeeded":
            backoff.succeeded("k")
            failures = 0
        else:
            failures += 1
            assert 0 <= backoff.failed("k") < ceiling_s(failures, base_s=1, bound_s=30)
        assert backoff.failures("k") == failures
        assert backoff.failures("another") == 0


# --- filters ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filter_", "key", "taken"),
    [
        ("desired.>", "desired.pods.default.web", True),
        ("desired.>", "desired", False),
        ("desired.*.default.>", "desired.pods.default.web", True),
        ("desired.*.other.>", "desired.pods.default.web", False),
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a", False),
        (">", "a", True),
        ("a.*", "a.>", False),
        ("a.>", "a.*.c", True),
    ],
)
def test_what_a_filter_takes(filter_: str, key: str, taken: bool) -> None:
    assert covers(filter_, key) == taken


# --- actions ----------------------------------------------------------------------------------------------------------------


def a_view(*entries: Entry | Synced) -> View:
    view = View()
    for entry in entries:
        view.apply(entry)
    return view


def stored_in(view: View) -> Stored[Pod]:
    stored = view.get(KEY, Pod)
    assert stored is not None
    return stored


DESIRED = Entry("desired.pods.default.web", encode(POD), 3, "00-t")


def test_a_write_that_changes_nothing_is_left_out() -> None:
    view = a_view(DESIRED)
    stored = stored_in(view)
    (first,) = changes([SetStatus(stored, PodStatus(phase="Pending"))], view)
    assert isinstance(first, Put)
    view.apply(Entry(first.key, first.value, 4))

    assert changes([SetStatus(stored_in(view), PodStatus(phase="Pending"))], view) == []
    assert changes([Replace(stored, stored.object)], view) == []
    assert changes([WriteEntry(DESIRED.key, encode(POD), 3)], view) == []
    assert changes([Emit(KEY, "u1", "Normal", "X", "y")], view) == []


def test_each_write_carries_the_revision_it_was_decided_on_and_the_trace_it_has() -> None:
    view = a_view(DESIRED)
    made = with_metadata(POD, labels={"a": "b"})

    assert changes([Replace(stored_in(view), made)], view) == [Put(DESIRED.key, encode(made), 3, "00-t")]
    assert changes([Create(POD)], view) == [Put(DESIRED.key, encode(POD), 0, "")]
    assert changes([EraseEntry("bound.n.pods.default.web", 9)], view) == [Delete("bound.n.pods.default.web", 9)]


def test_the_first_mark_of_deletion_raises_the_generation_and_a_later_one_does_not() -> None:
    view = a_view(Entry(DESIRED.key, encode(with_metadata(POD, generation=1)), 3))
    marked = mark_deleted(stored_in(view), 0.0).object
    assert marked.metadata.generation == 2
    assert mark_deleted(stored_in(a_view(DESIRED)), 0.0).object.metadata.generation == 0  # a kind without it

    view.apply(Entry(DESIRED.key, encode(marked), 4))
    again = mark_deleted(stored_in(view), 9.0, finalizers=("x.org/y",)).object
    assert again.metadata.generation == marked.metadata.generation


def test_a_status_takes_the_place_of_a_predecessor_s_and_keeps_its_own_counter() -> None:
    older = msgspec.json.encode(Observed(uid="u0", counter=9, status=msgspec.Raw(b'{"phase":"Failed"}')))
    view = a_view(DESIRED, Entry(observed("_", KEY), older, 5))
    (change,) = changes([SetStatus(stored_in(view), counter=1)], view)
    assert isinstance(change, Put)
    assert change.expected == 5
    record = decode_observed(change.value)
    assert (record.uid, record.counter, bytes(record.status)) == ("u1", 1, b"{}")

    view.apply(Entry(change.key, change.value, 6))
    (change,) = changes([SetStatus(stored_in(view), PodStatus(phase="Pending"), observed_generation=4)], view)
    assert isinstance(change, Put)
    record = decode_observed(change.value)
    assert (record.counter, record.observed_generation, bytes(record.status)) == (1, 4, b'{"phase":"Pending"}')


def test_a_unit_writes_records_first_and_copies_last() -> None:
    view = a_view(
        Entry("bound.n1.pods.default.web", b"{}", 1),
        Entry("observed.n1.pods.default.web", b'{"uid":"other"}', 2),
        DESIRED,
    )

    assert changes([Remove(KEY)], view) == [
        Delete("desired.pods.default.web", 3),
        Delete("observed.n1.pods.default.web", 2),
        Delete("bound.n1.pods.default.web", 1),
    ]
    unit = changes([WriteEntry("bound.x.pods.default.web", b"{}", 0), SetStatus(stored_in(view)), Create(POD)], view)
    assert [c.key.partition(".")[0] for c in unit] == ["desired", "observed", "bound"]


def test_times_are_kubernetes_s() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00Z"
    assert unix_seconds(rfc3339(1_800_000_000.9)) == 1_800_000_000


# --- waits ------------------------------------------------------------------------------------------------------------------


async def test_a_wait_ends_when_the_view_is_whole_and_new_enough() -> None:
    view = a_view(Entry("desired.pods.default.a", b"{}", 5), Synced(5))
    waits = Waits(view)
    await waits.until_shown(5, 60)
    waiting = asyncio.create_task(waits.until_shown(9, 60))
    await asyncio.sleep(0)

    view.apply(Entry("desired.pods.default.a", b"{}", 4))  # a list begins anew
    view.apply(Entry("desired.pods.default.b", b"{}", 9))
    waits.shown()
    await asyncio.sleep(0)
    assert not waiting.done()

    view.apply(Synced(9))
    waits.shown()
    async with asyncio.timeout(5):
        await waiting


async def test_a_wait_for_an_entry_ends_when_another_is_there_and_gives_up_in_time() -> None:
    view = a_view(Entry("k", b"{}", 5))
    waits = Waits(view)
    await waits.until_moved("k", 4, 60)
    await waits.until_moved("k", 5, 0.001)
    waiting = asyncio.create_task(waits.until_moved("k", 5, 60))
    await asyncio.sleep(0)

    view.apply(Entry("k", b"{}", 6))
    waits.moved("k")

    async with asyncio.timeout(5):
        await waiting


async def test_a_wait_that_was_given_up_is_not_kept() -> None:
    waits = Waits(a_view(Entry("k", b"{}", 5), Synced(5)))
    staying = asyncio.create_task(waits.until_shown(7, 60))
    async with asyncio.timeout(5):
        await asyncio.gather(*(waits.until_shown(9, 0.001) for _ in range(20)))

    assert len(waits) == 1
    staying.cancel()
    await asyncio.gather(staying, return_exceptions=True)
    assert len(waits) == 0
