"""A reply of thousands of results in one message."""

import msgspec

from shoal.api.documents import FAILED, fit
from shoal.errors import Status
from shoal.wire import ApplyReply, DocumentResult


def a_reply(count: int, failed: set[int]) -> ApplyReply:
    error = Status(message="no", reason="Conflict", code=409)
    return ApplyReply(
        results=[
            DocumentResult(
                document=i,
                name=f"p{i}",
                result=FAILED if i in failed else "created",
                error=error if i in failed else None,
                warnings=["w" * 100],
            )
            for i in range(count)
        ]
    )


def test_what_fits_is_left_alone() -> None:
    reply = a_reply(10, set())
    assert fit(reply, 100_000) is reply


def test_warnings_go_first_and_failures_last() -> None:
    reply = a_reply(200, {150, 199})
    small = fit(reply, 9000)
    assert len(msgspec.json.encode(small)) <= 9000
    assert [r.document for r in small.results[:2]] == [150, 199]
    assert (small.omitted, small.omitted + len(small.results)) == (200 - len(small.results), 200)
    whole = fit(reply, len(msgspec.json.encode(reply)) - 1)
    assert (whole.omitted, len(whole.results)) == (0, 200)
    assert not any(r.warnings for r in whole.results)
