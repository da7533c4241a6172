"""Whatever a client asks that changes something, or opens a session, carries the traceparent that it was given."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from shoal import wire
from shoal.client import Client
from shoal.names import Names

WISH = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class FakeBus:
    names = Names()

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    async def request(self, subject: str, body: Any, reply: Any, *, timeout: float, traceparent: str) -> Any:
        self.sent.append((subject.split(".")[3], traceparent))
        if reply is bytes:
            return b"{}"
        return (
            wire.SessionOpened(session="n1/1")
            if reply is wire.SessionOpened
            else wire.SessionReply(sequence=body.sequence, done=True)
        )


ASKING: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "create": lambda c: c.create("pods", "", wire.CreateRequest(object=msgspec.Raw(b"{}")), traceparent=WISH),
    "patch": lambda c: c.patch("pods", "", wire.PatchRequest(name="a", patch={}), traceparent=WISH),
    "delete": lambda c: c.delete("pods", "", wire.DeleteRequest(name="a"), traceparent=WISH),
    "scale": lambda c: c.scale("replicasets", "", wire.ScaleRequest(name="a", replicas=1), traceparent=WISH),
    "logs": lambda c: c.logs("", wire.LogsRequest(name="a"), traceparent=WISH),
    "exec": lambda c: c.exec("", wire.ExecRequest(name="a", command=["sh"]), traceparent=WISH),
    "attach": lambda c: c.attach("", wire.ExecRequest(name="a"), traceparent=WISH),
}


@pytest.mark.parametrize("verb", ASKING)
async def test_the_traceparent_goes_with_it(verb: str) -> None:
    bus = FakeBus()
    asked = await ASKING[verb](Client(bus))  # type: ignore[arg-type]
    assert bus.sent == [(verb, WISH)]
    if verb in ("logs", "exec", "attach"):
        assert [chunk async for chunk in asked] == []
        assert bus.sent[1:] == [("session", WISH)]
