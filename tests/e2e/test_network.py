"""The pods' network over several hosts: who sees whose address, ports of hosts, hosts that share no link."""

import asyncio
import os
import re
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.e2e.conftest import PREFIX, owned, require_lab
from tests.e2e.world import apply, container, count_running, eventually, pod, run_in, until

from shoal.bus.connecting import connect
from shoal.client import Client
from shoal.config import BusConfig
from shoal.errors import Unavailable
from shoal.local.lab import Lab
from shoal.model.node import Node
from shoal.model.pod import Pod

pytestmark = pytest.mark.timeout(180)

PORT = 8080
# A web server whose one page is the address of whoever asks.
WHO = (
    "mkdir -p /tmp/w/cgi-bin; printf '#!/bin/sh\\necho; echo by=$REMOTE_ADDR\\n' > /tmp/w/cgi-bin/who; "
    "chmod +x /tmp/w/cgi-bin/who; exec httpd -f -p {port} -h /tmp/w"
)


def server(port: int = PORT, **more: Any) -> dict[str, Any]:
    return container("who", command=["sh", "-c", WHO.format(port=port)], **more)


def on(host: str) -> dict[str, Any]:
    return {"nodeSelector": {"kubernetes.io/hostname": host}}


def ask(address: str, port: int = PORT) -> tuple[str, str, str]:
    return ("sh", "-c", f"printf 'GET /cgi-bin/who HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 5 {address} {port}")


def seen_as(answer: str) -> str:
    """The address that the server saw; else what came instead."""
    found = re.search(r"by=\[::ffff:(.*)\]", answer)  # busybox listens on both families at once
    return found[1] if found else answer


async def by_pod(client: Client, namespace: str, name: str, address: str, port: int = PORT) -> str:
    return seen_as((await run_in(client, namespace, name, *ask(address, port)))[1])


async def by_host(lab: Lab, host: str, address: str, port: int = PORT) -> str:
    return seen_as(await lab.run(host, *ask(address, port), check=False))


async def started(client: Client, namespace: str, *manifests: dict[str, Any]) -> dict[str, Pod]:
    await apply(client, *manifests)
    return {p.metadata.name: p for p in await until(client, namespace, count_running(len(manifests)))}


@asynccontextmanager
async def dropping(lab: Lab, *hosts: str) -> AsyncIterator[None]:
    """These hosts forward nothing that no rule accepts: so the engine leaves them if it was first to turn forwarding on."""
    before = {host: (await lab.run(host, "iptables", "-S", "FORWARD")).split()[2] for host in hosts}
    try:
        for host in hosts:
            await lab.run(host, "iptables", "-P", "FORWARD", "DROP")
        yield
    finally:
        for host, policy in before.items():
            await lab.run(host, "iptables", "-P", "FORWARD", policy)


async def test_a_pod_keeps_its_address_among_pods_and_takes_its_hosts_to_the_outside(
    lab: Lab, client: Client, namespace: str
) -> None:
    here, there = lab.hosts[:2]
    up = await started(
        client,
        namespace,
        pod("asker", namespace, **on(here)),
        pod("near", namespace, server(), **on(here)),
        pod("far", namespace, server(), **on(there)),
        pod("outside", namespace, server(18123), hostNetwork=True, **on(there)),  # no address of the cluster's range
    )
    own = up["asker"].status.pod_ip
    async with dropping(lab, here, there):
        await addresses_are_seen(lab, client, namespace, up, (here, there), own)


async def addresses_are_seen(
    lab: Lab, client: Client, namespace: str, up: dict[str, Pod], hosts: tuple[str, str], own: str
) -> None:
    here, there = hosts

    async def seen() -> tuple[str, str, str]:
        return (
            await by_pod(client, namespace, "asker", up["near"].status.pod_ip),
            await by_pod(client, namespace, "asker", up["far"].status.pod_ip),
            await by_pod(client, namespace, "asker", lab.address(there), 18123),
        )

    await eventually(seen, (own, own, lab.address(here)))

    async def the_host_is_seen() -> str:
        return await by_host(lab, here, up["far"].status.pod_ip)

    await eventually(the_host_is_seen, lab.address(here))


async def test_a_host_port_is_reached_from_everywhere(lab: Lab, client: Client, namespace: str) -> None:
    here, there = lab.hosts[:2]
    ports = [{"containerPort": PORT, "hostPort": 18124}]
    up = await started(
        client,
        namespace,
        pod("port", namespace, server(ports=ports), **on(here)),
        pod("beside", namespace, **on(here)),
        pod("abroad", namespace, **on(there)),
    )
    address = lab.address(here)

    async def seen() -> dict[str, str]:
        return {
            "another host": await by_host(lab, there, address, 18124),
            "a pod of another host": await by_pod(client, namespace, "abroad", address, 18124),
            "the host, by its address": await by_host(lab, here, address, 18124),
            "the host, by its loopback": await by_host(lab, here, "127.0.0.1", 18124),
            "the pod itself": await by_pod(client, namespace, "port", address, 18124),
            "a pod beside it": await by_pod(client, namespace, "beside", address, 18124),
        }

    bridge = up["port"].status.pod_ip.rpartition(".")[0] + ".1"
    await eventually(
        seen,
        {
            "another host": lab.address(there),
            "a pod of another host": lab.address(there),
            "the host, by its address": address,
            "the host, by its loopback": bridge,
            "the pod itself": bridge,  # else it would answer itself without the way back
            "a pod beside it": bridge,
        },
    )
    code, _ = await run_in(client, namespace, "beside", "nc", "-w", "2", "127.0.0.1", "18124")
    assert code != 0, "a pod's loopback is its own"


async def test_a_pod_of_the_engines_own_network_and_one_of_shoals_reach_each_other(
    lab: Lab, client: Client, namespace: str
) -> None:
    here, there = lab.hosts[0], lab.hosts[-1]
    await lab.restart(there, "agent", env={"SHOAL_SANDBOX": "engine"})
    try:
        up = await started(
            client,
            namespace,
            pod("fast", namespace, server(), container("asker"), **on(here)),
            pod("engine", namespace, server(), container("asker"), **on(there)),
        )

        async def seen() -> tuple[str, str]:
            ask_engine, ask_fast = ask(up["engine"].status.pod_ip), ask(up["fast"].status.pod_ip)
            return (
                seen_as((await run_in(client, namespace, "fast", *ask_engine, container="asker"))[1]),
                seen_as((await run_in(client, namespace, "engine", *ask_fast, container="asker"))[1]),
            )

        # The engine masquerades what leaves its network, also for the cluster: the fallback's price.
        async with dropping(lab, here, there):
            await eventually(seen, (up["fast"].status.pod_ip, lab.address(there)), patience_s=30)
    finally:
        await lab.restart(there, "agent", env={})


async def test_a_host_that_was_off_is_reached_again_though_its_hardware_address_is_another(
    lab: Lab, client: Client, namespace: str
) -> None:
    here, there = lab.hosts[:2]
    up = await started(
        client, namespace, pod("asker", namespace, **on(here)), pod("back", namespace, server(), **on(there))
    )

    async def hardware() -> str:
        return (await lab.run(there, "ip", "-o", "link", "show", "eth0")).split("link/ether ")[1].split()[0]

    async def seen() -> str:
        return await by_pod(client, namespace, "asker", up["back"].status.pod_ip)

    await eventually(seen, up["asker"].status.pod_ip)
    before = await hardware()
    await lab.kill(there)
    await lab.mend()
    assert await hardware() != before
    await eventually(seen, up["asker"].status.pod_ip, patience_s=20)


async def test_hosts_that_share_no_link_say_whom_they_cannot_reach() -> None:
    require_lab()
    name = f"{PREFIX}{secrets.token_hex(3)}"
    with owned(name):
        lab = await Lab.up(name, hosts=2, link_count=2)
    try:
        async with connect(BusConfig(servers=(lab.nats_url,)), name="e2e") as bus:
            client = Client(bus)

            async def said() -> dict[str, tuple[str, str, str]]:
                with_network = {}
                for host in lab.hosts:
                    try:
                        node = msgspec.json.decode(await client.get("nodes", "", host), type=Node)
                    except Unavailable:
                        continue
                    for c in node.status.conditions:
                        if c.type == "NetworkUnavailable":
                            with_network[host] = (c.status, c.reason, c.message)
                return with_network

            h1, h2 = (lab.address(host) for host in lab.hosts)
            await eventually(
                said,
                {
                    "h1": ("True", "NoRoute", f"node h2: {h2} shares no link with this host"),
                    "h2": ("True", "NoRoute", f"node h1: {h1} shares no link with this host"),
                },
                patience_s=30,
            )
            assert not await lab.run("h1", "ip", "route", "show", "proto", "83")
            told = await shoal(lab, "describe", "node", "h1")
            assert f"node h2: {h2} shares no link with this host" in told
    finally:
        await lab.down()


async def shoal(lab: Lab, *argv: str) -> str:
    command = str(Path(sys.executable).with_name("shoal"))
    process = await asyncio.create_subprocess_exec(
        command, *argv, stdout=asyncio.subprocess.PIPE, env=os.environ | lab.environment()
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()
