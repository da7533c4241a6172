"""What a pod is, on a real engine: shared network, storage and host name, init containers, restarts, limits, ports."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from tests.e2e.world import (
    apply,
    container,
    containers_of,
    count_running,
    eventually,
    pod,
    run_in,
    until,
)

from shoal import wire
from shoal.client import Client
from shoal.errors import BadRequest
from shoal.local.lab import Lab
from shoal.model.pod import Pod

Docker = Callable[[str], Awaitable[Any]]


def phase(wanted: str) -> Callable[[list[Pod]], bool]:
    return lambda ps: len(ps) == 1 and ps[0].status.phase == wanted


def waiting(reason: str) -> Callable[[list[Pod]], bool]:
    return lambda ps: any(
        s.state.waiting and s.state.waiting.reason == reason for p in ps for s in p.status.container_statuses
    )


async def test_containers_of_a_pod_share_network_host_name_and_volumes_but_not_processes(
    client: Client, namespace: str
) -> None:
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    server = container("server", command=["httpd", "-f", "-p", "127.0.0.1:9999", "-h", "/shared"], volumeMounts=mounts)
    asker = container("asker", volumeMounts=mounts)
    await apply(client, pod("pair", namespace, server, asker, volumes=[{"name": "shared", "emptyDir": {}}]))
    await until(client, namespace, count_running(1))

    ask = "echo from-asker > /shared/index.html; printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc 127.0.0.1 9999; hostname; ps"
    code, out = await run_in(client, namespace, "pair", "sh", "-c", ask, container="asker")
    assert code == 0, out
    assert "from-asker" in out
    assert "pair" in out.splitlines()
    assert "httpd" not in out


async def test_processes_are_shared_when_asked_for(client: Client, namespace: str) -> None:
    server = container("server", command=["httpd", "-f", "-p", "9999"])
    await apply(client, pod("pair", namespace, server, container("asker"), shareProcessNamespace=True))
    await until(client, namespace, count_running(1))
    code, out = await run_in(client, namespace, "pair", "ps", container="asker")
    assert code == 0
    assert "httpd" in out


async def test_init_containers_run_in_order_and_a_failing_one_is_tried_again(client: Client, namespace: str) -> None:
    mounts = [{"name": "work", "mountPath": "/work"}]
    first = container("first", command=["sh", "-c", "echo one >> /work/log"], volumeMounts=mounts)
    second_fails_once = container(
        "second", command=["sh", "-c", "echo two >> /work/log; test -e /work/tried || { touch /work/tried; exit 3; }"],
        volumeMounts=mounts,
    )  # fmt: skip
    await apply(
        client,
        pod(
            "ordered",
            namespace,
            container(volumeMounts=mounts),
            initContainers=[first, second_fails_once],
            volumes=[{"name": "work", "emptyDir": {}}],
        ),
    )
    [up] = await until(client, namespace, count_running(1))
    assert [s.restart_count for s in up.status.init_container_statuses] == [0, 1]
    _, out = await run_in(client, namespace, "ordered", "cat", "/work/log")
    assert out.split() == ["one", "two", "two"]


async def test_environment_arguments_and_working_directory(client: Client, namespace: str) -> None:
    def field(path: str) -> dict[str, Any]:
        return {"fieldRef": {"fieldPath": path}}

    env = [
        {"name": "NAME", "valueFrom": field("metadata.name")},
        {"name": "NODE", "valueFrom": field("spec.nodeName")},
        {"name": "ADDRESS", "valueFrom": field("status.podIP")},
        {"name": "GREETING", "value": "hello $(NAME) $$(NAME) $(NOBODY)"},
    ]
    say = container(
        command=["sh", "-c", 'echo "$@"; echo "$GREETING $NODE $ADDRESS"; pwd', "sh"],
        args=["$(NAME)"],
        env=env,
        workingDir="/tmp",
    )
    await apply(client, pod("env", namespace, say, restartPolicy="Never"))
    [done] = await until(client, namespace, phase("Succeeded"))
    async with await client.logs(namespace, wire.LogsRequest(name="env")) as session:
        text = b"".join([c.data async for c in session]).decode()
    assert text.splitlines() == [
        "env",
        f"hello env $(NAME) $(NOBODY) {done.spec.node_name} {done.status.pod_ip}",
        "/tmp",
    ]


async def test_a_pod_that_never_restarts_ends_with_its_exit_code(client: Client, namespace: str) -> None:
    await apply(client, pod("fails", namespace, container(command=["sh", "-c", "exit 7"]), restartPolicy="Never"))
    [failed] = await until(client, namespace, phase("Failed"))
    ended = failed.status.container_statuses[0].state.terminated
    assert ended is not None
    assert (ended.exit_code, ended.reason) == (7, "Error")


async def test_a_crashing_container_restarts_at_once_first_and_then_backs_off(client: Client, namespace: str) -> None:
    await apply(client, pod("crash", namespace, container(command=["sh", "-c", "echo last words; exit 1"])))
    [waits] = await until(client, namespace, waiting("CrashLoopBackOff"))
    status = waits.status.container_statuses[0]
    assert status.restart_count >= 1
    assert status.last_state.terminated is not None
    assert status.last_state.terminated.exit_code == 1
    assert "back-off" in status.state.waiting.message  # type: ignore[union-attr]


async def test_too_much_memory_is_oomkilled(client: Client, namespace: str) -> None:
    eat = container(command=["sh", "-c", "x=x; while :; do x=$x$x; done"], resources={"limits": {"memory": "16Mi"}})
    await apply(client, pod("hungry", namespace, eat, restartPolicy="Never"))
    [dead] = await until(client, namespace, phase("Failed"))
    ended = dead.status.container_statuses[0].state.terminated
    assert ended is not None
    assert ended.reason == "OOMKilled"


async def test_a_missing_image_says_so_and_holds_nothing_else_up(client: Client, namespace: str) -> None:
    await apply(
        client,
        pod("missing", namespace, container(image="shoal/never-made:1", imagePullPolicy="Never")),
        pod("fine", namespace),
    )
    up = await until(
        client, namespace, lambda ps: waiting("ErrImageNeverPull")(ps) and any(p.status.phase == "Running" for p in ps)
    )
    assert {p.metadata.name: p.status.phase for p in up} == {"missing": "Pending", "fine": "Running"}


async def test_termination_gives_its_grace_and_no_more(client: Client, namespace: str, docker: Docker) -> None:
    stubborn = container(command=["sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    await apply(client, pod("stubborn", namespace, stubborn, terminationGracePeriodSeconds=2))
    [up] = await until(client, namespace, count_running(1))
    began = asyncio.get_running_loop().time()
    await client.delete("pods", namespace, wire.DeleteRequest(name="stubborn"))
    await until(client, namespace, lambda ps: not ps)
    took = asyncio.get_running_loop().time() - began
    assert 2 <= took < 2 + 5  # the grace period, and 5 s of slack on a busy machine
    assert not await containers_of(await docker(up.spec.node_name), namespace)


async def test_a_host_port_leads_to_the_pod_and_host_network_is_the_hosts(
    lab: Lab, client: Client, namespace: str
) -> None:
    web = container(
        "web",
        image="shoal/web",
        command=["httpd", "-f", "-p", "8080", "-h", "/www"],
        ports=[{"containerPort": 8080, "hostPort": 18080}],
    )
    here, there = lab.hosts[:2]
    select = {"kubernetes.io/hostname": here}
    await apply(
        client,
        pod("port", namespace, web, nodeSelector=select),
        pod("host", namespace, hostNetwork=True, nodeSelector=select),
    )
    up = {p.metadata.name: p for p in await until(client, namespace, count_running(2))}
    assert up["host"].status.pod_ip == up["host"].status.host_ip == lab.address(here)

    ask = "printf 'GET /cgi-bin/index.cgi HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 5 {} 18080"
    assert "hello from port" in await lab.run(there, "sh", "-c", ask.format(lab.address(here)))  # from another host
    code, out = await run_in(client, namespace, "host", "ip", "-o", "addr")
    assert code == 0
    assert lab.address(here) in out


async def test_two_pods_that_want_one_host_port_are_placed_apart_and_one_too_many_says_why(
    lab: Lab, client: Client, namespace: str
) -> None:
    ports = [{"containerPort": 80, "hostPort": 18090}]
    many = [pod(f"p{i}", namespace, container(ports=ports)) for i in range(len(lab.hosts) + 1)]
    await apply(client, *many)

    def settled(ps: list[Pod]) -> bool:
        return sum(p.status.phase == "Running" for p in ps) == len(lab.hosts) and any(
            c.type == "PodScheduled" and c.status == "False" for p in ps for c in p.status.conditions
        )

    up = await until(client, namespace, settled)
    assert {p.spec.node_name for p in up if p.status.phase == "Running"} == set(lab.hosts)
    [left] = [p for p in up if not p.spec.node_name]
    [why] = [c for c in left.status.conditions if c.type == "PodScheduled"]
    assert why.reason == "Unschedulable"
    assert why.message.startswith("0/3 nodes are available: 3 node(s) didn't have free ports")

    await client.delete(
        "pods", namespace, wire.DeleteRequest(name=next(p.metadata.name for p in up if p.spec.node_name))
    )
    await until(client, namespace, count_running(len(lab.hosts)))  # the one left is placed as soon as a port is free


async def test_a_sandbox_that_dies_takes_its_pod_along_and_both_are_back(
    client: Client, namespace: str, docker: Docker
) -> None:
    await apply(client, pod("boxed", namespace))
    [before] = await until(client, namespace, count_running(1))
    engine = await docker(before.spec.node_name)
    [sandbox] = [c for c in await containers_of(engine, namespace) if c["Image"].startswith("shoal/sandbox")]
    await engine.containers.container(sandbox["Id"]).kill(signal="KILL")
    [after] = await until(
        client, namespace, lambda ps: count_running(1)(ps) and ps[0].status.container_statuses[0].restart_count >= 1
    )
    assert after.metadata.uid == before.metadata.uid
    code, out = await run_in(client, namespace, "boxed", "ip", "-o", "-4", "addr")
    assert code == 0
    assert after.status.pod_ip in out


async def test_exec_passes_input_exit_code_and_terminal(client: Client, namespace: str) -> None:
    # An engine of 20.10 takes a terminal's size only once the process runs, so that the process may be there first.
    resized = "until stty size 2>/dev/null | grep -q '11 77'; do sleep 0.1; done; stty size; tty"
    await apply(client, pod("shell", namespace))
    await until(client, namespace, count_running(1))

    request = wire.ExecRequest(name="shell", command=["sh", "-c", "cat; exit 5"], stdin=True)
    async with await client.exec(namespace, request) as session:
        session.write(b"to be echoed")
        session.close_stdin()
        out = b"".join([c.data async for c in session])
    assert (out, session.exit_code) == (b"to be echoed", 5)

    request = wire.ExecRequest(name="shell", command=["sh", "-c", resized], tty=True, stdin=True, width=77, height=11)
    async with await client.exec(namespace, request) as session:
        text = b"".join([c.data async for c in session]).decode()
    assert "11 77" in text
    assert "/dev/pts/" in text or "/dev/console" in text


async def test_a_client_that_dies_leaves_no_process_behind(
    client: Client, namespace: str, docker: Docker, lab: Lab
) -> None:
    await apply(client, pod("shell", namespace))
    [up] = await until(client, namespace, count_running(1))
    session = await client.exec(namespace, wire.ExecRequest(name="shell", command=["sleep", "86399"]))
    listing = ("sh", "-c", "ps | grep -c '[s]leep 86399'")

    async def sleepers() -> str:
        return (await run_in(client, namespace, "shell", *listing))[1].strip()

    await eventually(sleepers, "1")
    del session  # nobody pulls any more: a session ends 30 s after its last request
    await eventually(sleepers, "0", patience_s=30 + 15, every_s=1)
    assert up.spec.node_name


@pytest.mark.timeout(240)
async def test_a_log_of_a_gibibyte_passes_in_bounded_memory(lab: Lab, client: Client, namespace: str) -> None:
    line = "x" * 1022
    lines = 1 << 20
    writer = container(command=["sh", "-c", f"yes {line} | head -n {lines}"])
    await apply(client, pod("talker", namespace, writer, restartPolicy="Never"))
    [up] = await until(client, namespace, phase("Succeeded"), patience_s=120)
    agent = await lab.pid(f"{up.spec.node_name}/agent")

    def resident_mib() -> float:
        with open(f"/proc/{agent}/status") as file:  # noqa: PTH123
            return next(int(row.split()[1]) / 1024 for row in file if row.startswith("VmRSS"))

    before, peak, size = resident_mib(), 0.0, 0
    async with await client.logs(namespace, wire.LogsRequest(name="talker")) as session:
        async for chunk in session:
            if (size >> 26) != ((size + len(chunk.data)) >> 26):  # each 64 MiB
                peak = max(peak, resident_mib())
            size += len(chunk.data)
    assert size == lines * (len(line) + 1)
    assert peak < before + 48


async def test_logs_follow_tail_previous_and_timestamps(client: Client, namespace: str) -> None:
    once = "test -e /work/again || { touch /work/again; echo first life; exit 1; }; "
    talk = container(
        command=["sh", "-c", once + "for i in 1 2 3; do echo line $i; done; exec sleep 3600"],
        volumeMounts=[{"name": "work", "mountPath": "/work"}],
    )
    await apply(client, pod("talker", namespace, talk, volumes=[{"name": "work", "emptyDir": {}}]))
    await until(
        client, namespace, lambda ps: count_running(1)(ps) and ps[0].status.container_statuses[0].restart_count == 1
    )

    async def read(**options: Any) -> list[str]:
        async with await client.logs(namespace, wire.LogsRequest(name="talker", **options)) as session:
            return b"".join([c.data async for c in session]).decode().splitlines()

    await eventually(read, ["line 1", "line 2", "line 3"])
    assert await read(tail_lines=1) == ["line 3"]
    assert await read(previous=True) == ["first life"]
    [stamped] = await read(tail_lines=1, timestamps=True)
    assert stamped.endswith("Z line 3")

    followed = []
    async with (
        await client.logs(namespace, wire.LogsRequest(name="talker", follow=True)) as session,
        asyncio.timeout(20),
    ):
        async for chunk in session:
            followed += chunk.data.decode().splitlines()
            if "line 3" in followed:
                break
    assert followed == ["line 1", "line 2", "line 3"]


async def test_security_context_reaches_the_engine(client: Client, namespace: str) -> None:
    context = {
        "runAsUser": 1000,
        "runAsGroup": 2000,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "allowPrivilegeEscalation": False,
    }
    show = "id -u; id -g; touch /file 2>/dev/null || echo read-only; grep -E 'CapEff|NoNewPrivs' /proc/self/status"
    await apply(client, pod("plain", namespace, container(securityContext=context)))
    await until(client, namespace, count_running(1))
    code, out = await run_in(client, namespace, "plain", "sh", "-c", show)
    assert code == 0
    assert out.split() == ["1000", "2000", "read-only", "CapEff:", "0000000000000000", "NoNewPrivs:", "1"]


async def test_each_of_two_broken_images_is_told_of(client: Client, namespace: str) -> None:
    """By events of its own, and by whoever asks for its log."""
    broken = [container(name, image=f"127.0.0.1:1/{name}:1", imagePullPolicy="IfNotPresent") for name in ("a", "b")]
    await apply(client, pod("broken", namespace, *broken))
    failed = {"ErrImagePull", "ImagePullBackOff"}
    await until(
        client,
        namespace,
        lambda ps: any(
            [s.state.waiting.reason in failed for s in p.status.container_statuses if s.state.waiting] == [True, True]
            for p in ps
        ),
    )

    paths = ("spec.containers{a}", "spec.containers{b}")
    words = ("Failed to pull image", "Error: ErrImagePull")

    async def told() -> dict[str, int]:
        found = await client.events(namespace, wire.EventsRequest(resource="pods", name="broken"))
        return {
            f"{path} {word}": sum(e.involved_object.field_path == path and word in e.message for e in found)
            for path in paths
            for word in words
        }

    await eventually(told, {f"{path} {word}": 1 for path in paths for word in words})
    for name in ("a", "b"):
        with pytest.raises(BadRequest, match=rf'"{name}" in pod "broken" is waiting to start: .*pull'):
            await client.logs(namespace, wire.LogsRequest(name="broken", container=name))


async def test_volumes_in_memory_and_from_the_host(lab: Lab, client: Client, namespace: str) -> None:
    host = lab.hosts[0]
    volumes = [
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}},
        {"name": "host", "hostPath": {"path": f"/run/{namespace}", "type": "DirectoryOrCreate"}},
    ]
    mounts = [{"name": "memory", "mountPath": "/memory"}, {"name": "host", "mountPath": "/host"}]
    await apply(
        client,
        pod(
            "disk",
            namespace,
            container(volumeMounts=mounts),
            volumes=volumes,
            nodeSelector={"kubernetes.io/hostname": host},
        ),
    )
    await until(client, namespace, count_running(1))
    code, out = await run_in(
        client,
        namespace,
        "disk",
        "sh",
        "-c",
        "echo hi > /host/file; df -k /memory | tail -1; grep ' /memory ' /proc/mounts",
    )
    assert code == 0
    assert "4096" in out
    assert "tmpfs" in out
    assert (await lab.run(host, "cat", f"/run/{namespace}/file")).strip() == "hi"


async def test_the_fallback_sandbox_runs_pods_on_the_engines_own_network(
    lab: Lab, client: Client, namespace: str
) -> None:
    host = lab.hosts[-1]
    # What runs keeps its kind of sandbox: the setting waits for the last pod of the tests before.
    await until(client, None, lambda ps: all(p.spec.node_name != host for p in ps), patience_s=60)
    await lab.restart(host, "agent", env={"SHOAL_SANDBOX": "engine"})
    try:
        node = msgspec.json.decode(await client.get("nodes", "", host))
        assert "engine" in msgspec.json.encode(node["status"]["nodeInfo"]).decode() or "engine" in str(
            node["metadata"].get("annotations")
        )
        select = {"kubernetes.io/hostname": host}
        server = container("server", command=["httpd", "-f", "-p", "127.0.0.1:9999", "-h", "/"])
        await apply(client, pod("fallback", namespace, server, container("asker"), nodeSelector=select))
        [up] = await until(client, namespace, count_running(1))
        assert up.status.pod_ip
        ask = "printf 'GET /etc/hostname HTTP/1.0\\r\\n\\r\\n' | nc 127.0.0.1 9999; hostname"
        code, out = await run_in(client, namespace, "fallback", "sh", "-c", ask, container="asker")
        assert code == 0
        assert "fallback" in out
        await client.delete("pods", namespace, wire.DeleteRequest(name="fallback"))
        await until(client, namespace, lambda ps: not ps)
    finally:
        await lab.restart(host, "agent", env={})
