"""A whole agent on a real engine, told by a real api: what it makes, what it adopts, and what it never touches."""

import json
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.integration.node_agent.conftest import Agent, ready, until
from tests.integration.node_agent.host import IMAGE, EngineHost

from shoal import names
from shoal.model.node import NodeStatus
from shoal.model.pod import Pod, PodStatus
from shoal.node_agent.runtime.engine import Engine
from shoal.node_agent.runtime.ownership import Owner, labels_of
from shoal.node_agent.runtime.port import Labels

pytestmark = pytest.mark.e2e

SLEEP = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"


def a_pod(name: str = "web", uid: str = "", **spec: Any) -> Pod:
    """Filled as the api fills it, as far as the agent reads it."""
    containers = spec.pop("containers", [{"name": "web", "command": ["sh", "-c", SLEEP]}])
    filled = [
        {"image": IMAGE, "imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log"} | c
        for c in containers
    ]
    content = {
        "metadata": {"name": name, "namespace": "default", "uid": uid or f"uid-{name}"},
        "spec": {"nodeName": "n1", "restartPolicy": "Always", "containers": filled} | spec,
    }
    return msgspec.convert(content, Pod)


def http(port: int) -> str:
    return f"mkdir -p /www; echo hello > /www/index.html; httpd -f -p {port} -h /www & {SLEEP}"


async def answers(host: EngineHost, where: str) -> bool:
    """Once its web server listens, which is a moment after its container runs."""

    async def look() -> bool:
        return host.run("busybox", "wget", "-qO-", f"http://{where}/", check=False) == "hello\n"

    await until(look, within=20)
    return True


async def test_a_pod_runs_and_ends_without_a_trace(agent: Agent, host: EngineHost) -> None:
    memory = {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    pod = a_pod(
        containers=[
            {
                "name": "web",
                "command": ["sh", "-c", http(80)],
                "ports": [{"containerPort": 80, "hostPort": 8080, "protocol": "TCP"}],
                "volumeMounts": [{"name": "memory", "mountPath": "/m"}],
            }
        ],
        volumes=[memory],
    )
    await agent.bind(pod)
    status = await agent.status(pod, ready)
    assert status.pod_ip.startswith("10.208.")
    assert await answers(host, status.pod_ip)
    for address in ("127.0.0.1", host.address):
        assert await answers(host, f"{address}:8080"), "by the host's port"
    (web,) = host.containers(container_name="web")
    assert "tmpfs" in host.run("grep", str(agent.state), "/proc/mounts")
    await agent.delete(pod, grace=5)
    await agent.gone(pod)
    assert host.containers(pod_name="web") == {}
    assert web
    assert "sv" not in host.run("ip", "-br", "link")
    assert "dport 8080" not in host.run("nft", "list", "ruleset")
    assert str(agent.state) not in host.run("cat", "/proc/mounts")
    assert list((agent.state / "pods").iterdir()) == []
    assert json.loads((agent.state / "addresses.json").read_text())["pods"] == {}


async def test_the_node_says_what_it_is(agent: Agent) -> None:
    async def reported() -> bool:
        return await agent.observed(agent.node) is not None

    await until(reported)
    seen = await agent.observed(agent.node)
    assert seen is not None
    status = msgspec.json.decode(seen.status, type=NodeStatus)
    assert {c.type: c.status for c in status.conditions}["Ready"] == "True"
    assert status.node_info is not None
    assert status.node_info.sandbox == "fast"
    assert status.node_info.container_runtime_version.startswith("docker://20.")
    assert int(status.capacity["cpu"]) > 0
    labels = (await agent.node_record()).metadata.labels
    assert labels["kubernetes.io/os"] == "linux"
    assert labels["kubernetes.io/hostname"] == "n1"


async def test_an_agent_killed_and_back_restarts_nothing_and_ports_stay_open(agent: Agent, host: EngineHost) -> None:
    ports = [{"containerPort": 80, "hostPort": 8080, "protocol": "TCP"}]
    pod = a_pod(containers=[{"name": "web", "command": ["sh", "-c", http(80)], "ports": ports}])
    await agent.bind(pod)
    await agent.status(pod, ready)
    (web,) = host.containers(container_name="web")
    host.engine("POST", f"/containers/{web}/kill")
    await agent.status(pod, lambda s: ready(s) and s.container_statuses[0].restart_count == 1)
    assert await answers(host, f"{host.address}:8080")
    before = host.containers(pod_name="web")
    agent.end(signal.SIGKILL)
    assert host.run("busybox", "wget", "-qO-", f"http://{host.address}:8080/") == "hello\n"
    await agent.start()
    assert host.run("busybox", "wget", "-qO-", f"http://{host.address}:8080/") == "hello\n"
    status = await agent.status(pod, ready)
    assert status.container_statuses[0].restart_count == 1, "counted on"
    assert host.containers(pod_name="web") == before, "the very same containers"


async def test_an_agent_that_is_back_tells_of_a_finished_pod_what_it_told_before(agent: Agent) -> None:
    say = "echo bye > /dev/termination-log; exit 3"
    pod = a_pod(containers=[{"name": "web", "command": ["sh", "-c", say]}], restartPolicy="Never")
    marker = a_pod("marker")
    await agent.bind(pod)
    await agent.bind(marker)

    def done(status: PodStatus) -> bool:
        ended = status.container_statuses[0].state.terminated
        return status.phase == "Failed" and ended is not None and ended.message == "bye\n"

    await agent.status(pod, done)
    await agent.status(marker, ready)

    async def released() -> bool:
        return pod.metadata.uid not in json.loads((agent.state / "addresses.json").read_text())["pods"]

    await until(released)
    before = await agent.status(pod, done)
    assert before.pod_ip
    agent.end(signal.SIGKILL)
    await agent.start()
    again = a_pod("again")  # once this one runs, what the agent had to say about the others it has said
    await agent.bind(again)
    await agent.status(again, ready)
    assert await agent.status(pod, done) == before


async def test_what_vanished_while_the_agent_was_away_goes_and_what_died_is_back(
    agent: Agent, host: EngineHost
) -> None:
    unwanted, wanted = a_pod("unwanted"), a_pod("wanted")
    for pod in (unwanted, wanted):
        await agent.bind(pod)
    for pod in (unwanted, wanted):
        await agent.status(pod, ready)
    agent.end(signal.SIGKILL)
    await agent.erase(unwanted)
    for container in host.containers(pod_name="wanted", container_name="web"):
        host.engine("POST", f"/containers/{container}/kill")
    await agent.start()
    await agent.status(wanted, lambda s: ready(s) and s.container_statuses[0].restart_count == 1)

    async def no_more() -> bool:
        return host.containers(pod_name="unwanted") == {}

    await until(no_more)


async def test_containers_of_others_are_never_touched(agent: Agent, host: EngineHost) -> None:
    """Another node's, another cluster's, and one with half of our labels."""
    registered = json.loads((agent.state / "registration.json").read_text())
    mine = registered["clusterUid"]
    made = []
    for number, owner in enumerate((Owner(mine, "n2"), Owner("another", "n1"), Owner("", "n1"))):
        engine = Engine(host.docker_host, owner)
        labels = labels_of(Labels(uid=f"u{number}", namespace="default", pod="stranger"), owner)
        body = {"Image": IMAGE, "Cmd": ["sleep", "1000"], "Labels": labels, "HostConfig": {"NetworkMode": "none"}}
        made.append(await engine.create(f"shag-stranger-{number}", body))
        await engine.start(made[-1])
        await engine.close()
    try:
        agent.end(signal.SIGKILL)
        await agent.start()
        marker = a_pod("marker")  # once this one runs, what the agent had to say about strangers it has said
        await agent.bind(marker)
        await agent.status(marker, ready)
        agent.end()
        agent.clean()
        assert {c: s for c, s in host.containers(pod_name="stranger").items() if s == "running"} == dict.fromkeys(
            made, "running"
        )
    finally:
        for container in made:
            host.engine("DELETE", f"/containers/{container}?force=1")


async def test_pods_come_back_after_their_engine_crashed(agent: Agent, host: EngineHost) -> None:
    pod = a_pod()
    await agent.bind(pod)
    before = await agent.status(pod, ready)
    host.stop_engine(signal.SIGKILL)
    host.start_engine()
    after = await agent.status(pod, lambda s: ready(s) and s.container_statuses[0].restart_count == 1)
    assert after.pod_ip == before.pod_ip, "a pod keeps its address"
    reached = host.run("busybox", "ping", "-c", "1", "-W", "5", after.pod_ip)
    assert "1 packets received" in reached


async def test_images_that_cannot_be_had_hold_nobody_up(agent: Agent) -> None:
    missing = a_pod("missing", containers=[{"name": "web", "image": "127.0.0.1:1/none:1"}])
    never = a_pod("never", containers=[{"name": "web", "image": "shoal/none", "imagePullPolicy": "Never"}])
    fine = a_pod("fine")
    for pod in (missing, never, fine):
        await agent.bind(pod)

    def waits(*reasons: str) -> Any:
        def look(status: PodStatus) -> bool:
            state = status.container_statuses[0].state.waiting
            return state is not None and state.reason in reasons

        return look

    await agent.status(fine, ready)
    await agent.status(missing, waits("ErrImagePull", "ImagePullBackOff"))
    await agent.status(never, waits("ErrImageNeverPull"))


async def test_the_engines_own_network_where_the_fast_way_is_not_wanted(agent: Agent, host: EngineHost) -> None:
    agent.end()
    await agent.start(SHOAL_SANDBOX="engine")
    assert "SHOAL_SANDBOX says engine" in agent.log.read_text()
    pod = a_pod(
        containers=[
            {
                "name": "web",
                "command": ["sh", "-c", http(80)],
                "ports": [{"containerPort": 80, "hostPort": 8081, "protocol": "TCP"}],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            },
            {"name": "side", "command": ["sh", "-c", SLEEP], "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        ],
        volumes=[{"name": "v", "emptyDir": {}}],
        hostAliases=[{"ip": "192.0.2.7", "hostnames": ["alias"]}],
    )
    await agent.bind(pod)
    status = await agent.status(pod, ready)
    assert await answers(host, f"{host.address}:8081")
    assert status.pod_ip.startswith("10.208.")
    engine = Engine(host.docker_host, Owner("", ""))
    (side,) = host.containers(container_name="side")
    check = f"ip -4 addr show eth0 | grep -q {status.pod_ip} && grep -q alias /etc/hosts && touch /v/x"
    terminal = await engine.exec(side, ["sh", "-c", check], stdin=False, tty=False)
    while await terminal.read() is not None:
        pass
    assert await terminal.exit_code() == 0
    await terminal.close()
    await engine.close()
    await agent.delete(pod)
    await agent.gone(pod)
    assert json.loads(host.engine("GET", "/volumes"))["Volumes"] == []


async def test_termination_messages_where_the_network_is_the_engines(agent: Agent, host: EngineHost) -> None:
    """And all else that is made of files, while the engine sees the agent's: a subPath of a volume."""
    agent.end()
    await agent.start(SHOAL_SANDBOX="engine")
    fails = "echo in the log; exit 3"
    mounts = [{"name": "v", "mountPath": "/v", "subPath": "below"}]
    pod = a_pod(
        containers=[
            {"name": "file", "command": ["sh", "-c", "echo -n in the file > /dev/termination-log; exit 3"]},
            {"name": "own", "command": ["sh", "-c", "echo -n own > /v/x; cp /v/x /end; exit 3"], "volumeMounts": mounts}
            | {"terminationMessagePath": "/end"},
            {"name": "log", "command": ["sh", "-c", fails], "terminationMessagePolicy": "FallbackToLogsOnError"},
            {"name": "none", "command": ["sh", "-c", fails]},
        ],
        volumes=[{"name": "v", "emptyDir": {}}],
        restartPolicy="Never",
    )
    await agent.bind(pod)

    def told(status: PodStatus) -> bool:
        ended = {c.name: c.state.terminated for c in status.container_statuses if c.state.terminated is not None}
        words = {"file": "in the file", "own": "own", "log": "in the log\n", "none": ""}
        return {name: e.message for name, e in ended.items()} == words

    await agent.status(pod, told)
    await agent.delete(pod)
    await agent.gone(pod)


@pytest.mark.parametrize(("first", "then"), [("fast", "engine"), ("engine", "fast")])
async def test_another_setting_waits_until_no_pod_runs(agent: Agent, host: EngineHost, first: str, then: str) -> None:
    agent.end()
    await agent.start(SHOAL_SANDBOX=first)
    old, new = (a_pod(name, containers=[{"name": "web", "command": ["sh", "-c", http(80)]}]) for name in ("old", "new"))
    await agent.bind(old)
    before = await agent.status(old, ready)
    containers = host.containers(pod_name="old")
    agent.end()
    await agent.start(SHOAL_SANDBOX=then)
    await agent.bind(new)
    after = await agent.status(new, ready)
    assert host.containers(pod_name="old") == containers, "the very same containers"
    for address in (before.pod_ip, after.pod_ip):
        assert await answers(host, address)
    assert f"pods run in the {first} sandbox" in agent.log.read_text()
    for pod in (old, new):
        await agent.delete(pod)
    for pod in (old, new):
        await agent.gone(pod)
    agent.end()
    await agent.start(SHOAL_SANDBOX=then)
    third = a_pod("third", containers=[{"name": "web", "command": ["sh", "-c", http(80)]}])
    await agent.bind(third)
    assert await answers(host, (await agent.status(third, ready)).pod_ip)
    seen = await agent.observed(agent.node)
    assert seen is not None
    info = msgspec.json.decode(seen.status, type=NodeStatus).node_info
    assert info is not None
    assert info.sandbox == then


async def test_a_pod_of_the_same_name_is_another_pod(agent: Agent, host: EngineHost) -> None:
    """Its record was replaced while the first one ran: the first goes, the second comes."""
    first, second = a_pod(uid="uid-first"), a_pod(uid="uid-second")
    await agent.bind(first)
    await agent.status(first, ready)
    await agent.bind(second)
    await agent.status(second, ready)

    async def alone() -> bool:
        return host.containers(pod_uid="uid-first") == {}

    await until(alone)


async def test_another_image_replaces_the_container_alone(agent: Agent, host: EngineHost) -> None:
    pod = a_pod(
        containers=[{"name": "web", "command": ["sh", "-c", SLEEP]}, {"name": "side", "command": ["sh", "-c", SLEEP]}]
    )
    await agent.bind(pod)
    await agent.status(pod, ready)
    (side,) = host.containers(container_name="side")
    web, other = pod.spec.containers
    changed = (msgspec.structs.replace(web, image=f"{IMAGE}:latest"), other)
    await agent.bind(msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, containers=changed)))
    await agent.status(pod, lambda s: ready(s) and s.container_statuses[0].restart_count == 1)
    assert host.containers(container_name="side") == {side: "running"}


async def test_sigterm_is_a_clean_stop_that_stops_no_pod(agent: Agent, host: EngineHost) -> None:
    pod = a_pod()
    await agent.bind(pod)
    await agent.status(pod, ready)
    running = host.containers(pod_name="web")
    assert agent.end() == 0
    assert host.containers(pod_name="web") == running
    assert Path(agent.state / "host-uid").exists()
    entry = await agent.store.get(names.desired(agent.node))
    assert entry is not None, "the node stays registered"
