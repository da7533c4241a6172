"""What a sender may put into our subjects and headers: names, and trace contexts of the one form."""

import pytest

from shoal.api.guard import context, guarded, is_token, time
from shoal.bus.rpc import Reply, Request
from shoal.errors import BadRequest

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "text", ["", "x", GOOD + "\n", GOOD + "\r\nNats-Rollup: all", GOOD + "-more", " " + GOOD, GOOD.upper(), GOOD[:-1]]
)
def test_a_context_is_one_or_none(text: str) -> None:
    assert context(text) == ""
    assert context(GOOD) == GOOD


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-24T10:00:00Z\n", "2026-11-24 10:00:00", "9" * 10_000])
def test_a_time_is_one_or_ours(text: str) -> None:
    assert time(text, "now") == "now"
    assert time("2026-11-24T10:00:00Z", "now") == "2026-11-24T10:00:00Z"


@pytest.mark.parametrize(
    ("text", "passes"),
    [("a.b:c", True), ("", True), ("*", False), ("a>", False), ("a=b", False), ("a\nb", False), ("\x00", False)],
)
def test_a_token(text: str, passes: bool) -> None:
    assert is_token(text) is passes


async def test_a_handler_sees_clean_requests_alone() -> None:
    seen: list[Request] = []

    async def handler(request: Request) -> Reply:
        seen.append(request)
        return b""

    dirty = Request("s", b"", ("api", "admin", "get", "pods", "default"), GOOD + "\r\nEvil: 1")
    await guarded(handler)(dirty)
    assert (seen[0].traceparent, seen[0].tokens) == ("", dirty.tokens)
    with pytest.raises(BadRequest):
        await guarded(handler)(Request("s", b"", ("api", "admin", "get", "pods", "=zz")))
    assert len(seen) == 1
