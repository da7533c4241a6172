"""The main job, once through and for real: a published manifest runs on several Docker hosts, and heals."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import nats
import pytest
from tests.e2e.conftest import answering
from tests.e2e.world import (
    apply,
    container,
    containers_of,
    count_running,
    eventually,
    manifest,
    pods,
    replicaset,
    run_in,
    running_container,
    until,
    until_status,
)

from shoal import names, wire
from shoal.client import Client
from shoal.local.lab import Lab
from shoal.local.lab_places import CONTROL_PLANE

Docker = Callable[[str], Awaitable[Any]]

WEB = container("web", image="shoal/web", command=["httpd", "-f", "-p", "8080", "-h", "/www"])


async def test_a_manifest_published_by_a_stock_client_runs_spread_over_the_hosts_and_pods_reach_each_other(
    lab: Lab, client: Client, namespace: str
) -> None:
    stock = await nats.connect(lab.nats_url)
    try:
        ack = await stock.jetstream().publish(
            "shoal.manifests.admin._", manifest(replicaset("web", namespace, 6, WEB)).encode()
        )
    finally:
        await stock.close()
    assert ack.stream == "shoal_manifests"

    up = await until(client, namespace, count_running(6))
    assert Counter(p.spec.node_name for p in up) == dict.fromkeys(lab.hosts, 2)
    assert len({p.status.pod_ip for p in up}) == 6

    async def fetch(asker: str, address: str) -> tuple[int, str]:
        request = "printf 'GET /cgi-bin/index.cgi HTTP/1.0\\r\\n\\r\\n' | nc %s 8080" % address  # noqa: UP031  (\\r in it)
        return await run_in(client, namespace, asker, "sh", "-c", request)

    one_a_host = list({p.spec.node_name: p for p in up}.values())
    for asker in one_a_host:
        for answerer in up:
            code, answer = await fetch(asker.metadata.name, answerer.status.pod_ip)
            assert code == 0, answer
            assert answerer.metadata.name in answer


async def test_a_killed_container_is_back_in_the_same_pod(
    lab: Lab, client: Client, namespace: str, docker: Docker
) -> None:
    await apply(client, replicaset("web", namespace, 1))
    [before] = await until(client, namespace, count_running(1))
    engine = await docker(before.spec.node_name)
    victim = running_container(await containers_of(engine, namespace), before, "main")
    await engine.containers.container(victim["Id"]).kill(signal="KILL")

    [after] = await until(
        client, namespace, lambda ps: count_running(1)(ps) and ps[0].status.container_statuses[0].restart_count == 1
    )
    assert after.metadata.uid == before.metadata.uid
    assert after.status.pod_ip == before.status.pod_ip
    last = after.status.container_statuses[0].last_state.terminated
    assert last is not None
    assert (last.exit_code, last.reason) == (137, "Error")
    assert running_container(await containers_of(engine, namespace), after, "main")["Id"] != victim["Id"]


async def test_a_deleted_pod_of_a_replica_set_is_replaced(client: Client, namespace: str) -> None:
    await apply(client, replicaset("web", namespace, 3))
    before = await until(client, namespace, count_running(3))
    await client.delete("pods", namespace, wire.DeleteRequest(name=before[0].metadata.name))
    after = await until(
        client,
        namespace,
        lambda ps: count_running(3)(ps) and before[0].metadata.uid not in {p.metadata.uid for p in ps},
    )
    kept = {p.metadata.uid for p in before[1:]}
    assert kept <= {p.metadata.uid for p in after}


async def test_an_agent_killed_comes_back_adopts_what_runs_and_restarts_nothing(
    lab: Lab, client: Client, namespace: str, docker: Docker
) -> None:
    await apply(client, replicaset("web", namespace, 6))
    before = await until(client, namespace, count_running(6))
    ids = {h: {c["Id"] for c in await containers_of(await docker(h), namespace)} for h in lab.hosts}

    for host in lab.hosts:
        await lab.kill(host, "agent")
    await lab.control.wait()

    # What is asked for after the restart is proof that the new agents work, and have looked at what ran.
    await apply(client, replicaset("late", namespace, 3))
    await until(client, namespace, lambda ps: len(ps) == 9 and count_running(9)(ps))
    after = {p.metadata.uid: p for p in await pods(client, namespace, "app=web")}
    assert set(after) == {p.metadata.uid for p in before}
    assert all(s.restart_count == 0 for p in after.values() for s in p.status.container_statuses)
    for host in lab.hosts:
        assert ids[host] <= {c["Id"] for c in await containers_of(await docker(host), namespace)}


async def test_nats_killed_and_restarted_loses_no_acknowledged_manifest(
    lab: Lab, client: Client, namespace: str
) -> None:
    acknowledged: list[str] = []
    stop = asyncio.Event()

    more = asyncio.Event()  # set at each acknowledgement

    async def acknowledge(count: int) -> None:
        until_there = len(acknowledged) + count
        while len(acknowledged) < until_there:
            more.clear()
            await more.wait()

    async def publish_all_the_time() -> None:
        stock = await nats.connect(lab.nats_url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
        stream = stock.jetstream(timeout=1)
        try:
            while not stop.is_set():
                name = f"kept-{len(acknowledged)}-{uuid.uuid4().hex[:6]}"
                text = manifest(replicaset(name, namespace, 0)).encode()
                try:
                    await stream.publish("shoal.manifests.admin._", text)
                except (nats.errors.Error, TimeoutError):
                    continue  # not acknowledged: nothing was promised
                acknowledged.append(name)
                more.set()
        finally:
            await stock.close()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(publish_all_the_time())
        for _ in range(3):
            await acknowledge(20)
            await lab.kill(CONTROL_PLANE, "nats")
            await lab.control.wait(["nats"])
        await acknowledge(5)
        stop.set()

    # The stream is worked in order: once this is applied, all before it was.
    await answering(client)
    outcome = await client.outcome(await client.publish(manifest(replicaset("last", namespace, 0))))
    assert outcome.error is None
    reply = await client.list("replicasets", namespace)
    there = {msgspec.json.decode(i, type=dict[str, Any])["metadata"]["name"] for i in reply.items}
    assert there >= set(acknowledged)


@pytest.mark.timeout(240)
async def test_a_scale_up_and_down_ends_right_though_each_control_process_is_killed_in_turn(
    lab: Lab, client: Client, namespace: str, docker: Docker
) -> None:
    await apply(client, replicaset("web", namespace, 0))

    async def kill_in_turn() -> None:
        for process in ("api", "scheduler", "replica-controller"):
            await lab.kill(CONTROL_PLANE, process)
            await lab.control.wait([process])

    await client.scale("replicasets", namespace, wire.ScaleRequest(name="web", replicas=30))
    await kill_in_turn()
    up = await until(client, namespace, count_running(30), patience_s=120)
    assert len({p.status.pod_ip for p in up}) == 30

    await client.scale("replicasets", namespace, wire.ScaleRequest(name="web", replicas=5))
    await kill_in_turn()
    left = await until(client, namespace, count_running(5), patience_s=90)
    assert {p.metadata.uid for p in left} <= {p.metadata.uid for p in up}

    found = [c for h in lab.hosts for c in await containers_of(await docker(h), namespace)]
    mains = [c["Labels"] for c in found if c["Labels"].get(names.CONTAINER_NAME) == "main"]
    assert {c[names.CONTAINER_POD_UID] for c in mains} == {p.metadata.uid for p in left}
    assert len(mains) == 5
    await until_status(client, namespace, "web", ready=5)


async def test_deleting_leaves_no_container_address_link_or_volume_behind(
    lab: Lab, client: Client, namespace: str, docker: Docker
) -> None:
    async def traces(host: str) -> dict[str, set[Any]]:
        state = lab.state_dir(host)
        links = await lab.run(host, "ip", "-o", "link")
        files = await lab.run(host, "sh", "-c", f"find {state} -path '*pods*' -mindepth 1 2>/dev/null || true")
        mounts = await lab.run(host, "sh", "-c", f"grep {state} /proc/self/mountinfo | cut -d' ' -f5 || true")
        return {
            "containers": {c["Id"] for c in await containers_of(await docker(host), namespace)},
            "links": {line.split(":")[1].strip() for line in links.splitlines()},
            "files": set(files.split()),
            "addresses": set(msgspec.json.decode((state / "addresses.json").read_bytes())["pods"].items()),
            "mounts": set(mounts.split()),
            "volumes": {v["Name"] for v in (await (await docker(host)).volumes.list())["Volumes"] or []},
        }

    await until(client, None, lambda ps: not ps)  # what tests before made has gone
    before = {h: await traces(h) for h in lab.hosts}
    volumes = [{"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}]
    mounts = [{"name": "disk", "mountPath": "/disk"}, {"name": "memory", "mountPath": "/memory"}]
    await apply(client, replicaset("web", namespace, 6, container(volumeMounts=mounts), volumes=volumes))
    await until(client, namespace, count_running(6))
    await client.delete("replicasets", namespace, wire.DeleteRequest(name="web"))
    await until(client, namespace, lambda ps: not ps)

    async def clean(host: str) -> None:
        await eventually(lambda: traces(host), before[host], patience_s=30, every_s=0.2)

    await asyncio.gather(*(clean(h) for h in lab.hosts))


async def test_what_was_published_while_every_process_was_down_is_applied_in_order(
    lab: Lab, client: Client, namespace: str
) -> None:
    for process in ("api", "scheduler", "replica-controller"):
        await lab.kill(CONTROL_PLANE, process, restart=False)
    await client.publish(manifest(replicaset("web", namespace, 7)))
    last = await client.publish(manifest(replicaset("web", namespace, 2)))
    for process in ("api", "scheduler", "replica-controller"):
        await lab.restart(CONTROL_PLANE, process)
    outcome = await client.outcome(last)
    assert outcome.error is None
    assert [r.result for r in outcome.results] == ["configured"]
    await until(client, namespace, count_running(2))
