"""What a person reads when nobody is there."""

import time

from tests.integration.cli.conftest import Shoal

WHERE = 'eval "$(shoal env)" points at the cluster of this machine, `shoal up` starts one'


async def test_no_api(shoal: Shoal) -> None:
    ran = await shoal("get", "pods")
    assert ran.code == 1
    assert ran.err.startswith("error: NATS at nats://127.0.0.1:")
    assert ran.err.endswith(f" answers, but no api of Shoal does ({WHERE})\n")
    assert (await shoal("wait", "--for=delete", "pod/web")).err == ran.err


async def test_no_nats(shoal: Shoal) -> None:
    began = time.monotonic()
    ran = await shoal("get", "pods", "--server", "nats://127.0.0.1:1")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"error: NATS at nats://127.0.0.1:1: no NATS server can be reached ({WHERE})\n"
    assert time.monotonic() - began < 10
