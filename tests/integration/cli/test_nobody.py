"""What a person reads when nobody is there."""

import time

from tests.integration.cli.conftest import Shoal


async def test_no_api(shoal: Shoal) -> None:
    ran = await shoal("get", "pods")
    assert ran.code == 1
    assert ran.err.startswith("error: NATS at nats://127.0.0.1:")
    assert ran.err.endswith(
        " answers, but no api of Shoal does (`shoal up` starts a cluster, $NATS_URL says where one is)\n"
    )
    assert (await shoal("wait", "--for=delete", "pod/web")).err == ran.err


async def test_no_nats(shoal: Shoal) -> None:
    began = time.monotonic()
    ran = await shoal("get", "pods", "--server", "nats://127.0.0.1:1")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: NATS at nats://127.0.0.1:1: no NATS server can be reached\n"
    assert time.monotonic() - began < 10
