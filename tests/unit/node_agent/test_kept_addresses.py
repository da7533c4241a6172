"""What was told of addresses is on disk; the loop waits for no disk."""

import asyncio
import threading
from pathlib import Path

import pytest

from shoal.node_agent import kept_addresses
from shoal.node_agent.files import replace
from shoal.node_agent.kept_addresses import KeptAddresses

RANGE = "10.1.2.0/28"


class Disk:
    """Writes when it is let. `writes`: how often."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = threading.Event()
        self.begun = threading.Event()
        self.fails = 0
        self.writes = 0
        monkeypatch.setattr(kept_addresses, "replace", self._replace)

    def _replace(self, path: Path, content: bytes) -> None:
        self.begun.set()
        assert self.free.wait(10)
        self.writes += 1
        if self.writes <= self.fails:
            raise OSError("no space left on device")
        replace(path, content)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def on_disk(path: Path, uid: str) -> object:
    return KeptAddresses(path, RANGE).of(uid)


async def test_an_address_is_told_once_it_is_on_disk_and_all_that_wait_share_a_write(
    tmp_path: Path, disk: Disk
) -> None:
    path = tmp_path / "a"
    kept = KeptAddresses(path, RANGE)
    first = asyncio.create_task(kept.give("a"))
    await asyncio.to_thread(disk.begun.wait, 10)
    others = [asyncio.create_task(kept.give(uid)) for uid in ("a", "b", "c", "d")]
    await asyncio.sleep(0)
    assert not any(task.done() for task in (first, *others)), "also who asks for what is on its way only"
    assert kept.of("d") is not None, "the loop goes on meanwhile"
    disk.free.set()
    given = await asyncio.gather(first, *others)
    assert [on_disk(path, uid) for uid in ("a", "a", "b", "c", "d")] == given
    assert disk.writes == 2
    await kept.free("a")
    assert on_disk(path, "a") is None
    assert set(await kept.keep_only({"b"})) == {"c", "d"}
    assert on_disk(path, "c") is None


async def test_what_could_not_be_written_is_written_when_it_is_asked_for_again(tmp_path: Path, disk: Disk) -> None:
    disk.free.set()
    disk.fails = 1
    kept = KeptAddresses(tmp_path / "a", RANGE)
    with pytest.raises(OSError, match="no space"):
        await kept.give("a")
    given = await kept.give("a")
    assert on_disk(tmp_path / "a", "a") == given


async def test_a_write_that_nobody_waits_for_does_not_overtake_the_next(tmp_path: Path, disk: Disk) -> None:
    kept = KeptAddresses(tmp_path / "a", RANGE)
    gone = asyncio.create_task(kept.give("a"))
    await asyncio.to_thread(disk.begun.wait, 10)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    freed = asyncio.create_task(kept.free("a"))
    await asyncio.sleep(0)
    disk.free.set()
    await freed
    assert on_disk(tmp_path / "a", "a") is None
