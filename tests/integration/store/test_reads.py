"""Reading without a watch: one key, lists by filter, many pages, more keys than a direct get lists."""

import asyncio

import pytest

from shoal.store import reads
from shoal.store.records import Delete, Entry, Put
from shoal.store.store import Store


async def fill(store: Store, count: int, size: int = 1) -> None:
    await asyncio.gather(*(store.commit([Put(f"k.{i}", b"x" * size, 0)]) for i in range(count)))


@pytest.mark.parametrize("fresh", [False, True])
async def test_one_key(store: Store, fresh: bool) -> None:
    await store.commit([Put("a.b", b"\x00\xff", 0, traceparent="00-t"), Put("c", b"", 0)])
    await store.commit([Delete("c", 2, traceparent="00-d")])

    assert await store.get("a.b", fresh=fresh) == Entry("a.b", b"\x00\xff", 1, "00-t")
    assert await store.get("c", fresh=fresh) == Entry("c", None, 3, "00-d")
    assert await store.get("none", fresh=fresh) is None


@pytest.mark.parametrize("fresh", [False, True])
async def test_an_empty_value_is_a_value(store: Store, fresh: bool) -> None:
    await store.commit([Put("empty", b"", 0)])
    assert await store.get("empty", fresh=fresh) == Entry("empty", b"", 1)


async def test_lists_by_filters_keys_and_nothing(store: Store) -> None:
    keys = ["desired.pods.a.x", "desired.pods.b.y", "observed.n1.pods.a.x", "bound.n1.pods.a.x"]
    await store.commit([Put(k, b"", 0) for k in keys])

    async def names(*filters: str) -> list[str]:
        return [e.key for e in (await store.list(*filters))[0]]

    assert await names() == keys
    assert await names("desired.>") == keys[:2]
    assert await names("desired.pods.a.*", "bound.>") == [keys[0], keys[3]]
    assert await names("desired.pods.a.*", "desired.>") == keys[:2]  # overlapping
    assert await names(keys[2], keys[1]) == [keys[1], keys[2]]
    assert await store.list("none.>") == ([], 4)


async def test_the_empty_store(store: Store) -> None:
    assert await store.list() == ([], 0)
    assert await store.last_revision() == 0


async def test_pages_add_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "PAGE", 7)
    await fill(store, 50)
    listed, revision = await store.list("k.*")
    assert (len(listed), revision) == (50, 50)
    assert [e.revision for e in listed] == sorted(e.revision for e in listed)


async def test_what_changes_between_two_pages_is_told_as_it_is_at_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "PAGE", 10)
    await fill(store, 40)
    page = reads._page
    calls = 0

    async def and_then_a_change(*args: object) -> object:
        nonlocal calls
        calls += 1
        result = await page(*args)  # type: ignore[arg-type]
        if calls == 2:
            entry = await store.get("k.0")
            assert entry is not None
            await store.commit([Put("k.0", b"changed", entry.revision), Delete("k.39", 40), Put("k.new", b"", 0)])
        return result

    monkeypatch.setattr(reads, "_page", and_then_a_change)
    listed, revision = await store.list("k.*")
    there = {e.key: e.value for e in listed}
    assert revision == 43
    assert there["k.0"] == b"changed"
    assert "k.39" not in there
    assert "k.new" in there
    assert len(there) == 40


async def test_large_values_do_not_overrun_the_connection(store: Store) -> None:
    """More bytes than the server holds for one client (max_pending): it pages by itself."""
    await fill(store, 30, 1_000_000)
    listed, _ = await store.list("k.*")
    assert sum(len(e.value or b"") for e in listed) == 30_000_000


async def test_more_keys_than_one_read_lists(store: Store) -> None:
    await fill(store, 2500)
    await store.commit([Delete("k.3", (await store.get("k.3")).revision)])  # type: ignore[union-attr]
    listed, revision = await store.list("k.*")
    assert len(listed) == 2499
    assert revision == 2501
    assert [e.revision for e in listed] == sorted(e.revision for e in listed)


async def test_many_keys_by_name(store: Store) -> None:
    """A commit that was refused reads all of its keys."""
    await fill(store, 998)
    listed, _ = await store.list(*(f"k.{i}" for i in range(999)))
    assert len(listed) == 998
