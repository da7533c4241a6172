"""`shoal exec` from a shell: input of any size in bounded memory, and nothing left of a client that was killed."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.e2e.world import apply, count_running, eventually, pod, run_in, until

from shoal.client import Client
from shoal.local.lab import Lab
from shoal.node_agent.sessions import IDLE_S

SHOAL = str(Path(sys.executable).with_name("shoal"))
INPUT_BYTES = 100 << 20
MORE_KIB = 24 << 10  # of memory: some windows of input, and what an allocator keeps


def peak_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


async def test_input_of_any_size_arrives_and_the_agent_keeps_none_of_it(
    lab: Lab, client: Client, namespace: str
) -> None:
    await apply(client, pod("counter", namespace))
    [up] = await until(client, namespace, count_running(1))
    agent = await lab.pid(f"{up.spec.node_name}/agent")
    Path(f"/proc/{agent}/clear_refs").write_text("5")  # its peak is counted from now on
    before = peak_kib(agent)
    script = f"head -c {INPUT_BYTES} /dev/zero | {SHOAL} -n {namespace} exec -i counter -- wc -c"
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", script, env=os.environ | lab.environment(), stdout=asyncio.subprocess.PIPE
    )  # fmt: skip
    async with asyncio.timeout(120):
        out, _ = await process.communicate()
    assert out.split() == [str(INPUT_BYTES).encode()]
    assert peak_kib(agent) - before < MORE_KIB


async def test_nothing_is_left_of_an_exec_whose_client_was_killed(lab: Lab, client: Client, namespace: str) -> None:
    await apply(client, pod("left", namespace))
    await until(client, namespace, count_running(1))
    script = "setsid sleep 7001 & echo begun; sleep 7002"
    process = await asyncio.create_subprocess_exec(
        SHOAL, "-n", namespace, "exec", "left", "--", "sh", "-c", script,
        env=os.environ | lab.environment(), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readline() == b"begun\n"

    async def sleeping() -> int:
        return (await run_in(client, namespace, "left", "ps"))[1].count("sleep 700")

    await eventually(sleeping, 2)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await eventually(sleeping, 0, patience_s=IDLE_S + 15, every_s=1)
