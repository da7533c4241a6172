"""JetStream's answers, as our errors."""

import pytest

from shoal.bus import jetstream as js
from shoal.bus.connection import Bus, Message
from shoal.errors import Unavailable

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(("code", "error"), [(503, Unavailable), (404, js.ApiError)])
async def test_a_call_during_an_election_may_be_tried_again(bus: Bus, code: int, error: type[Exception]) -> None:
    async def answer(message: Message) -> None:
        await bus.publish(message.reply, b'{"error": {"code": %d, "err_code": 10008, "description": "not now"}}' % code)

    await bus.subscribe(f"{bus.names.js}.TEST", answer)
    with pytest.raises(error, match="TEST: not now"):
        await js.api(bus, "TEST")
