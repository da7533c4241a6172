"""Pull policies, one pull for all, backoff, and Kubernetes' words."""

import asyncio
from collections.abc import Awaitable

import pytest
from tests.unit.node_agent.simulated import SimulatedRuntime

from shoal.node_agent.images import ImageError, Images
from shoal.node_agent.lifecycle import BACKOFF_FIRST_S
from shoal.node_agent.runtime.answers import split_reference
from shoal.node_agent.runtime.port import Image

WEB = Image(id="sha256:web")


class Shop:
    def __init__(self) -> None:
        self.runtime = SimulatedRuntime()
        self.runtime.registry["r.example/new"] = Image(id="sha256:new")
        self.images = Images(self.runtime, self.runtime.monotonic)
        self.told: list[str] = []

    async def get(self, reference: str, policy: str) -> Image:
        async def pulling(pull: Awaitable[Image]) -> Image:
            return await pull

        return await self.images.get(reference, policy, lambda _type, reason, _text: self.told.append(reason), pulling)

    async def why(self, reference: str, policy: str) -> str:
        with pytest.raises(ImageError) as caught:
            await self.get(reference, policy)
        return caught.value.why


@pytest.fixture
def shop() -> Shop:
    return Shop()


async def test_what_is_there_is_looked_for_once_until_images_change(shop: Shop) -> None:
    assert [await shop.get("shoal/web", "IfNotPresent") for _ in range(3)] == [WEB] * 3
    assert shop.runtime.calls == ["image shoal/web"]
    shop.images.changed()
    await shop.get("shoal/web", "IfNotPresent")
    assert shop.runtime.calls == ["image shoal/web"] * 2


async def test_what_is_missing_is_pulled(shop: Shop) -> None:
    assert (await shop.get("r.example/new", "IfNotPresent")).id == "sha256:new"
    assert shop.told == ["Pulling", "Pulled"]


async def test_always_pulls_even_what_is_there(shop: Shop) -> None:
    shop.runtime.images["r.example/new"] = Image(id="sha256:old")
    assert (await shop.get("r.example/new", "Always")).id == "sha256:new"


async def test_never_never_pulls(shop: Shop) -> None:
    assert await shop.why("r.example/new", "Never") == "ErrImageNeverPull"
    assert await shop.get("shoal/web", "Never") == WEB
    assert not any(c.startswith("pull") for c in shop.runtime.calls)


async def test_many_who_wait_are_one_pull(shop: Shop) -> None:
    shop.runtime.hang["pull"] = asyncio.Event()
    waiting = [asyncio.create_task(shop.get("r.example/new", "Always")) for _ in range(5)]
    await asyncio.sleep(0)
    shop.runtime.hang["pull"].set()
    assert len({image.id for image in await asyncio.gather(*waiting)}) == 1
    assert shop.runtime.calls.count("pull r.example/new") == 1


async def test_one_who_gives_up_does_not_end_the_pull_of_the_others(shop: Shop) -> None:
    shop.runtime.hang["pull"] = asyncio.Event()
    first, second = (asyncio.create_task(shop.get("r.example/new", "Always")) for _ in range(2))
    while "pull r.example/new" not in shop.runtime.calls:
        await asyncio.sleep(0)
    first.cancel()
    shop.runtime.hang["pull"].set()
    assert (await second).id == "sha256:new"


async def test_a_failed_pull_backs_off_from_ten_seconds_to_five_minutes(shop: Shop) -> None:
    waits = []
    for _ in range(8):
        assert await shop.why("r.example/none", "IfNotPresent") == "ErrImagePull"
        assert await shop.why("r.example/none", "IfNotPresent") == "ImagePullBackOff"
        until = shop.images._failed["r.example/none"].until
        waits.append(until - shop.runtime.now)
        shop.runtime.now = until
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]


async def test_a_pull_may_fail_for_weeks(shop: Shop) -> None:
    for _ in range(1100):
        assert await shop.why("r.example/none", "Always") == "ErrImagePull"
        shop.runtime.now = shop.images._failed["r.example/none"].until


async def test_a_setting_of_the_clock_prolongs_no_backoff(shop: Shop) -> None:
    await shop.why("r.example/late", "Always")
    shop.runtime.registry["r.example/late"] = WEB
    shop.runtime.set_clock(-86_400)
    shop.runtime.now += 10
    assert await shop.get("r.example/late", "Always") == WEB


async def test_an_image_that_vanishes_after_its_pull_backs_off_too(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_: str) -> None:
        return None

    monkeypatch.setattr(shop.runtime, "image", nothing)
    assert await shop.why("r.example/new", "Always") == "ErrImagePull"
    assert await shop.why("r.example/new", "Always") == "ImagePullBackOff"


async def test_a_pull_that_succeeds_forgets_the_failures(shop: Shop) -> None:
    await shop.why("r.example/late", "IfNotPresent")
    shop.runtime.registry["r.example/late"] = WEB
    shop.runtime.now += 10
    await shop.get("r.example/late", "IfNotPresent")
    assert shop.images._failed == {}


@pytest.mark.parametrize(
    "reference",
    ["", "a/UPPER", "a b", "a:b:c", "x@sha256:short", "-x", "a/", "http://r/x", "a/x:" + "t" * 129],
)
async def test_a_name_that_is_none(shop: Shop, reference: str) -> None:
    assert await shop.why(reference, "IfNotPresent") == "InvalidImageName"
    assert shop.runtime.calls == []


@pytest.mark.parametrize(
    "reference", ["busybox", "a/b:1", "localhost:5000/a_b/c-d:V1.2", "r.example/x@sha256:" + "0" * 64]
)
async def test_a_name_that_is_one(shop: Shop, reference: str) -> None:
    assert await shop.why(reference, "Never") == "ErrImageNeverPull"


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("busybox", ("busybox", "latest")),
        ("r:5000/a", ("r:5000/a", "latest")),
        ("r:5000/a/b:1", ("r:5000/a/b", "1")),
        ("a@sha256:00", ("a", "sha256:00")),
        ("a:1@sha256:00", ("a:1", "sha256:00")),
    ],
)
def test_what_the_engine_is_asked_to_pull(reference: str, parts: tuple[str, str]) -> None:
    """Without a tag it would pull every one."""
    assert split_reference(reference) == parts


async def test_who_waits_for_the_next_try_soon_says_so_and_why(shop: Shop) -> None:
    with pytest.raises(ImageError) as failed:
        await shop.get("r.example/none", "Always")
    assert failed.value.until - shop.runtime.now < BACKOFF_FIRST_S
    with pytest.raises(ImageError) as waiting:
        await shop.get("r.example/none", "Always")
    assert (waiting.value.why, waiting.value.until - shop.runtime.now) == ("ImagePullBackOff", BACKOFF_FIRST_S)
    assert waiting.value.message.startswith('Back-off pulling image "r.example/none": ErrImagePull: ')
    assert "manifest for r.example/none not found" in waiting.value.message
