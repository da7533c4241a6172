"""compose.yaml: read by Debian's docker-compose, its image built, the cluster run for real, and a manifest run by it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.e2e.composed import bases
from tests.e2e.composed.host import Host, host
from tests.e2e.composed.waiting import until
from tests.e2e.conftest import require_lab
from tests.e2e.tracing.jaeger import jaeger_path, spans_of
from tests.e2e.tracing.shape import faults

from shoal.local import images

pytestmark = [pytest.mark.xdist_group("compose"), pytest.mark.timeout(420)]
ROOT = bases.ROOT
SERVICES = {"nats", "jaeger", "api", "scheduler", "replica-controller", "service-proxy", "node-agent"}
PROJECT = "shoaltest"

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: composed}
spec:
  terminationGracePeriodSeconds: 0
  volumes:
    - {name: host, hostPath: {path: HOST_PATH, type: DirectoryOrCreate}}
    - {name: memory, emptyDir: {medium: Memory}}
  containers:
    - name: main
      image: shoal/busybox
      imagePullPolicy: Never
      command: [sh, -c, "grep -c 'tmpfs /memory' /proc/mounts > /host/said; echo it runs; exec sleep 1000"]
      volumeMounts: [{name: host, mountPath: /host}, {name: memory, mountPath: /memory}]
"""
PUBLISH = """
import asyncio, sys, nats
async def main():
    async with await nats.connect("nats://127.0.0.1:4222") as nc:
        print((await nc.jetstream().publish("shoal.manifests.admin._", sys.stdin.buffer.read())).seq)
asyncio.run(main())
"""
GET = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"

Compose = Callable[..., str]


def require(*programs: str) -> None:
    if lacking := [p for p in programs if shutil.which(p) is None]:
        pytest.skip(f"{', '.join(lacking)} is not there")


def config() -> dict[str, Any]:
    import yaml

    done = subprocess.run(
        ["docker-compose", "-f", str(ROOT / "compose.yaml"), "config"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = yaml.safe_load(done.stdout)
    return read


def test_debians_docker_compose_reads_it() -> None:
    require("docker-compose")
    services = config()["services"]
    assert set(services) == SERVICES
    for name in ("api", "scheduler", "replica-controller"):
        assert services[name]["user"] == "10001:10001"
        assert services[name]["cap_drop"] == ["ALL"]
        assert not services[name].get("privileged")
        assert "volumes" not in services[name]
        assert "network_mode" not in services[name]
    for name in ("node-agent", "service-proxy"):
        assert services[name]["network_mode"] == services[name]["pid"] == "host"
        assert any(str(v).startswith("/var/lib/shoal") and "shared" in str(v) for v in services[name]["volumes"])


def test_nothing_is_published_beyond_loopback_and_every_image_is_pinned() -> None:
    require("docker-compose")
    services = config()["services"]
    for name, service in services.items():
        for port in service.get("ports", ()):
            assert str(port).startswith("127.0.0.1:"), f"{name} publishes {port}"
        tag = service["image"].rpartition(":")[2]
        assert tag != "latest", name
        assert tag[0].isdigit(), name
    assert "sync_interval: always" in (ROOT / "deploy/nats-server.conf").read_text()


@pytest.fixture(scope="module")
def composed_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    require_lab()
    require("docker-compose", "docker", "debootstrap", "iptables")
    with host(tmp_path_factory.mktemp("composed")) as made:
        bases.make_all(made.engine)
        images.build(made.engine)
        yield made


@pytest.fixture(scope="module")
def compose(composed_host: Host) -> Iterator[Compose]:
    """`compose("ps")`, after the image was built and everything was started."""

    def call(*arguments: str, timeout_s: float = 240.0) -> str:
        command = ["docker-compose", "-p", PROJECT, "-f", str(ROOT / "compose.yaml"), *arguments]
        done = subprocess.run(
            command, env=composed_host.env, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert done.returncode == 0, f"{' '.join(arguments)}: {(done.stdout + done.stderr)[-4000:]}"
        return done.stdout

    try:
        call("build", "api")
    except AssertionError:  # it fetches packages: once more if the network failed
        call("build", "api")
    try:
        call("up", "-d", "--no-build")
        yield call
    finally:
        call("down", "-v", "-t", "10")


def labelled(host_: Host, **labels: str) -> list[dict[str, Any]]:
    filters = msgspec.json.encode({"label": [f"{k}={v}" for k, v in labels.items()]}).decode()
    found: list[dict[str, Any]] = host_.engine.call(
        "GET", "/containers/json", query=[("all", "1"), ("filters", filters)]
    )
    return found


def asked(compose: Compose, *arguments: str) -> str:
    """What `shoal` says inside; "" as long as nothing answers."""
    with suppress(AssertionError):
        return compose("exec", "-T", "api", "shoal", *arguments)
    return ""


def test_a_manifest_published_into_it_runs(composed_host: Host, compose: Compose, tmp_path: Path) -> None:
    run = composed_host.call
    until(lambda: " Ready " in asked(compose, "get", "nodes"), "the node", 60)

    assert int(run([sys.executable, "-c", PUBLISH], text=MANIFEST.replace("HOST_PATH", str(tmp_path / "made")))) >= 1

    def running() -> list[dict[str, Any]]:
        found = labelled(
            composed_host, **{"io.kubernetes.pod.name": "composed", "io.kubernetes.container.name": "main"}
        )
        return [c for c in found if c["State"] == "running"]

    try:
        (container,) = until(running, "the pod's container", 60)
    except AssertionError as error:
        told = asked(compose, "describe", "pod", "composed") + compose("logs", "--tail", "20", "node-agent")
        raise AssertionError(f"{error}\n{told}") from None
    assert container["Labels"]["io.kubernetes.pod.namespace"] == "default"
    assert compose("exec", "-T", "api", "shoal", "logs", "composed") == "it runs\n"
    assert (
        tmp_path / "made/said"
    ).read_text() == "1\n"  # both kinds of volume are the host's, not the agent's container's

    compose("exec", "-T", "api", "shoal", "delete", "pod", "composed")
    until(lambda: not labelled(composed_host, **{"io.kubernetes.pod.name": "composed"}), "the end of the pod", 30)


def test_its_processes_are_the_users_they_should_be(composed_host: Host, compose: Compose) -> None:
    for name, user in {"api": 10001, "scheduler": 10001, "replica-controller": 10001, "node-agent": 0}.items():
        (container,) = labelled(
            composed_host, **{"com.docker.compose.project": PROJECT, "com.docker.compose.service": name}
        )
        pid = composed_host.engine.call("GET", f"/containers/{container['Id']}/json")["State"]["Pid"]
        owner = Path(f"/proc/{pid}").stat().st_uid
        assert owner == user, name


def test_its_jaeger_has_the_trace(composed_host: Host, compose: Compose) -> None:
    if jaeger_path() is None:
        pytest.skip("there is no Jaeger: Go, which installs one, is not there")

    def queried(path: str) -> Any:
        return json.loads(composed_host.call([sys.executable, "-c", GET, f"http://127.0.0.1:16686{path}"]))["data"]

    def whole() -> bool:
        traces = [spans_of(one) for one in queried("/api/traces?service=shoal-node-agent&limit=50")]
        return any({"publish", "start"} <= {s.name for s in t} and not faults(t) for t in traces)

    until(whole, "a connected trace from publish to start", 30)
